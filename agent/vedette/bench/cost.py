"""What a reading costs on this machine: a stream's path, part by part, on readings made up from its model's features.

Rules this module keeps: nothing but the agent's own path is measured, in one process, without a broker; what is measured is warm and its
windows are full; alerts get no reasons, because how many there are says nothing about a site's.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.bench.made_up import DEVICES, batches
from vedette.config import Config, Stream
from vedette.contract.bundle import Bundle
from vedette.contract.errors import ConfigError
from vedette.contract.features import Rows
from vedette.contract.payloads import PayloadSpec
from vedette.contract.readings import Message
from vedette.contract.scores import Runtime, Scorer
from vedette.pipeline import Pipeline
from vedette.runtimes import load
from vedette.stream import StreamPipeline

BATCHES = (1, 32, 256)
"""In windows, for the models alone."""

_ROUNDS = 20

OpenBundle = Callable[[str], Bundle]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds a reading. `windows` is all that is none of the others: features, windows, calibration, and what holds it together."""

    decode: float
    windows: float
    models: float
    judge: float
    total: float


class StreamCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one stream costs.

    Attributes:
        us_a_reading: In batches of one reading from each of DEVICES.
        windows_a_second: Of the bundle's models alone, by size of batch.
    """

    stream: str
    model: str
    version: str
    detector: str
    steps: int
    us_a_reading: Parts
    windows_a_second: Mapping[int, float]

    @property
    def readings_a_second(self) -> float:
        """What one core would take if it did nothing else, the network's part not counted."""
        return 1e6 / self.us_a_reading.total


P = ParamSpec("P")
R = TypeVar("R")


class _Stopwatch:
    """Adds up the time that calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, call: Callable[P, R]) -> Callable[P, R]:
        """The same call, timed."""

        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


class _TimedRuntime:
    """A runtime on a stopwatch."""

    def __init__(self, runtime: Runtime, watch: _Stopwatch) -> None:
        self._run = watch.time(runtime.run)

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        """As the runtime."""
        return self._run(windows)


class _TimedModels:
    """A bundle's models, on one stopwatch."""

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self.bundle, self.watch = bundle, _Stopwatch()
        runtimes = [_TimedRuntime(load(stage, bundle.files[stage.file]), self.watch) for stage in manifest.stages]
        self.scorer = Scorer(manifest.stages, runtimes, manifest.combine, manifest.calibration)


def measure(config: Config, open_bundle: OpenBundle, seconds: float, step: Callable[[str], None]) -> list[StreamCost]:
    """Measure every stream of a configuration.

    Args:
        config: The agent's.
        open_bundle: Gives a model's verified bundle.
        seconds: For each stream, about.
        step: Told what is measured next.

    Raises:
        ConfigError: a stream's model is not there, or what is made up for it is not what the stream takes.
        ScoreError: a runtime is not installed, or refuses a model.
    """
    costs = []
    for stream in config.streams:
        step(stream.name)
        timed = _TimedModels(open_bundle(stream.model))
        stream = _plain(stream)  # noqa: PLW2901 because the one that is configured is not measured
        alone = msgspec.structs.replace(config, streams=(stream,))

        def opened(_name: str, timed: _TimedModels = timed) -> tuple[Bundle, Scorer]:
            return timed.bundle, timed.scorer

        pipeline = Pipeline(alone, opened, explains=False)
        manifest = timed.bundle.manifest
        costs.append(
            StreamCost(
                stream=stream.name,
                model=manifest.name,
                version=manifest.version,
                detector=manifest.detector,
                steps=manifest.window.steps,
                us_a_reading=_time_parts(stream, pipeline, timed, seconds * 0.7),
                windows_a_second=_time_models(timed, seconds * 0.3),
            )
        )
    return costs


def _plain(stream: Stream) -> Stream:
    """The stream, with plain JSON where it has something else: readings are made up in that."""
    payload = stream.payload
    if payload.format == "json" and not (payload.preset or payload.readings or payload.columns or payload.merge):
        return stream
    return msgspec.structs.replace(stream, payload=PayloadSpec(), topic="made-up/{device}", device=None)


def _time_parts(stream: Stream, pipeline: Pipeline, models: _TimedModels, seconds: float) -> Parts:
    window = models.bundle.manifest.window
    (path,) = pipeline.streams
    judging = _Stopwatch()
    # Of this one judge: the pipeline goes on as it is.
    setattr(path.judge, "judge", judging.time(path.judge.judge))  # noqa: B010 because mypy allows no assignment to a method
    interval_s = window.period_s or 1.0
    made_up = batches(stream, models.bundle.manifest.features, interval_s)
    # A grid's point is complete with the next reading, and a reading may wait for late ones.
    for _ in range(window.steps + 2 + math.ceil(window.late_s / interval_s)):
        pipeline.process(next(made_up))
    if not path.counts["scored"]:
        refused = ", ".join(f"{name} {count}" for name, count in path.stats().items() if name.startswith("rejected.") or name == "failed")
        raise ConfigError(f"stream {stream.name}: none of the readings that were made up for it is scored: {refused}")
    # A window may be due after several readings: whole strides are measured.
    rounds = _ROUNDS * window.stride
    models.watch.seconds = judging.seconds = total_s = decode_s = 0.0
    readings = 0
    while total_s < seconds:
        given = [next(made_up) for _ in range(rounds)]
        total_s += _process(pipeline, given)
        decode_s += _decode(path, given)
        readings += rounds * DEVICES
    rest_s = max(0.0, total_s - models.watch.seconds - decode_s - judging.seconds)
    took_s = (decode_s, rest_s, models.watch.seconds, judging.seconds, total_s)
    decode, rest, scoring, judge, total = (1e6 * part_s / readings for part_s in took_s)
    return Parts(decode=decode, windows=rest, models=scoring, judge=judge, total=total)


def _process(pipeline: Pipeline, given: Sequence[Sequence[Message]]) -> float:
    """Seconds that all of it takes."""
    began = time.perf_counter()
    for batch in given:
        pipeline.process(batch)
    return time.perf_counter() - began


def _decode(path: StreamPipeline, given: Sequence[Sequence[Message]]) -> float:
    """Seconds that decoding alone takes."""
    decode = path.decoder.decode_batch
    devices = ["device-000"] * DEVICES
    began = time.perf_counter()
    for batch in given:
        decode(batch, devices)
    return time.perf_counter() - began


def _time_models(models: _TimedModels, seconds: float) -> dict[int, float]:
    golden = models.bundle.golden_windows
    rates = {}
    for batch in BATCHES:
        windows = np.ascontiguousarray(np.resize(golden, (batch, *golden.shape[1:])))
        models.scorer.score(windows)
        runs, began = 0, time.perf_counter()
        while (took_s := time.perf_counter() - began) < seconds / len(BATCHES) or not runs:
            models.scorer.score(windows)
            runs += 1
        rates[batch] = runs * batch / took_s
    return rates
