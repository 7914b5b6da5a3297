"""All streams of an agent: each message finds its own, and streams of one model are scored together; live telemetry and recordings alike.

Rules this module keeps: no I/O and no clock; what one stream sends never stops another.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vedette.alerts import Alert, Finding, Judge, Model
from vedette.config import Alerts, Config, Limits, Stream
from vedette.contract.admission import Admission, AdmissionLimits
from vedette.contract.bundle import Bundle
from vedette.contract.devices import Devices
from vedette.contract.errors import ConfigError, ScoreError
from vedette.contract.features import Number
from vedette.contract.manifest import Manifest
from vedette.contract.payloads import decoder_for
from vedette.contract.readings import Decoder, Message, PayloadLimits
from vedette.contract.scores import RawScores, Scorer
from vedette.detector import Detector, Windowed
from vedette.stream import Course, Scored, StreamPipeline


class Outcome(NamedTuple):
    """What came of a batch: every window's score, stream by stream, and the alerts in order."""

    scored: list[Scored]
    alerts: list[Alert]


class _Run:
    """A stream's part of a batch, up to where it waits for its models.

    Attributes:
        windowed: What is to be scored; None once it is through.
        result: Then.
    """

    def __init__(self, stream: StreamPipeline, course: Course) -> None:
        self.stream, self._course = stream, course
        self.windowed: Windowed | None = None
        self.result: tuple[list[Scored], list[Finding]] = ([], [])

    def go_on(self, raw: RawScores | None) -> None:
        """Go on with what the models gave; with None to begin, or where they failed."""
        try:
            self.windowed = self._course.send(raw)
        except StopIteration as end:
            self.windowed, self.result = None, end.value


def _score_together(runs: Sequence[_Run]) -> None:
    """Score what streams of one model wait for in one call, and let them go on."""
    waiting = [run.windowed.batch.windows for run in runs if run.windowed]
    try:
        raw = runs[0].stream.detector.scorer.raw(np.concatenate(waiting) if len(waiting) > 1 else waiting[0])
    except ScoreError as error:
        if len(runs) > 1:
            # What one stream sends must not cost another its scores.
            for run in runs:
                _score_together([run])
            return
        runs[0].stream.say_scoring(str(error))
        runs[0].go_on(None)
        return
    ends = np.cumsum([len(windows) for windows in waiting])
    for run, part in zip(runs, np.split(raw, ends[:-1]), strict=True):
        run.stream.say_scoring(None)
        run.go_on(part)


def _in_order(findings: list[Finding]) -> list[Alert]:
    """Several streams' alerts, in the order of arrival of what called for them."""
    return [finding.alert for finding in sorted(findings, key=lambda finding: finding.at)]


def check_fit(config: Config, manifest: Manifest) -> None:
    """Make sure that the streams which use a model can feed a bundle of it.

    Raises:
        ConfigError: a stream's payload mapping or alert rules do not fit the bundle's features.
    """
    for index, stream in enumerate(config.streams):
        if stream.model == manifest.name:
            stream_decoder(index, stream, manifest, config.limits)
            stream_rules(config, index, manifest)


def stream_rules(config: Config, index: int, manifest: Manifest) -> Alerts:
    """A stream's alert rules.

    Raises:
        ConfigError: they name what is no number of the model.
    """
    stream = config.streams[index]
    rules = config.alerts_of(stream)
    numbers = [feature.name for feature in manifest.features if isinstance(feature, Number)]
    # What all streams share may name a number of another one.
    is_own = stream.alerts is not None or len(config.streams) == 1
    if is_own and (unknown := sorted(set(rules.stuck_features or ()) - set(numbers))):
        where = f"streams[{index}].alerts" if stream.alerts else "alerts"
        known = ", ".join(numbers) or "none"
        raise ConfigError(f'{where}.stuck_features: "{unknown[0]}" is no number of model {manifest.name}; its numbers are {known}')
    return rules


def stream_decoder(index: int, stream: Stream, manifest: Manifest, limits: Limits) -> Decoder:
    """What takes a stream's payloads apart for a model.

    Raises:
        ConfigError: the mapping does not fit the model's features.
    """
    refused = PayloadLimits(limits.payload, manifest.window.max_gap_s, limits.keys, limits.depth)
    try:
        return decoder_for(stream.payload, manifest.features, stream.device.field if stream.device else None, stream.filter, refused)
    except ValueError as error:
        raise ConfigError(f"streams[{index}].payload.{error}") from error


