"""Scores: how strange a window is, on one scale for every detector: 1.0 is the threshold, higher is stranger.

Rules this module keeps: calibration is monotone, so at one time it never changes which of two windows is stranger; a window's score does
not depend on which other windows are scored with it; a score that is not a finite number is an error, never a verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.adaptation import Adaptation, Adapter
from vedette.contract.devices import PerDevice, Slots, grouped
from vedette.contract.errors import ScoreError
from vedette.contract.features import Rows
from vedette.contract.windows import Batch, decay

Scores = npt.NDArray[np.float32]
RawScores = npt.NDArray[np.float64]
Combine = Literal["all", "any", "mean"]
Precision = Literal["float32", "float16", "int8"]


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
        adaptation: Makes a surprisal of the raw output first; centre and threshold are then surprisals.
    """

    centre: float
    threshold: float
    adaptation: Adaptation | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.centre) and np.isfinite(self.threshold)) or self.centre == self.threshold:
            raise ValueError("calibration needs a finite centre and threshold that differ")

    def apply(self, raw: npt.NDArray[Any]) -> RawScores:
        """Map raw outputs, any shape, to scores of that shape, each by itself: an adaptation knows nothing but its seed."""
        return self.scale(self.adaptation.surprisal(raw) if self.adaptation else raw)

    def scale(self, adapted: npt.NDArray[Any]) -> RawScores:
        """Map what adaptation has made of raw outputs, where there is one, to scores."""
        scores: RawScores = (adapted.astype(np.float64) - self.centre) / (self.threshold - self.centre)
        return scores


class Feed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stage takes from an earlier one: some of its outputs, side by side."""

    stage: str
    outputs: tuple[str, ...]


Input = Literal["window", "flat", "last"] | Feed


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model file in one runtime.

    Attributes:
        file: Its name in the bundle.
        input: `window` feeds float32 `(n, steps, columns)`; `flat` feeds `(n, steps x columns)`; `last` the newest reading alone,
            `(n, columns)`; a Feed what an earlier stage gave, `(n, width)`.
        output: Name of the output that holds the raw score.
        calibration: None for a stage that only feeds others.
        smoothing: Half-life, in windows, of the exponential average that is kept of each device's raw score, ahead of the
            calibration.
        precision: Of the model's weights.
        feature_error: Name of an output that says how much of the error each column has, `(n, k x columns)`; where there is one, it
            explains the score. Optional: a bundle without it is explained by trying.
    """

    name: str
    runtime: Literal["litert", "onnx"]
    file: str
    input: Input
    output: str
    calibration: Calibration | None = None
    smoothing: Annotated[float, msgspec.Meta(gt=0)] | None = None
    precision: Precision = "float32"
    feature_error: str | None = None

    @property
    def computes_in_integers(self) -> bool:
        """Whether sums of rounded numbers decide: ONNX models keep int8 weights and compute in floating point."""
        return self.runtime == "litert" and self.precision == "int8"


