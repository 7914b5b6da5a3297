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
from vedette.config import Config, Limits, Stream
from vedette.contract.bundle import Bundle
from vedette.contract.errors import ConfigError, ReadingError, ScoreError
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
        judge: Decides on alerts.
        bundle: Its model, verified.
        scorer: The bundle's loaded models.
        limits: Caps.

    Raises:
        ValueError: the payload mapping does not fit the model's features.

    Attributes:
        counts: `received`, `readings`, `scored`, `alerts` and `rejected.REASON`; `stats` has the rest.
    """

    def __init__(self, stream: Stream, judge: Judge, bundle: Bundle, scorer: Scorer, limits: Limits) -> None:
        self.name = stream.name
        self.filter = stream.filter
        self.judge = judge
        self.detector = Detector(bundle, scorer, limits.devices)
        self.counts: Counter[str] = Counter()
        self._decoder = JsonDecoder(stream.payload, bundle.manifest.features, stream.device.field if stream.device else None)
        self._max_payload = limits.payload

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

    def stats(self) -> dict[str, int]:
        """The counters, with those that the windower and the encoder keep."""
        windower, encoder = self.detector.windower, self.detector.encoder
        return {
            **{name: self.counts[name] for name in ("received", "readings", "scored")},
            "waiting": windower.waiting,
            "late": windower.late,
            "failed": windower.windows - self.counts["scored"],
            "devices": len(windower),
            "restarted": windower.restarted,
            "evicted": windower.evicted,
            "alerts": self.counts["alerts"],
            "open": self.judge.open_alerts(),
            "shifted": self.detector.adapter.shifted(),
            **{f"values.{reason}": count for reason, count in sorted(encoder.counts.items()) if count},
            **{name: count for name, count in sorted(self.counts.items()) if name.startswith("rejected.")},
        }

    def _decode(self, devices: Sequence[str], messages: Sequence[Message]) -> list[Reading]:
        readings = []
        decode = self._decoder.decode
        for device, (_, payload, arrived) in zip(devices, messages, strict=True):
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
                if alert.type == "end":
                    alerts.append(alert)
                    continue
                alerts.append(self._explained(alert, scored, window))
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


class Pipeline:
    """All streams of an agent.

    Args:
        config: The agent's.
        open_model: Gives a model's verified bundle and its loaded models.

    Raises:
        ConfigError: a stream's model is not there, or its mapping does not fit the model.

    Attributes:
        unmatched: Messages whose topic no stream wants.
    """

    def __init__(self, config: Config, open_model: Callable[[str], tuple[Bundle, Scorer]]) -> None:
        self.streams: list[StreamPipeline] = []
        self.unmatched = 0
        for index, stream in enumerate(config.streams):
            try:
                bundle, scorer = open_model(stream.model)
            except ConfigError as error:
                raise ConfigError(f"streams[{index}].model: {error}") from error
            model = Model(name=bundle.manifest.name, version=bundle.manifest.version)
            judge = Judge(config.alerts, config.gateway, stream.name, model, config.limits.devices)
            try:
                self.streams.append(StreamPipeline(stream, judge, bundle, scorer, config.limits))
            except ValueError as error:
                raise ConfigError(f"streams[{index}].payload.{error}") from error
        self._route = functools.lru_cache(maxsize=2 * config.limits.devices)(self._find_route)

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
