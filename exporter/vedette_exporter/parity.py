"""The gate that every exported model passes: on a gateway it scores as the original does.

Rules this module keeps: the exported bytes are run by the gateway's own runtime and scorer; held-out windows and extremes alike, because
conversions have gone wrong on extremes alone; every stage is compared on one and the same input, and all of them together on windows;
the bytes pass as a whole or there is no bundle. What is allowed, and why a fed stage is allowed more, is in ADR 0006; why a narrower
variant is, in ADR 0010.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.contract.errors import BundleError
from vedette.contract.features import Categories, Category, FeatureEncoder, FeatureSpec, Number, Rows
from vedette.contract.scores import Calibration, Combine, Feed, Precision, RawScores, Runtime, Scorer, Scores, Stage

MIN_WINDOWS = 500
"""A check on 8 windows once missed an error on one in six; hundreds see it."""

TOLERANCE = 1e-4
"""Largest difference of scores, relative to max(1, score): the same as the gateway's self-test allows."""

FED_SHARE = 0.005
"""Behind a stage that is fed by another, on so many of the windows it may be more: rounding takes them over a forest's cut."""

FED_LARGEST = 0.05
"""And on no window more than this, about what a few trees of a hundred are worth. Measured: up to 0.03 % of the windows, 0.002."""


class Allowance(NamedTuple):
    """How far scores may be off.

    Attributes:
        usual: On a window, relative to max(1, score).
        share: Of the windows on which it may be more,
        largest: but on none more than this.
        flipped: Share of the windows that may be over the threshold on one side only.
    """

    usual: float
    share: float
    largest: float
    flipped: float

    def __str__(self) -> str:
        return f"{self.usual:g}, or {self.largest:g} on {self.share:.1%}" if self.share else f"{self.usual:g}"


EXACT = Allowance(TOLERANCE, 0.0, TOLERANCE, 1.0)
"""So near to 1.0 a verdict is the rounding's; anywhere else it stands."""

FED = Allowance(TOLERANCE, FED_SHARE, FED_LARGEST, 1.0)

NARROWER: Mapping[Precision, Allowance] = {"float16": Allowance(0.02, 0.01, 0.1, 0.005), "int8": Allowance(0.05, 0.01, 0.25, 0.01)}
"""Where a narrower stage has a part in a score; about three times what was measured (ADR 0010)."""

BATCH_SIZES = (1, 2, 7, 32)

_SIZED_WINDOWS = 512
_NOISE = 0.05

Outputs = Mapping[str, npt.NDArray[np.float32]]
Numbers = npt.NDArray[np.floating]


class Parity(NamedTuple):
    """What the gate measured.

    Attributes:
        windows: On how many.
        stages: By name, the largest relative difference that a stage made, given the same input: of its score, as the original is
            calibrated, or of what else it gives.
        largest_difference: Of the score, all stages together.
        share_beyond: Of the windows whose score differs by more than is usual; 0 where no stage is fed or narrower.
        verdicts_flipped: Windows that are over the threshold on one side only: never farther from 1.0 than what is allowed.
        batch_sizes: They gave equal bits.
        allowed: What the scores were held to.
    """

    windows: int
    stages: Mapping[str, float]
    largest_difference: float
    share_beyond: float
    verdicts_flipped: int
    batch_sizes: tuple[int, ...]
    allowed: Allowance = EXACT


