"""DBSCAN as a detector: how far a window is from the nearest core sample of a cluster.

DBSCAN itself only labels the windows it was fitted on. What makes one of them noise is that no core sample is within eps; a window that
it never saw is judged by the same distance.
"""

from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from vedette.contract.errors import HistoryError
from vedette.contract.features import Rows
from vedette_training.detectors import Fitted, FittedStage, Settings, Workshop
from vedette_training.windows import Part

_ROWS_AT_ONCE = 1024
_KNEE = 0.95


class Dbscan(Settings, frozen=True, kw_only=True, tag="dbscan"):
    """Density clusters of flattened normal windows (Ester, Kriegel, Sander and Xu, 1996).

    Attributes:
        min_samples: Windows within eps, itself among them, that make one a core sample.
        eps: The distance; None takes the one that makes 95 % of the training windows core samples.
        max_windows: Above it the windows to cluster are drawn at random: each core sample costs time on the gateway.
    """

    min_samples: Annotated[int, msgspec.Meta(ge=1)] = 5
    eps: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_windows: Annotated[int, msgspec.Meta(ge=2)] = 2000

    def fit(self, part: Part, workshop: Workshop) -> Fitted:
        """Cluster the normal windows.

        Raises:
            HistoryError: none of them is a core sample.
        """
        from sklearn.cluster import DBSCAN

        from vedette_training.models.sklearn_model import OUTPUT, SklearnModel

        flat = part.normal.flat(workshop.seed, self.max_windows)
        eps = self.eps or knee(flat, min(self.min_samples, len(flat)))
        clusters = DBSCAN(eps=eps, min_samples=self.min_samples).fit(flat)
        if not len(clusters.core_sample_indices_):
            raise HistoryError(f"dbscan: none of {len(flat)} windows has {self.min_samples} within eps = {eps:g}: choose a larger eps")
        model = CoreDistance(clusters.components_.astype(np.float32), eps)
        return Fitted((FittedStage("dbscan", SklearnModel(model), "flat", OUTPUT),))


class CoreDistance(BaseEstimator):  # type: ignore[misc] # because scikit-learn is untyped
    """Distance to the nearest core sample, in units of eps: DBSCAN calls noise what is beyond 1.

    Args:
        cores: Core samples, float32 `(k, width)`.
        eps: DBSCAN's.
    """

    def __init__(self, cores: Any = None, eps: float = 1.0) -> None:
        self.cores, self.eps = cores, eps

    def fit(self, X: object = None, y: object = None) -> "CoreDistance":  # noqa: ARG002, N803 because scikit-learn asks for it
        """Nothing is left to learn."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """For pipelines, which ask."""
        return True

    def score_samples(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The distance, negated, float64 `(n,)`: lower is stranger."""
        cores = np.asarray(self.cores, dtype=np.float64)
        lengths = (cores**2).sum(axis=1)
        scores = []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = np.asarray(rows[start : start + _ROWS_AT_ONCE], dtype=np.float64)
            # The product finds the nearest; the distance to it is then taken exactly, so that a core sample is at 0 from itself.
            nearest = (lengths - 2 * part @ cores.T).argmin(axis=1)
            scores.append(-np.linalg.norm(part - cores[nearest], axis=1) / self.eps)
        return np.concatenate(scores) if scores else np.zeros(0)


def knee(flat: Rows, min_samples: int) -> float:
    """The eps that makes `_KNEE` of the vectors float32 `(n, width)` core samples: a quantile of the distance to the farthest of
    `min_samples` neighbours.
    """
    from sklearn.neighbors import NearestNeighbors

    reach = NearestNeighbors(n_neighbors=min_samples).fit(flat).kneighbors(flat)[0][:, -1]
    return max(float(np.quantile(reach, _KNEE)), 1e-6)