class Pipeline:
    """All streams of an agent.

    Args:
        config: The agent's.
        open_model: Gives a model's verified bundle and its loaded models.
        only: Streams of other models are left out.
        explains: Whether alerts get their reasons.

    Raises:
        ConfigError: a stream's model is not there, or its mapping does not fit the model.

    Attributes:
        unmatched: Messages whose topic no stream wants.
    """

    def __init__(
        self, config: Config, open_model: Callable[[str], tuple[Bundle, Scorer]], only: str | None = None, *, explains: bool = True
    ) -> None:
        self.streams: list[StreamPipeline] = []
        self.unmatched = 0
        limits = config.limits
        for index, stream in enumerate(config.streams):
            if only not in {None, stream.model}:
                continue
            try:
                bundle, scorer = open_model(stream.model)
            except ConfigError as error:
                raise ConfigError(f"streams[{index}].model: {error}") from error
            decoder = stream_decoder(index, stream, bundle.manifest, limits)
            model = Model(name=bundle.manifest.name, version=bundle.manifest.version)
            features = bundle.manifest.features
            detector = Detector(bundle, scorer, merges=decoder.merges, drops_repeats=decoder.drops_repeats)
            rules = stream_rules(config, index, bundle.manifest)
            devices = Devices(limits.devices, Admission(AdmissionLimits(limits.rate, limits.burst), limits.devices))
            judge = Judge(rules, config.gateway, stream.name, model, devices, features)
            self.streams.append(StreamPipeline(stream, decoder, judge, detector, explains=explains))
        self._named = {stream.name: stream for stream in self.streams}
        self._route = functools.lru_cache(maxsize=2 * limits.devices)(self._find_route)

    def adopt(self, other: "Pipeline") -> None:
        """Go on with the models of another's streams; see `StreamPipeline.adopt`."""
        streams = {stream.name: stream for stream in self.streams}
        for stream in other.streams:
            streams[stream.name].adopt(stream)

    def saved(self) -> dict[str, Any]:
        """All that is remembered of messages so far, as plain data for `contract.saved`: to be encoded before the next batch."""
        return {"unmatched": self.unmatched, "streams": {stream.name: stream.saved() for stream in self.streams}}

    def restore(self, saved: dict[str, Any]) -> list[str]:
        """Go on with what was saved, maybe with other models and another configuration; before the first message.

        Returns:
            What begins anew and why, one line each, for people.
        """
        anew: list[str] = []
        streams = dict(saved["streams"])
        for stream in self.streams:
            if stream.name in streams:
                anew += stream.restore(streams.pop(stream.name))
        self.unmatched = saved["unmatched"]
        return anew + [f"stream {name}: it is not configured any more: what was known of it is dropped" for name in streams]

    def open_alerts(self) -> set[str]:
        """Ids of the episodes that were told and whose end was not told yet."""
        return {id_ for stream in self.streams for id_ in stream.open_alerts()}

    def open_alert(self, stream: str, device: str) -> str | None:
        """The id of a device's alert, if it has one now; of the stream's with an empty device."""
        return self._named[stream].judge.open_alert(device)

    def knows(self, stream: str, device: str) -> bool:
        """Whether a device is among those that a stream remembers."""
        return self._named[stream].devices.slot(device) is not None

    @property
    def evicted(self) -> int:
        """How many devices had to give way so far."""
        return sum(stream.devices.evicted for stream in self.streams)

    def open_devices(self) -> dict[tuple[str, str], str]:
        """Every stream and device that has an alert now, and its id; an empty device is the stream, for what is told of many."""
        return {(stream.name, device): id_ for stream in self.streams for device, id_ in stream.judge.open_devices().items()}

    def process(self, messages: Sequence[Message]) -> Outcome:
        """Take a batch of messages all the way, in the order of arrival."""
        devices: list[list[str]] = [[] for _ in self.streams]
        batches: list[list[Message]] = [[] for _ in self.streams]
        for message in messages:
            route = self._route(message.topic)
            self.unmatched += not route
            for index, device in route:
                devices[index].append(device)
                batches[index].append(message)
        runs = [_Run(s, s.process(d, b)) for s, d, b in zip(self.streams, devices, batches, strict=True) if b]
        for run in runs:
            run.go_on(None)
        while waiting := [run for run in runs if run.windowed]:
            for scorer in dict.fromkeys(run.stream.detector.scorer for run in waiting):
                _score_together([run for run in waiting if run.stream.detector.scorer is scorer])
        found = [finding for run in runs for finding in run.result[1]]
        if messages and math.isfinite(now := messages[-1].arrived):
            # What is heard on one stream tells the time to all: in a recording nothing else does.
            found += [finding for stream in self.streams for finding in stream.tick(now)]
        return Outcome([scored for run in runs for scored in run.result[0]], _in_order(found))

    def tick(self, now: float) -> list[Alert]:
        """Let time pass: everything that arrived up to `now`, epoch seconds, was processed. Who fell silent is told then."""
        return _in_order([finding for stream in self.streams for finding in stream.tick(now)])

    def pause(self, since: float | None, until: float) -> None:
        """Nothing could be heard of any device from `since`, or from the last message on, to `until`, epoch seconds."""
        for stream in self.streams:
            stream.judge.pause(since, until)

    def stats(self) -> dict[str, object]:
        """Counters of every stream by its name."""
        return {"unmatched": self.unmatched, "streams": {stream.name: stream.stats() for stream in self.streams}}

    def _find_route(self, topic: str) -> tuple[tuple[int, str], ...]:
        routes = []
        for index, stream in enumerate(self.streams):
            device = stream.filter.match(topic)
            if device is not None:
                routes.append((index, device))
        return tuple(routes)
