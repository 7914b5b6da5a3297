"""Principal components: how far a window is from what is usual, where its leading directions explain nothing. The baseline that a deep
model must beat.
"""

from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from vedette.contract.features import Rows
from vedette_training.detectors import Fitted, FittedStage, Settings, Workshop
from vedette_training.windows import Part

_BLOCKS = 5
_NO_VARIANCE = 1e-9


class Pca(Settings, frozen=True, kw_only=True, tag="pca"):
    """Squared distance along the minor principal axes of flattened normal windows, each in units of its own spread.

    The leading components are left out: they vary much, so little there is strange (Jackson and Mudholkar, 1979). What remains is divided
    by its variance (the Mahalanobis distance), or a direction that hardly ever moves would count no more than one that does.

    Attributes:
        components: Leading ones that are left out, at most half of the window's width. A fixed number: rules by share of variance did
            worse on every set of data that was tried.
        floor: Added to every variance, in squared standard deviations of a feature: a direction that history never moved along would
            otherwise be infinitely strange.
        drift: How much the variance between fifths of history counts besides: what drifted in it will go on drifting, and is no news.
    """

    components: Annotated[int, msgspec.Meta(ge=0)] = 10
    floor: Annotated[float, msgspec.Meta(gt=0)] = 0.02
    drift: Annotated[float, msgspec.Meta(ge=0)] = 10.0

    def fit(self, part: Part, workshop: Workshop) -> Fitted:
        """Fit on the normal windows."""
        from vedette_training.models.sklearn_model import OUTPUT, SklearnModel

        flat = part.normal.flat(workshop.seed).astype(np.float64)
        spread = np.atleast_2d(np.cov(flat, rowvar=False, ddof=0))
        means = np.stack([block.mean(axis=0) for block in np.array_split(flat, min(_BLOCKS, len(flat)))])
        spread += self.drift * np.atleast_2d(np.cov(means, rowvar=False, ddof=0))
        variances, axes = np.linalg.eigh(spread)
        # Columns that say the same leave axes without any variance; these are no half of what there is to see.
        rank = int((variances > _NO_VARIANCE * variances[-1]).sum())
        kept = flat.shape[1] - min(self.components, rank // 2)
        # eigh gives the smallest first.
        scaled = axes[:, :kept] / np.sqrt(np.maximum(variances[:kept], 0.0) + self.floor)
        model = MinorAxes(flat.mean(axis=0), scaled.astype(np.float32))
        return Fitted((FittedStage("pca", SklearnModel(model), "flat", OUTPUT),))


class MinorAxes(BaseEstimator):  # type: ignore[misc] # because scikit-learn is untyped
    """Mean squared coordinate along some axes.

    Args:
        mean: float64 `(width,)`.
        axes: Each divided by its spread, float32 `(width, k)`.
    """

    def __init__(self, mean: Any = None, axes: Any = None) -> None:
        self.mean, self.axes = mean, axes

    def fit(self, X: object = None, y: object = None) -> "MinorAxes":  # noqa: ARG002, N803 because scikit-learn asks for it
        """Nothing is left to learn."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """For pipelines, which ask."""
        return True

    def score_samples(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The mean square, negated, float64 `(n,)`: lower is stranger."""
        coordinates = (np.asarray(rows, dtype=np.float64) - self.mean) @ np.asarray(self.axes, dtype=np.float64)
        scores: npt.NDArray[np.float64] = -(coordinates**2).mean(axis=1)
        return scores
