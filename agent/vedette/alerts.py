"""Alerts: episodes of a device, from the windows that raise one to those that end it.

Rules this module keeps: all times are event time, so that a replay gives the same alerts with the same ids; a device that is well
takes no memory; every `new` is followed by an `end`, even if its device is forgotten at the cap.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import msgspec

from vedette.config import Alerts
from vedette.detector import Cause

NOTEWORTHY_RISE = 1.1
"""An alert's peak must have risen by a tenth since it was last told for an update."""

DRIFT_SHARE = 0.5
"""An alert that lasts becomes drift if at least this share of its windows was at or over 1.0: not one that merely never cleared."""

Kind = Literal["anomaly", "drift"]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Which bundle judged."""

    name: str
    version: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an episode; the JSON that subscribers see.

    Attributes:
        id: The same for all messages of an episode, and for the same episode in a replay.
        kind: `drift` follows an `anomaly` that went on for too long to be one: what is normal for the device is no longer what the
            model learnt.
        windows: Windows at or over 1.0 in the episode so far.
        explanation: Empty in an `end`.
    """

    schema: Literal["vedette.alert/1"] = "vedette.alert/1"
    id: str
    type: Literal["new", "update", "end"]
    gateway: str
    stream: str
    device: str
    kind: Kind = "anomaly"
    score: float
    peak: float
    severity: Literal["warning", "critical"]
    started: datetime
    time: datetime
    ended: datetime | None
    windows: int
    model: Model
    explanation: tuple[Cause, ...] = ()


class _Episode:
    """What is remembered of a device that is not well, or was not a moment ago."""

    __slots__ = (
        "cleared", "ended", "id", "judged", "kind", "over", "peak", "score", "sent", "sent_peak", "severity", "started", "time", "windows",
    )  # fmt: skip

    def __init__(self) -> None:
        self.over = self.cleared = 0  # the last windows' verdicts, newest in the lowest bit
        self.peak = self.score = self.time = 0.0
        self.windows = self.judged = 0
        self.id: str | None = None
        self.kind: Kind = "anomaly"
        self.started = self.sent = self.sent_peak = 0.0
        self.severity: Literal["warning", "critical"] = "warning"
        self.ended: float | None = None


class Judge:
    """Decides for one stream which windows begin, go on with and end an alert.

    Args:
        rules: When to raise, update and clear.
        gateway: Its name.
        stream: Its name.
        model: The bundle that scores.
        max_devices: Cap on devices remembered at a time.

    Attributes:
        model: May be another from one batch to the next; an alert that is open keeps its id.
    """

    def __init__(self, rules: Alerts, gateway: str, stream: str, model: Model, max_devices: int) -> None:
        self._rules, self._gateway, self._stream, self.model = rules, gateway, stream, model
        self._max_devices = max_devices
        self._episodes: OrderedDict[str, _Episode] = OrderedDict()
        self._over_mask = (1 << rules.raise_.n) - 1
        self._clear_mask = (1 << rules.clear.n) - 1

    def open_alert(self, device: str) -> str | None:
        """The id of the device's alert, if it has one now."""
        episode = self._episodes.get(device)
        return episode.id if episode else None

    def open_alerts(self) -> int:
        """How many devices have an alert now."""
        return sum(episode.id is not None for episode in self._episodes.values())

    def judge(self, device: str, time: float, score: float) -> Iterator[Alert]:
        """Take a window's score into account.

        Args:
            device: Its name.
            time: Event time of the window's last reading, epoch seconds.
            score: 1.0 at the threshold.

        Yields:
            The alert messages that it calls for, mostly none.
        """
        episode = self._episodes.get(device)
        if episode is None:
            if score < 1.0:
                return
            episode = self._episodes[device] = _Episode()
            if len(self._episodes) > self._max_devices:
                yield from self._evict()
        self._episodes.move_to_end(device)
        is_over = score >= 1.0
        episode.score, episode.time = score, time
        episode.over = (episode.over << 1 | is_over) & self._over_mask
        if episode.id is None:
            episode.peak = max(episode.peak, score) if episode.over != is_over else score
            yield from self._raise(device, episode)
            if episode.id is None and not episode.over and not self._cooling(episode):
                del self._episodes[device]
            return
        episode.cleared = (episode.cleared << 1 | (score < self._rules.clear_below)) & self._clear_mask
        episode.windows += is_over
        episode.judged += 1
        episode.peak = max(episode.peak, score)
        if episode.cleared.bit_count() >= self._rules.clear.m:
            yield self._end(device, episode)
        elif self._is_drift(episode):
            yield self._end(device, episode)
            episode.windows = episode.judged = int(is_over)
            episode.peak = score
            yield self._begin("drift", device, episode)
        else:
            yield from self._update(device, episode)

    def _raise(self, device: str, episode: _Episode) -> Iterator[Alert]:
        if episode.over.bit_count() < self._rules.raise_.m or self._cooling(episode):
            return
        episode.windows = episode.judged = episode.over.bit_count()
        yield self._begin("anomaly", device, episode)

    def _begin(self, kind: Kind, device: str, episode: _Episode) -> Alert:
        model = self.model
        # An anomaly's identity is as it was before there were other kinds.
        parts = [self._gateway, self._stream, device, model.name, model.version, repr(episode.time)]
        parts += ["drift"] if kind == "drift" else []
        episode.id = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        episode.kind, episode.started, episode.cleared, episode.ended = kind, episode.time, 0, None
        return self._message("new", device, episode)

    def _is_drift(self, episode: _Episode) -> bool:
        return (
            episode.kind == "anomaly"
            and episode.time - episode.started >= self._rules.drift_after
            and episode.windows >= DRIFT_SHARE * episode.judged
        )

    def _update(self, device: str, episode: _Episode) -> Iterator[Alert]:
        if episode.kind == "drift":
            return  # told once, and over when it is over
        escalated = self._severity(episode) != episode.severity
        risen = episode.peak >= NOTEWORTHY_RISE * episode.sent_peak
        due = episode.time - episode.sent >= self._rules.update
        if escalated or (due and risen):
            yield self._message("update", device, episode)

    def _end(self, device: str, episode: _Episode) -> Alert:
        alert = self._message("end", device, episode)
        episode.id, episode.over, episode.ended = None, 0, episode.time
        return alert

    def _evict(self) -> Iterator[Alert]:
        device, episode = self._episodes.popitem(last=False)
        if episode.id is not None:
            yield self._end(device, episode)

    def _cooling(self, episode: _Episode) -> bool:
        return episode.ended is not None and 0 <= episode.time - episode.ended < self._rules.cooldown

    def _severity(self, episode: _Episode) -> Literal["warning", "critical"]:
        return "critical" if episode.kind == "anomaly" and episode.peak >= self._rules.critical else "warning"

    def _message(self, type_: Literal["new", "update", "end"], device: str, episode: _Episode) -> Alert:
        assert episode.id
        episode.severity, episode.sent, episode.sent_peak = self._severity(episode), episode.time, episode.peak
        time = datetime.fromtimestamp(episode.time, UTC)
        return Alert(
            id=episode.id,
            type=type_,
            gateway=self._gateway,
            stream=self._stream,
            device=device,
            kind=episode.kind,
            score=round(episode.score, 4),
            peak=round(episode.peak, 4),
            severity=episode.severity,
            started=datetime.fromtimestamp(episode.started, UTC),
            time=time,
            ended=time if type_ == "end" else None,
            windows=episode.windows,
            model=self.model,
        )
