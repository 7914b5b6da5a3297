"""A device's present state as subscribers see it, retained: its latest score and its alert, with what the alert is about.

Rules this module keeps: a state says what is so, whatever became of the agent meanwhile: one that shows an alert is noted on disk before it
is published, and corrected by whichever process comes next; states are published at most so often for each device, and so many at a time;
an alert that begins or ends is shown soon, whether the device sends something or not.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from vedette.alerts import Alert
from vedette.alerts.alert import Kind, Severity
from vedette.detector import Cause
from vedette.pipeline import Pipeline
from vedette.retained import Left, Retained
from vedette.stream import Scored
from vedette.topics import AgentTopics

LOOK_EVERY_S = 0.5
"""How soon an alert that begins or ends without a score is shown."""

MOST_AT_ONCE = 100
"""States that one look publishes: ten thousand devices that fall silent together are shown within a minute, and hold up nothing."""

Key = tuple[str, str]
"""A stream and a device; an empty device is the stream as a whole."""


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON on a device's state topic, and on a stream's.

    Attributes:
        score: The latest; null where none is known, and for a stream that has no alert.
        time: Its event time, epoch seconds; null with the score.
        alert: An open alert's id or null; with an alert, all that follows is there.
        kind: The alert's, as is `severity`.
        started: When the alert began.
        explanation: As the alert's last message has it.
        devices: Of an alert about many devices: how many.
    """

    score: float | None
    time: float | None
    alert: str | None
    kind: Kind | UnsetType = UNSET
    severity: Severity | UnsetType = UNSET
    started: datetime | UnsetType = UNSET
    explanation: tuple[Cause, ...] | UnsetType = UNSET
    devices: int | UnsetType = UNSET


class Publisher(Protocol):
    """What of the connection a board needs."""

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False) -> int | None:
        """Publish; None if it was not sent."""


class _Latest(NamedTuple):
    """A device's latest score that was published: when, on the monotonic clock, and what."""

    published: float
    time: float | None
    score: float | None