class Recorder:
    """A runtime that remembers what it was given and what it gave."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._inputs: list[Rows] = []
        self._outputs: list[Outputs] = []

    def run(self, windows: Rows) -> Outputs:
        """As the runtime."""
        outputs = self._runtime.run(windows)
        self._inputs.append(windows)
        self._outputs.append(outputs)
        return outputs

    @property
    def inputs(self) -> Rows:
        """All of them."""
        return np.concatenate(self._inputs)

    @property
    def outputs(self) -> Outputs:
        """All of them."""
        return {name: np.concatenate([outputs[name] for outputs in self._outputs]) for name in self._outputs[0]}


class Pair(NamedTuple):
    """A detector twice: over its original models, and over exported ones, in the order of its stages.

    Attributes:
        stages: As trained.
        calibration: Of their combination.
        exported_stages: None where their calibrations are those of `stages`.
        exported_calibration: Looked at where there are `exported_stages`.
    """

    stages: tuple[Stage, ...]
    combine: Combine
    calibration: Calibration | None
    original: Sequence[Runtime]
    exported: Sequence[Runtime]
    exported_stages: tuple[Stage, ...] | None = None
    exported_calibration: Calibration | None = None

    def original_scorer(self, runtimes: Sequence[Runtime]) -> Scorer:
        """The gateway's scorer over the original models."""
        return Scorer(self.stages, runtimes, self.combine, self.calibration)

    def scorer(self, runtimes: Sequence[Runtime]) -> Scorer:
        """The gateway's scorer over the exported models, or over something that stands in for one."""
        if self.exported_stages is None:
            return self.original_scorer(runtimes)
        return Scorer(self.exported_stages, runtimes, self.combine, self.exported_calibration)

    @property
    def changed(self) -> set[str]:
        """Names of the stages whose outputs a narrower stage has a part in."""
        names: set[str] = set()
        for stage in self.stages:
            if stage.precision != "float32" or (isinstance(stage.input, Feed) and stage.input.stage in names):
                names.add(stage.name)
        return names

    def allowance(self, stage: Stage | None) -> Allowance:
        """What is allowed of a stage's score, or of all stages' together."""
        if (stage.name in self.changed) if stage else self.changed:
            return NARROWER["int8" if "int8" in {stage.precision for stage in self.stages} else "float16"]
        return FED if (isinstance(stage.input, Feed) if stage else self.feeding) else EXACT

    @property
    def feeding(self) -> set[str]:
        """Names of the stages that feed others."""
        return {stage.input.stage for stage in self.stages if isinstance(stage.input, Feed)}


def enough_windows(held_out: Rows, rng: np.random.Generator) -> Rows:
    """Held-out windows, at least MIN_WINDOWS: where there are fewer, some again with a little noise. Float32 `(n,
    steps, columns)`.
    """
    lacking = MIN_WINDOWS - len(held_out)
    if lacking <= 0:
        return held_out
    again = held_out[rng.integers(len(held_out), size=lacking)]
    return np.concatenate([held_out, again + rng.normal(0, _NOISE, again.shape)]).astype(np.float32)


def extremes(features: FeatureSpec, shape: tuple[int, ...], rng: np.random.Generator) -> Rows:
    """Windows that history does not hold but a gateway may meet, float32 `(n, steps, columns)`.

    All zero (every number at its mean), nothing sent at all, constant and alternating at +-1, +-3 and +-10 standard
    deviations, one such reading at the window's end, each column alone, and noise of every such size.
    """
    steps, columns = shape
    encoder = FeatureEncoder(features)
    # A time is always known, be it that of arrival.
    unsent = [np.nan if isinstance(f, Number) else None if isinstance(f, Category | Categories) else 0.0 for f in features]
    nothing = encoder.transform(encoder.encode([unsent]))[0]
    found = [np.zeros(shape), np.broadcast_to(nothing, shape)]
    for size in (-10.0, -3.0, -1.0, 1.0, 3.0, 10.0):
        constant = np.full(shape, size)
        alternating = constant * np.where(np.arange(steps) % 2, -1.0, 1.0)[:, None]
        spike = np.zeros(shape)
        spike[-1] = size
        found += [constant, alternating, spike]
        for column in range(columns):
            alone = np.zeros(shape)
            alone[:, column] = size
            found.append(alone)
        found += list(rng.normal(0, abs(size), (20, *shape)))
    return np.stack(found).astype(np.float32)


