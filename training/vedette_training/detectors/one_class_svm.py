"""A one-class support vector machine: how far outside the region of normal windows a window is."""

from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from vedette.contract.features import Rows
from vedette_training.detectors import Fitted, FittedStage, Settings, Workshop
from vedette_training.windows import Part

_ROWS_AT_ONCE = 1024


class OneClassSvm(Settings, frozen=True, kw_only=True, tag="one_class_svm"):
    """An RBF kernel around flattened normal windows (Schölkopf et al., 2001).

    Attributes:
        nu: Share of the training windows that may lie outside.
        gamma: The kernel's, or `scale`, 1 / (width x variance).
        max_windows: Above it the windows to learn from are drawn at random: fitting takes their square in time.
    """

    nu: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01
    gamma: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_windows: Annotated[int, msgspec.Meta(ge=2)] = 5000

    def fit(self, part: Part, workshop: Workshop) -> Fitted:
        """Fit on the normal windows."""
        from sklearn.svm import OneClassSVM

        from vedette_training.models.sklearn_model import OUTPUT, SklearnModel

        flat = part.normal.flat(workshop.seed, self.max_windows)
        machine = OneClassSVM(nu=self.nu, gamma=self.gamma or "scale").fit(flat)
        return Fitted((FittedStage("one_class_svm", SklearnModel(LogKernel.of(machine)), "flat", OUTPUT),))


class LogKernel(BaseEstimator):  # type: ignore[misc] # because scikit-learn is untyped
    """A fitted OneClassSVM whose score is the logarithm of its kernel sum.

    The sum itself falls to zero a few standard deviations out, where every window then looks equally strange; its logarithm goes on
    like a squared distance. The order of windows is the same as `OneClassSVM.score_samples` gives, as far as that tells them apart.

    Args:
        vectors: Support vectors, float32 `(k, width)`.
        weights: Their dual coefficients, positive, `(k,)`.
        gamma: The kernel's.
    """

    def __init__(self, vectors: Any = None, weights: Any = None, gamma: float = 1.0) -> None:
        self.vectors, self.weights, self.gamma = vectors, weights, gamma

    @classmethod
    def of(cls, machine: Any) -> "LogKernel":
        """The same machine."""
        # Its width in numbers is private in scikit-learn, though fitted.
        return cls(machine.support_vectors_.astype(np.float32), machine.dual_coef_[0].copy(), float(machine._gamma))  # noqa: SLF001 because nothing public has it

    def fit(self, X: object = None, y: object = None) -> "LogKernel":  # noqa: ARG002, N803 because scikit-learn asks for it
        """Nothing is left to learn."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """For pipelines, which ask."""
        return True

    def score_samples(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Log sum(weight x exp(-gamma x squared distance)), float64 `(n,)`: lower is stranger."""
        from scipy.special import logsumexp

        vectors = np.asarray(self.vectors, dtype=np.float64)
        lengths = (vectors**2).sum(axis=1)
        scores = []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = np.asarray(rows[start : start + _ROWS_AT_ONCE], dtype=np.float64)
            squares = (part**2).sum(axis=1)[:, None] - 2 * part @ vectors.T + lengths
            scores.append(logsumexp(-self.gamma * np.maximum(squares, 0.0), b=self.weights, axis=1))
        return np.concatenate(scores) if scores else np.zeros(0)