class StateBoard:
    """Publishes states.

    Args:
        every_s: A device's state at most this often, and at once when its alert begins or ends; 0 is never.
        max_devices: Cap on devices whose last score is kept.
        topics: The agent's.
        retained: Knows which states show an alert.
        connection: To the broker.
        surely_s: What was published so long ago has arrived, if the connection still stands.
    """

    def __init__(
        self, every_s: float, max_devices: int, topics: AgentTopics, retained: Retained, connection: Publisher, surely_s: float
    ) -> None:
        self._every_s, self._max_devices, self._topics = every_s, max_devices, topics
        self._retained, self._connection, self._surely_s = retained, connection, surely_s
        self._latest: OrderedDict[Key, _Latest] = OrderedDict()
        self._told: dict[str, Alert] = {}
        self._foreign: dict[str, float] = {}  # topics that nobody will correct any more, and when they were emptied; infinite for not yet
        # What the retained states show: an alert's id; None for no alert, until that has surely arrived; "?" where nobody knows.
        self._shown: dict[Key, str | None] = {}
        self._cleared: dict[Key, float] = {}
        self._gone: set[Key] = set()  # of those that have an alert
        self._look_due = -math.inf

    def resume(self, alerts: Iterable[Alert], streams: Collection[str]) -> None:
        """Go on where the last process ended.

        Args:
            alerts: The last message of each that is open.
            streams: Names of those that are configured; the states of others are removed.
        """
        self._told = {alert.id: alert for alert in alerts}
        for left in self._retained.of("state"):
            key = left.stream, left.device
            if self._every_s and left.stream in streams and left.topic == self._topics.state(*key):
                self._shown[key] = "?"
            else:
                self._foreign[left.topic] = math.inf

    def hear(self, alerts: Iterable[Alert]) -> None:
        """Take note of what is told."""
        for alert in alerts:
            if alert.type == "end":
                self._told.pop(alert.id, None)
            else:
                self._told[alert.id] = alert

    def reconnected(self) -> None:
        """What was on its way may be lost, and so may be what the broker kept."""
        self._shown = dict.fromkeys(self._shown, "?")
        self._foreign = dict.fromkeys(self._foreign, math.inf)
        self._cleared.clear()

    def publish_scored(self, scored: Sequence[Scored], changed: Iterable[Key], pipeline: Pipeline, now: float) -> list[Key]:
        """Publish the state of each device of a batch that is due.

        Args:
            scored: The batch's scores.
            changed: Whose alert has begun or ended.
            pipeline: Knows which alerts are open.
            now: Monotonic clock, seconds.

        Returns:
            Whose were due.
        """
        if not self._every_s:
            return []
        at_once = set(changed)
        due: list[Key] = []
        for stream, devices, times, scores in scored:
            for device, window in dict(zip(devices, range(len(devices)), strict=True)).items():
                key = stream, device
                last = self._latest.get(key)
                if last is None or now - last.published >= self._every_s or key in at_once:
                    self._latest[key] = _Latest(now, float(times[window]), round(float(scores[window]), 4))
                    self._latest.move_to_end(key)
                    due.append(key)
        while len(self._latest) > self._max_devices:
            self._latest.popitem(last=False)
        self._gone.difference_update(due)
        self._publish({key: pipeline.open_alert(*key) for key in due}, now)
        return due

    def look(self, pipeline: Pipeline, now: float) -> None:
        """Show the alerts that have begun or ended without a score. Quick where there are none. Only while connected.

        Args:
            pipeline: Knows which alerts are open.
            now: Monotonic clock, seconds.
        """
        if now < self._look_due:
            return
        self._look_due = now + LOOK_EVERY_S
        self._take_back(now)
        wanted = pipeline.open_devices() if self._every_s else {}
        self._gone &= wanted.keys()
        begun = (key for key, id_ in wanted.items() if self._shown.get(key) != id_ and key not in self._gone)
        over = (key for key, id_ in self._shown.items() if id_ is not None and key not in wanted)
        self._publish({key: wanted.get(key) for key in [*islice(begun, MOST_AT_ONCE), *islice(over, MOST_AT_ONCE)]}, now)
        arrived = [key for key, since in self._cleared.items() if now - since >= self._surely_s]
        for key in arrived:
            del self._cleared[key], self._shown[key]
        self._retained.forget(self._topics.state(*key) for key in arrived)
        self._retained.settle()

    def show(self, key: Key, pipeline: Pipeline, now: float) -> None:
        """Publish a state whether it is due or not."""
        self._publish({key: pipeline.open_alert(*key)}, now)

    def remove(self, key: Key) -> None:
        """Show nothing of a device that is gone, though it may have an alert, until it is scored again."""
        self._gone.add(key)
        self._latest.pop(key, None)
        self._cleared.pop(key, None)
        if key in self._shown:
            del self._shown[key]
            self._foreign[self._topics.state(*key)] = math.inf

    def _publish(self, alerts: Mapping[Key, str | None], now: float) -> None:
        showing = [key for key, id_ in alerts.items() if id_ is not None and key not in self._shown]
        if showing:
            self._retained.note(Left(topic, "state", *key, state=topic) for key in showing if (topic := self._topics.state(*key)))
            self._retained.settle()
        for key, id_ in alerts.items():
            payload = msgspec.json.encode(self._state(key, id_))
            topic = self._topics.state(*key)
            self._foreign.pop(topic, None)
            is_sent = self._connection.publish(topic, payload, retain=True) is not None
            if id_ is not None or key in self._shown:
                self._shown[key] = id_ if is_sent else "?"
                self._cleared.pop(key, None)
                if id_ is None and is_sent:
                    self._cleared[key] = now

    def _state(self, key: Key, id_: str | None) -> DeviceState:
        told = self._told.get(id_) if id_ else None
        latest = self._latest.get(key)
        time, score = (latest.time, latest.score) if latest else (None, None)
        if told is None:
            return DeviceState(score=score, time=time, alert=id_)
        if not key[1]:
            time, score = told.time.timestamp(), told.score
        return DeviceState(
            score=score,
            time=time,
            alert=id_,
            kind=told.kind,
            severity=told.severity,
            started=told.started,
            explanation=told.explanation,
            devices=told.devices,
        )

    def _take_back(self, now: float) -> None:
        """Remove the states that an earlier configuration has left: of streams that are no more, under another name of the gateway."""
        for topic, since in list(self._foreign.items()):
            if now - since >= self._surely_s:
                del self._foreign[topic]
                self._retained.forget([topic])
            elif math.isinf(since) and self._connection.publish(topic, b"", retain=True) is not None:
                self._foreign[topic] = now
