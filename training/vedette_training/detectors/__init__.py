"""Detectors: one file for each kind of model, all of one shape.

Rules this package keeps: a library is imported where a detector of its own needs it; a detector's chance is its seed;
what it gives is raw, for calibration to map.
"""

from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from vedette.contract.features import Rows
from vedette_training.dataset import Part
from vedette_training.recipe import DetectorSpec, Lstm

RawScores = npt.NDArray[np.float32]


class Fitted(Protocol):
    """A fitted model.

    Attributes:
        original: The model in its own library, for the exporter.
        higher_is_stranger: Whether larger raw outputs are the stranger ones.
    """

    original: Any
    higher_is_stranger: bool

    def raw(self, windows: Rows) -> RawScores:
        """Raw outputs, float32 `(n,)`, for windows float32 `(n, steps, columns)`."""
        ...

    def save(self, path: Path) -> None:
        """Write the model to `path`."""
        ...


class Detector(Protocol):
    """A kind of model with its settings.

    Attributes:
        file: The name of a fitted model's file in a run.
        libraries: The distributions whose versions matter to the model.
    """

    file: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]]

    def fit(self, part: Part, seed: int) -> Fitted:
        """Learn from training windows. On a terminal a bar shows how far it is.

        Raises:
            HistoryError: the windows do not hold what the detector learns from.
        """
        ...

    def load(self, path: Path) -> Fitted:
        """Read a model that `save` wrote.

        Raises:
            BundleError: it cannot be read, or holds more than a model may.
        """
        ...


def find(spec: DetectorSpec) -> Detector:
    """The detector that a recipe asks for."""
    if isinstance(spec, Lstm):
        from vedette_training.detectors.lstm import LstmDetector

        return LstmDetector(spec)
    from vedette_training.detectors.isolation_forest import ForestDetector

    return ForestDetector(spec)
