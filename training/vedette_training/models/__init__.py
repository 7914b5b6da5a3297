"""Fitted models as stages of a score: the original library behind the gateway's own `Runtime` protocol.

The gateway's Scorer runs them, so that calibrating, combining and feeding one stage from another is the same code on the workstation
and on the gateway. Rules this package keeps: a model file is data, never a pickle; a library is imported only where a model needs it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from vedette.contract.errors import BundleError
from vedette.contract.features import Rows


class Model(Protocol):
    """A fitted model in its own library; also a `Runtime`.

    Attributes:
        suffix: Of its file.
        libraries: The distributions whose versions matter to it.
        original: The library's own object, for the exporter.
    """

    suffix: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]]
    original: Any

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        """Outputs by name, each with n along its first axis; of raw scores the higher is the stranger."""
        ...

    def save(self, path: Path) -> None:
        """Write the model to `path`."""
        ...


def load(path: Path) -> Model:
    """Read a model that `save` wrote.

    Raises:
        BundleError: it cannot be read, or holds more than a model may.
    """
    if path.suffix == ".keras":
        from vedette_training.models.keras_model import KerasModel

        return KerasModel.load(path)
    if path.suffix == ".skops":
        from vedette_training.models.sklearn_model import SklearnModel

        return SklearnModel.load(path)
    raise BundleError(f"{path}: expected a .keras or a .skops file")
