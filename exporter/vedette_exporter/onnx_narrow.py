"""Weights of ONNX models in half or a quarter of their bytes.

Rules this module keeps: weights are narrower where they are stored and float32 where they are used, cast once, when the runtime loads
the file. ONNX Runtime's own quantisation would compute in integers as well, but scales what goes in by all windows of a batch, and a
score must not depend on its batch (ADR 0003).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.contract.scores import Precision

Weights = npt.NDArray[np.float32]


class Narrow(NamedTuple):
    """Weights as they are stored.

    Attributes:
        stored: float32, float16 or int8, of the weights' shape.
        scale: What integers are multiplied by, float32, 1 long along the axis that shares a scale; None where there are no integers.
    """

    stored: npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.int8]
    scale: Weights | None = None

    @property
    def used(self) -> Weights:
        """As the runtime computes with them, float32."""
        wide = self.stored.astype(np.float32)
        return wide if self.scale is None else wide * self.scale


def narrow(weights: npt.ArrayLike, precision: Precision, axis: int = 0) -> Narrow:
    """Round weights to a precision: to the nearest float16, or to the nearest of 255 multiples of a scale.

    Args:
        weights: float32, at least `(rows, columns)`.
        precision: float32 leaves them as they are.
        axis: Weights along it share a scale: those that are multiplied with one window's inputs and summed.
    """
    exact = np.asarray(weights, dtype=np.float32)
    if precision == "float32":
        return Narrow(exact)
    if precision == "float16":
        return Narrow(exact.astype(np.float16))
    largest = np.abs(exact).max(axis=axis, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return Narrow(np.rint(exact / scale).astype(np.int8), scale)