def check(pair: Pair, windows: Rows, trained: RawScores) -> tuple[Parity, Scores]:
    """Compare the original with the exported models.

    Args:
        pair: Both.
        windows: float32 `(n, steps, columns)`.
        trained: What the originals gave for the first of them when they were trained, float64 `(m, voters)`: a model that changed
            since is found as well.

    Returns:
        The figures, and the exported models' scores, float32 `(n,)`.

    Raises:
        BundleError: they differ, or the batch's size changes a score.
        ScoreError: a runtime refuses a batch, or gives what is not a finite number.
    """
    originals, exported = [Recorder(r) for r in pair.original], [Recorder(r) for r in pair.exported]
    expected = raw_scores(pair.original_scorer(originals), windows)
    expected[: len(trained)] = trained
    scorer = pair.scorer(exported)
    raw = raw_scores(scorer, windows)
    scores = scorer.combine(raw)
    stages = {
        stage.name: _compare_stage(
            stage,
            original.outputs,
            runtime.run(original.inputs) if isinstance(stage.input, Feed) else recorder.outputs,
            feeds=stage.name in pair.feeding,
        )
        for stage, original, recorder, runtime in zip(pair.stages, originals, exported, pair.exported, strict=True)
    }
    voters = [(one, two) for one, two in zip(pair.stages, pair.exported_stages or pair.stages, strict=True) if one.calibration]
    for voter, (stage, exported_stage) in enumerate(voters):
        assert stage.calibration
        assert exported_stage.calibration
        pairs = zip(_scales(stage.calibration, expected[:, voter]), _scales(exported_stage.calibration, raw[:, voter]), strict=True)
        for before, after in pairs:
            _compare_scores(f"stage {stage.name}: ", before, after, pair.allowance(stage))
    together = pair.original_scorer(pair.original).combine(expected)
    allowed = pair.allowance(None)
    difference = _compare_scores("", together, scores, allowed)
    flipped = (scores >= 1.0) != (together >= 1.0)
    if not flipped.mean() <= allowed.flipped:
        raise BundleError(
            f"parity: {int(flipped.sum())} of {len(flipped)} windows are over the threshold on one side only "
            f"(allowed {allowed.flipped:.1%}); no bundle was made"
        )
    check_batches(windows[:_SIZED_WINDOWS], raw[:_SIZED_WINDOWS], pair.scorer(pair.exported))
    measured = Parity(
        windows=len(windows),
        stages=stages,
        largest_difference=float(difference.max()),
        share_beyond=float((difference > allowed.usual).mean()),
        verdicts_flipped=int(flipped.sum()),
        batch_sizes=BATCH_SIZES,
        allowed=allowed,
    )
    return measured, scores


def raw_scores(scorer: Scorer, windows: Rows) -> RawScores:
    """What a scorer's stages give, a few hundred windows at a time: float64 `(n, voters)`."""
    return np.concatenate([scorer.raw(windows[start : start + _SIZED_WINDOWS]) for start in range(0, len(windows), _SIZED_WINDOWS)])


def _scales(calibration: Calibration, raw: Numbers) -> list[Numbers]:
    """Raw scores as scores; where those are surprisals, which have a cap, also as distances in the adaptation's unit, which have none."""
    adaptation = calibration.adaptation
    scores = calibration.apply(raw)
    return [scores, (raw.astype(np.float64) - adaptation.origin) / adaptation.unit] if adaptation else [scores]


def check_stage(stage: Stage, original: Recorder, runtime: Runtime, *, feeds: bool) -> None:
    """Compare one exported model with its original by itself, every output and every bit over batch sizes.

    Args:
        stage: Whose they are.
        original: What the original was given and gave.
        runtime: The exported model.
        feeds: Whether the stage feeds others.

    Raises:
        BundleError: they differ, or the batch's size changes an output.
        ScoreError: the runtime refuses a batch.
    """
    inputs = original.inputs
    outputs = _parts(runtime, inputs, range(_SIZED_WINDOWS, len(inputs), _SIZED_WINDOWS))
    _compare_stage(stage, original.outputs, outputs, feeds=feeds)
    sized = inputs[:_SIZED_WINDOWS]
    for plan, cuts in _plans(len(sized)).items():
        parts = _parts(runtime, sized, cuts)
        for name, values in parts.items():
            if changed := int((values != outputs[name][: len(sized)]).reshape(len(sized), -1).any(axis=1).sum()):
                raise BundleError(f"parity: stage {stage.name}: {changed} of {len(sized)} rows of {name} change in batches {plan}")


