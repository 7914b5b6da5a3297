"""An isolation forest: how easily a window is set apart from the others by random cuts."""

from typing import Annotated

import msgspec
import numpy as np

from vedette_training.detectors import Fitted, FittedStage, Settings, Workshop
from vedette_training.windows import Part

_ROUNDING = 1e-10
"""An axis that explains less of the variance than this: float32 keeps seven digits of a column."""


class IsolationForest(Settings, frozen=True, kw_only=True, tag="isolation_forest"):
    """Random trees over flattened normal windows; trees and sample as in Liu, Ting and Zhou, 2008.

    Attributes:
        rotate: Along the principal axes first: cuts are then not tied to single columns.
    """

    trees: Annotated[int, msgspec.Meta(ge=1)] = 100
    max_samples: Annotated[int, msgspec.Meta(ge=2)] = 256
    rotate: bool = False

    def fit(self, part: Part, workshop: Workshop) -> Fitted:
        """Fit on the normal windows; it is few seconds' work, so no bar."""
        from sklearn.decomposition import PCA
        from sklearn.ensemble import IsolationForest as Forest
        from sklearn.pipeline import make_pipeline

        from vedette_training.models.sklearn_model import OUTPUT, SklearnModel

        flat = part.normal.flat(workshop.seed)
        forest = Forest(n_estimators=self.trees, max_samples=min(self.max_samples, len(flat)), random_state=workshop.seed)
        if not self.rotate:
            return Fitted((FittedStage("isolation_forest", SklearnModel(forest.fit(flat.astype(np.float32))), "flat", OUTPUT),))
        exact = flat.astype(np.float64)
        # Along the other axes there is rounding only (the columns of one category always sum to 1), and whitening would make it as
        # large as the rest: another order of summing, another score.
        kept = int((PCA(svd_solver="full").fit(exact).explained_variance_ratio_ > _ROUNDING).sum())
        model = make_pipeline(PCA(max(kept, 1), whiten=True, svd_solver="full"), forest)
        return Fitted((FittedStage("isolation_forest", SklearnModel(model.fit(exact)), "flat", OUTPUT),))
