"""Scores: how strange a window is, on one scale for every detector: 1.0 is the threshold, higher is stranger.

Rules this module keeps: calibration is monotone, so it never changes which of two windows is stranger; a window's score does not
depend on which other windows are scored with it; a score that is not a finite number is an error, never a verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.errors import ScoreError
from vedette.contract.features import Rows

Scores = npt.NDArray[np.float32]
Combine = Literal["all", "any", "mean"]


class Runtime(Protocol):
    """One loaded model file."""

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        """Run the model on `(n, …)` inputs and return its outputs by name, each with n along its first axis."""
        ...


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An affine map from a model's raw output to a score: `centre` becomes 0 and `threshold` becomes 1.

    Attributes:
        centre: What is ordinary: the median of the raw output on held-out normal windows.
        threshold: What is just too strange. Below `centre` for a model whose smaller outputs are the stranger ones.
    """

    centre: float
    threshold: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.centre) and np.isfinite(self.threshold)) or self.centre == self.threshold:
            raise ValueError("calibration needs a finite centre and threshold that differ")

    def apply(self, raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Map raw outputs, any shape, to scores of that shape."""
        return (raw.astype(np.float64) - self.centre) / (self.threshold - self.centre)


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model file in one runtime.

    Attributes:
        file: Its name in the bundle.
        input: `window` feeds float32 `(n, steps, columns)`; `flat` feeds `(n, steps x columns)`.
        output: Name of the output that holds the raw score.
    """

    name: str
    runtime: Literal["litert", "onnx"]
    file: str
    input: Literal["window", "flat"]
    output: str
    calibration: Calibration


class Scorer:
    """Scores windows with a bundle's stages.

    Args:
        stages: At least one.
        runtimes: A loaded model for each stage, in the same order.
        combine: `all` takes the minimum of the stages' scores, `any` the maximum, `mean` their mean.
    """

    def __init__(self, stages: Sequence[Stage], runtimes: Sequence[Runtime], combine: Combine) -> None:
        self._stages = list(zip(stages, runtimes, strict=True))
        combiners: dict[str, Callable[..., npt.NDArray[np.float64]]] = {"all": np.min, "any": np.max, "mean": np.mean}
        self._combine = combiners[combine]

    def score(self, windows: Rows) -> Scores:
        """Score a batch of windows.

        Args:
            windows: float32 `(n, steps, columns)`, scaled.

        Returns:
            float32 `(n,)`, 1.0 at the threshold, higher is stranger.

        Raises:
            ScoreError: a runtime refused the batch, or gave something that is not a finite number a window.
        """
        if not len(windows):
            return np.zeros(0, dtype=np.float32)
        scores = np.stack([self._score_stage(stage, runtime, windows) for stage, runtime in self._stages])
        return np.asarray(self._combine(scores, axis=0), dtype=np.float32)

    def _score_stage(self, stage: Stage, runtime: Runtime, windows: Rows) -> npt.NDArray[np.float64]:
        outputs = runtime.run(windows if stage.input == "window" else windows.reshape(len(windows), -1))
        if stage.output not in outputs:
            raise ScoreError(f'stage {stage.name}: the model has no output "{stage.output}", it has {", ".join(outputs)}')
        raw = outputs[stage.output].reshape(-1)
        if len(raw) != len(windows) or not np.isfinite(raw).all():
            raise ScoreError(f"stage {stage.name}: the model did not give one finite number a window")
        return stage.calibration.apply(raw)