def _parts(runtime: Runtime, inputs: Rows, cuts: Sequence[int] | npt.NDArray[np.intp]) -> Outputs:
    """What a model gives for its inputs, cut apart before these positions."""
    recorder = Recorder(runtime)
    for part in np.split(inputs, cuts):
        recorder.run(part)
    return recorder.outputs


def _compare_stage(stage: Stage, before: Outputs, after: Outputs, *, feeds: bool) -> float:
    """The largest relative difference of one stage's outputs where both were given what the originals before it gave.

    Of a narrower stage it is only measured, before recalibration: what comes of it is judged by the scores.

    Raises:
        BundleError: a float32 stage's is more than TOLERANCE, or another's no number.
    """
    differences: list[npt.NDArray[np.float64]] = []
    if stage.calibration:
        scores = [_scales(stage.calibration, outputs[stage.output].reshape(-1)) for outputs in (before, after)]
        differences += [_difference(one, two, np.float64(1.0)) for one, two in zip(*scores, strict=True)]
    # Whatever else it gives, the score as well where that is fed: in each column's own measure, how far it varies.
    others = [name for name in before if feeds or name != stage.output]
    differences += [_difference(before[name], after[name], np.std(before[name], axis=0)) for name in others]
    largest = max(float(difference.max()) for difference in differences)
    allowed = TOLERANCE if stage.precision == "float32" else float(np.finfo(np.float64).max)
    if not largest <= allowed:
        wrong = max(int((~(difference <= allowed)).reshape(len(difference), -1).any(axis=1).sum()) for difference in differences)
        raise BundleError(
            f"parity: stage {stage.name}: {wrong} of {len(differences[0])} windows score differently after conversion, given the same "
            f"input, by up to {largest:.2g} (allowed {allowed:.3g})"
        )
    return largest


def _compare_scores(what: str, expected: Numbers, scores: Numbers, allowed: Allowance) -> Numbers:
    """Relative differences `(n,)`. So near to 1.0 as they are allowed to be a verdict is the rounding's; anywhere else it stands.

    Raises:
        BundleError: they are more than is allowed.
    """
    difference = _difference(expected, scores, np.float64(1.0))
    # `not <=`, so that an original which gave NaN fails too.
    beyond = ~(difference <= allowed.usual)
    if beyond.mean() > allowed.share or not difference.max() <= allowed.largest:
        worst = int(np.argmax(np.nan_to_num(difference, nan=np.inf)))
        raise BundleError(
            f"parity: {what}{int(beyond.sum())} of {len(beyond)} windows score differently after conversion, by up to "
            f"{difference.max():.2g} (allowed {allowed}): {expected[worst]:.6f} became {scores[worst]:.6f}; no bundle was made"
        )
    return difference


def _difference(expected: Numbers, found: Numbers, measure: Numbers | np.float64) -> npt.NDArray[np.float64]:
    """Relative to the expected value or to `measure`, whichever is larger."""
    relative: npt.NDArray[np.float64] = np.abs(found.astype(np.float64) - expected) / np.maximum(
        np.maximum(np.abs(expected), measure), 1e-9
    )
    return relative


def check_batches(windows: Rows, raw: RawScores, scorer: Scorer) -> None:
    """Make sure that the batch's size never changes a bit of any stage's score: a replay in large batches must equal what went
    live one by one.

    Raises:
        BundleError: it does.
    """
    for name, cuts in _plans(len(windows)).items():
        parts = np.concatenate([scorer.raw(part) for part in np.split(windows, cuts)])
        if changed := int((parts != raw).any(axis=1).sum()):
            raise BundleError(f"parity: {changed} of {len(windows)} scores change in batches {name}; no bundle was made")


def _plans(count: int) -> dict[str, npt.NDArray[np.intp]]:
    """Where to cut so many windows into batches, by what these are then of."""
    ends = np.cumsum(BATCH_SIZES)
    plans = {f"of {size}": np.arange(size, count, size) for size in BATCH_SIZES}
    return {**plans, "of unequal sizes": ends[ends < count]}
