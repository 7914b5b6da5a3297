"""scikit-learn's way: estimators with `score_samples`, the lower the stranger, as its own outlier detectors have it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import skops.io

from vedette.contract.errors import BundleError
from vedette.contract.features import Rows

OUTPUT = "strangeness"

# All that skops does not trust by itself and estimators here are made of. The file is no pickle: nothing else is ever built from it.
_TRUSTED = "sklearn.tree._tree.Tree"
_OURS = "vedette_training.detectors."


class SklearnModel:
    """An estimator, or a pipeline that ends with one; see `Model`."""

    suffix: ClassVar[str] = ".skops"
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn", "skops")

    def __init__(self, original: Any) -> None:
        self.original = original

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        """`strangeness`, float32 `(n,)`, which is `score_samples` negated, for inputs float32 `(n, width)`."""
        return {OUTPUT: (-self.original.score_samples(windows)).astype(np.float32)}

    def save(self, path: Path) -> None:
        """Write a skops file, which holds data only."""
        skops.io.dump(self.original, path)

    @classmethod
    def load(cls, path: Path) -> "SklearnModel":
        """Read a skops file that holds an estimator of ours and nothing else.

        Raises:
            BundleError: it cannot be read.
        """
        try:
            asked = skops.io.get_untrusted_types(file=path)
            return cls(skops.io.load(path, trusted=[name for name in asked if name == _TRUSTED or name.startswith(_OURS)]))
        except Exception as error:  # because skops lets through whatever zip, JSON and numpy raise
            raise BundleError(f"{path}: not a model that can be read: {error}") from error
