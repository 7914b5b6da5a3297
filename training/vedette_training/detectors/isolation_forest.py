"""An isolation forest, in scikit-learn: flattened normal windows to how hard they are to set apart."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import skops.io
from sklearn.ensemble import IsolationForest as Forest

from vedette.contract.errors import BundleError
from vedette.contract.features import Rows
from vedette_training.dataset import Part
from vedette_training.detectors import RawScores
from vedette_training.recipe import IsolationForest

# All that skops does not trust by itself and a forest is made of. The file is no pickle: nothing else is ever built
# from it.
_TRUSTED = ["sklearn.tree._tree.Tree"]


class FittedForest:
    """A fitted forest; see `Fitted`."""

    higher_is_stranger = False

    def __init__(self, original: Any) -> None:
        self.original = original

    def raw(self, windows: Rows) -> RawScores:
        """`score_samples`, float32 `(n,)`, in [-1, 0): nearer -1 is stranger."""
        scores: RawScores = self.original.score_samples(windows.reshape(len(windows), -1)).astype(np.float32)
        return scores

    def save(self, path: Path) -> None:
        """Write a skops file, which holds data only."""
        skops.io.dump(self.original, path)


class ForestDetector:
    """The forest that a recipe describes; see `Detector`."""

    file: ClassVar[str] = "model.skops"
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn", "skops")

    def __init__(self, spec: IsolationForest) -> None:
        self._spec = spec

    def fit(self, part: Part, seed: int) -> FittedForest:
        """Fit on the normal windows; they are few seconds' work, so no bar."""
        forest = Forest(n_estimators=self._spec.trees, max_samples=min(self._spec.max_samples, len(part.normal)), random_state=seed)
        return FittedForest(forest.fit(part.normal.reshape(len(part.normal), -1)))

    def load(self, path: Path) -> FittedForest:
        """Read a skops file that holds a forest and nothing else."""
        try:
            return FittedForest(skops.io.load(path, trusted=_TRUSTED))
        except Exception as error:  # because skops lets through whatever zip, JSON and numpy raise
            raise BundleError(f"{path}: not a forest that can be read: {error}") from error