class Scorer:
    """Scores windows with a bundle's stages.

    Args:
        stages: At least one that has a calibration: these have a say.
        runtimes: A loaded model for each stage, in the same order.
        combine: `all` takes the minimum of the stages' scores, `any` the maximum, `mean` their mean.
        calibration: Of the combination, which otherwise has no threshold of its own.

    Raises:
        ValueError: a stage is fed by one that does not come before it, or none has a say.
    """

    def __init__(
        self, stages: Sequence[Stage], runtimes: Sequence[Runtime], combine: Combine, calibration: Calibration | None = None
    ) -> None:
        check_stages(stages)
        self._stages = list(zip(stages, runtimes, strict=True))
        self._voters = [stage for stage in stages if stage.calibration]
        self._calibrations = [stage.calibration for stage in stages if stage.calibration]
        combiners: dict[str, Callable[..., npt.NDArray[np.float64]]] = {"all": np.min, "any": np.max, "mean": np.mean}
        self._combine = combiners[combine]
        self._calibration = calibration

    def score(self, windows: Rows) -> Scores:
        """Score a batch of windows, each by itself: with nothing smoothed.

        Args:
            windows: float32 `(n, steps, columns)`, scaled.

        Returns:
            float32 `(n,)`, 1.0 at the threshold, higher is stranger.

        Raises:
            ScoreError: a runtime refused the batch, or gave something that is not a finite number a window.
        """
        return self.combine(self.raw(windows))

    def raw(self, windows: Rows) -> RawScores:
        """What the stages that have a say give for a batch.

        Args:
            windows: float32 `(n, steps, columns)`, scaled.

        Returns:
            float64 `(n, voters)`.

        Raises:
            ScoreError: as `score`.
        """
        if not len(windows):
            return np.zeros((0, len(self._voters)))
        outputs: dict[str, Mapping[str, npt.NDArray[np.float32]]] = {}
        for stage, runtime in self._stages:
            outputs[stage.name] = runtime.run(_feed(stage.input, windows, outputs))
            for name, values in outputs[stage.name].items():
                if values.shape[:1] != (len(windows),):
                    raise ScoreError(f'stage {stage.name}: output "{name}" has shape {values.shape} for {len(windows)} windows')
        return np.column_stack([_column(stage, outputs[stage.name], len(windows)) for stage in self._voters])

    def column_errors(self, windows: Rows) -> RawScores | None:
        """How much of the error that the score is made of each column has.

        Args:
            windows: float32 `(n, steps, columns)`, scaled.

        Returns:
            float64 `(n, columns)`; None unless every stage that has a say either tells it or is fed by one that does.

        Raises:
            ScoreError: as `score`.
        """
        telling = {
            stage.name: (stage, runtime) for stage, runtime in self._stages if stage.feature_error and not isinstance(stage.input, Feed)
        }
        made_of = {stage.input.stage if isinstance(stage.input, Feed) else stage.name for stage in self._voters}
        if not made_of <= telling.keys():
            return None
        errors = np.zeros((len(windows), windows.shape[2]))
        for stage, runtime in (telling[name] for name in sorted(made_of)):
            assert stage.feature_error
            found = _output(stage.name, stage.feature_error, runtime.run(_feed(stage.input, windows, {})))
            if found.shape[:1] != (len(windows),) or found.size % errors.size:
                raise ScoreError(
                    f'stage {stage.name}: output "{stage.feature_error}" has shape {found.shape} for {errors.shape[1]} columns'
                )
            errors += found.reshape(len(windows), -1, errors.shape[1]).sum(axis=1, dtype=np.float64)
        return errors

    def combine(self, raw: RawScores) -> Scores:
        """Calibrate raw scores, each by itself, and make one of them.

        Args:
            raw: float64 `(n, voters)`, smoothed or not.

        Returns:
            float32 `(n,)`.
        """
        return self._conclude([c.apply(raw[:, voter]) for voter, c in enumerate(self._calibrations)])

    def combine_adapted(self, adapted: RawScores) -> Scores:
        """Calibrate and make one of them what the adapter has made of raw scores: float64 `(n, voters)` to float32 `(n,)`."""
        return self._conclude([c.scale(adapted[:, voter]) for voter, c in enumerate(self._calibrations)])

    def _conclude(self, calibrated: list[RawScores]) -> Scores:
        scores = self.merge(np.column_stack(calibrated))
        return np.asarray(self._calibration.apply(scores) if self._calibration else scores, dtype=np.float32)

    def merge(self, calibrated: RawScores) -> RawScores:
        """Make one score of the stages', before it is calibrated itself: float64 `(n, voters)` to `(n,)`."""
        merged: RawScores = self._combine(calibrated, axis=1)
        return merged

    def smoother(self) -> "Smoother":
        """A smoother, as the stages ask for it, that remembers nothing yet."""
        return Smoother([stage.smoothing for stage in self._voters])

    def adapter(self) -> Adapter:
        """An adapter, as the calibrations ask for it, that remembers nothing yet."""
        return Adapter([calibration.adaptation for calibration in self._calibrations])


