"""The path of a reading, in order: message, reading, window, score, alert. Live telemetry and recordings walk this same path.

Rules this module keeps: no I/O and no clock; what one stream or device sends never stops another; every message is accounted for: per
stream, received = readings + rejected, and readings = scored + waiting + late + failed.
"""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from vedette.alerts import Alert, Judge, Model
from vedette.config import Config, Stream
from vedette.contract.bundle import Bundle
from vedette.contract.errors import ConfigError, ReadingError, ScoreError
from vedette.contract.manifest import Manifest
from vedette.contract.readings import JsonDecoder, Message, Reading
from vedette.contract.scores import Scorer
from vedette.detector import Detector, Scored

log = logging.getLogger(__name__)


class Score(NamedTuple):
    """One window's score; `time` is its last reading's, epoch seconds."""

    stream: str
    device: str
    time: float
    score: float


class Outcome(NamedTuple):
    """What came of a batch: every window's score and the alerts, each in order."""

    scores: list[Score]
    alerts: list[Alert]


class StreamPipeline:
    """One stream's part of the path.

    Args:
        stream: As configured.
        decoder: Takes payloads of this stream apart for this model.
        judge: Decides on alerts.
        detector: Scores with the model.
        max_payload: In bytes; a longer one is refused.
        explains: Whether alerts get their reasons, which take some scoring.

    Attributes:
        counts: `received`, `readings`, `scored`, `alerts` and `rejected.REASON`; `stats` has the rest.
    """

    def __init__(
        self, stream: Stream, decoder: JsonDecoder, judge: Judge, detector: Detector, max_payload: int, *, explains: bool = True
    ) -> None:
        self.name = stream.name
        self.filter = stream.filter
        self.decoder = decoder
        self.judge = judge
        self.detector = detector
        self.counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._max_payload = max_payload
        self._explains = explains

    def adopt(self, other: "StreamPipeline") -> None:
        """Go on with another's model, between two batches: alerts that are open and all counters stay, and so do the devices' windows
        where both models look at the same features in the same windows.
        """
        counted = self._model_counts()
        other.detector.take_over(self.detector)
        self.detector, self.decoder = other.detector, other.decoder
        self.judge.model = other.judge.model
        # What the new detector has counted so far, on trial, this one has counted as well.
        for name in counted | (now := self.detector.counts()):
            self._before[name] = counted.get(name, 0) - now.get(name, 0)

    def process(self, devices: Sequence[str], messages: Sequence[Message]) -> Outcome:
        """Take messages of this stream, each with the device that its topic names, all the way."""
        readings = self._decode(devices, messages)
        if not readings:
            return Outcome([], [])
        try:
            scored = self.detector.score(readings)
        except ScoreError as error:
            # The windower took the readings in, so only their verdicts are lost: say so and go on.
            log.warning("stream %s: a batch could not be scored: %s", self.name, error)
            return Outcome([], [])
        self.counts["scored"] += len(scored.positions)
        return self._judge(readings, scored)

    @property
    def failed(self) -> int:
        """Windows that could not be scored."""
        return self._model_counts()["windows"] - self.counts["scored"]

    def stats(self) -> dict[str, int]:
        """The counters, with those that the detector keeps; looks at every device, so it is not for every batch."""
        model = self._model_counts()
        return {
            **{name: self.counts[name] for name in ("received", "readings", "scored")},
            "waiting": model["waiting"],
            "late": model["late"],
            "failed": self.failed,
            "devices": len(self.detector.windower),
            "restarted": model["restarted"],
            "evicted": model["evicted"],
            "alerts": self.counts["alerts"],
            "open": self.judge.open_alerts(),
            "shifted": self.detector.adapter.shifted(),
            **{name: count for name, count in sorted(model.items()) if name.startswith("values.") and count},
            **{name: count for name, count in sorted(self.counts.items()) if name.startswith("rejected.")},
        }

    def _model_counts(self) -> dict[str, int]:
        """What the present detector and those before it have counted."""
        now = self.detector.counts()
        return {name: now.get(name, 0) + self._before[name] for name in {**now, **self._before}}

    def _decode(self, devices: Sequence[str], messages: Sequence[Message]) -> list[Reading]:
        readings = []
        decode = self.decoder.decode
        for device, (_, payload, arrived, _) in zip(devices, messages, strict=True):
            try:
                if len(payload) > self._max_payload:
                    raise ReadingError("too_long", f"{len(payload)} bytes")
                readings.append(decode(payload, arrived=arrived, device=device))
            except ReadingError as error:
                self.counts[f"rejected.{error.reason}"] += 1
        self.counts["received"] += len(messages)
        self.counts["readings"] += len(readings)
        return readings

    def _judge(self, readings: Sequence[Reading], scored: Scored) -> Outcome:
        scores, alerts = [], []
        for window, position in enumerate(scored.positions):
            reading = readings[position]
            score = float(scored.scores[window])
            scores.append(Score(self.name, reading.device, reading.time, score))
            for alert in self.judge.judge(reading.device, reading.time, score):
                wants_reasons = self._explains and alert.type != "end"
                alerts.append(self._explained(alert, scored, window) if wants_reasons else alert)
        self.counts["alerts"] += len(alerts)
        return Outcome(scores, alerts)

    def _explained(self, alert: Alert, scored: Scored, window: int) -> Alert:
        try:
            causes = self.detector.explain(scored.windows[window], scored.raw[scored.positions[window]])
        except ScoreError as error:
            # An alert without its reasons is worth more than none.
            log.warning("stream %s: an alert could not be explained: %s", self.name, error)
            return alert
        return msgspec.structs.replace(alert, explanation=causes)


def check_fit(config: Config, manifest: Manifest) -> None:
    """Make sure that the streams which use a model can feed a bundle of it.

    Raises:
        ConfigError: a stream's payload mapping does not fit the bundle's features.
    """
    for index, stream in enumerate(config.streams):
        if stream.model == manifest.name:
            _decoder(index, stream, manifest)


def _decoder(index: int, stream: Stream, manifest: Manifest) -> JsonDecoder:
    try:
        return JsonDecoder(stream.payload, manifest.features, stream.device.field if stream.device else None)
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
            decoder = _decoder(index, stream, bundle.manifest)
            model = Model(name=bundle.manifest.name, version=bundle.manifest.version)
            judge = Judge(config.alerts, config.gateway, stream.name, model, limits.devices)
            detector = Detector(bundle, scorer, limits.devices)
            self.streams.append(StreamPipeline(stream, decoder, judge, detector, limits.payload, explains=explains))
        self._route = functools.lru_cache(maxsize=2 * limits.devices)(self._find_route)

    def adopt(self, other: "Pipeline") -> None:
        """Go on with the models of another's streams; see `StreamPipeline.adopt`."""
        streams = {stream.name: stream for stream in self.streams}
        for stream in other.streams:
            streams[stream.name].adopt(stream)

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
        outcomes = [s.process(d, b) for s, d, b in zip(self.streams, devices, batches, strict=True) if b]
        return Outcome([s for o in outcomes for s in o.scores], [a for o in outcomes for a in o.alerts])

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