class Smoother:
    """Keeps, for every device, the exponential average of each stage's raw score.

    Args:
        half_lives: In windows; None leaves a stage's score as it is.
    """

    def __init__(self, half_lives: Sequence[float | None]) -> None:
        self._smooths = any(half_life is not None for half_life in half_lives)
        self._weights = np.array([1.0 if half_life is None else decay(half_life) for half_life in half_lives])
        self._averages = PerDevice(np.full(len(half_lives), np.nan))

    def smooth(self, raw: RawScores, batch: Batch) -> RawScores:
        """Take a batch's raw scores into the averages, window by window.

        Args:
            raw: float64 `(n, voters)`.
            batch: The windows that they are of.

        Returns:
            float64 `(n, voters)`.
        """
        if not self._smooths or not len(raw):
            return raw
        groups = grouped(batch.slots)
        averages = self._averages.reach(groups.slots)
        before = averages[groups.slots]
        smoothed = np.empty_like(raw)
        for devices, places in groups.rounds():
            windows = groups.order[places]
            # A device whose first window could not be scored begins with the next one.
            anew = batch.is_first[windows] | np.isnan(before[devices, 0])
            now = self._weights * raw[windows] + (1.0 - self._weights) * before[devices]
            smoothed[windows] = before[devices] = np.where(anew[:, None], raw[windows], now)
        averages[groups.slots] = before
        return smoothed

    def forget(self, batch: Batch) -> None:
        """Begin anew for devices whose windows could not be scored."""
        self._averages.reset(batch.slots)

    def reset(self, slots: Slots) -> None:
        """Forget these slots' devices."""
        self._averages.reset(slots)

    def move(self, to: Slots) -> None:
        """Devices have other slots: slot k's now has `to[k]`."""
        self._averages.move(to)

    def saved(self) -> dict[str, Any]:
        """The averages."""
        return {"averages": self._averages.values}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        self._averages.restore(saved["averages"])


def check_stages(stages: Sequence[Stage]) -> None:
    """Make sure that stages can be run one after the other.

    Raises:
        ValueError: a name stands twice, a stage is fed by one that does not come before it, or none has a say.
    """
    names: set[str] = set()
    for stage in stages:
        if stage.name in names:
            raise ValueError(f'the stage "{stage.name}" stands twice')
        if isinstance(stage.input, Feed) and stage.input.stage not in names:
            raise ValueError(f'stage {stage.name}: fed by "{stage.input.stage}", which is no stage before it')
        names.add(stage.name)
    if not any(stage.calibration for stage in stages):
        raise ValueError("a bundle needs at least one stage with a calibration")


def _feed(input_: Input, windows: Rows, outputs: Mapping[str, Mapping[str, npt.NDArray[np.float32]]]) -> Rows:
    """What a stage's model is given."""
    if isinstance(input_, Feed):
        given = [_output(input_.stage, name, outputs[input_.stage]).reshape(len(windows), -1) for name in input_.outputs]
        return np.ascontiguousarray(np.concatenate(given, axis=1), dtype=np.float32)
    if input_ == "last":
        return np.ascontiguousarray(windows[:, -1])
    return windows if input_ == "window" else windows.reshape(len(windows), -1)


def _column(stage: Stage, outputs: Mapping[str, npt.NDArray[np.float32]], windows: int) -> npt.NDArray[np.float32]:
    raw = _output(stage.name, stage.output, outputs).reshape(-1)
    if len(raw) != windows or not np.isfinite(raw).all():
        raise ScoreError(f"stage {stage.name}: the model did not give one finite number a window")
    return raw


def _output(stage: str, name: str, outputs: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    if name not in outputs:
        raise ScoreError(f'stage {stage}: the model has no output "{name}", it has {", ".join(outputs)}')
    return outputs[name]
