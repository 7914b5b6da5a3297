"""The way out of an alert: spool, broker, acknowledgement, and only then off the disk."""

from collections.abc import Sequence

import msgspec

from vedette.alerts import Alert
from vedette.mqtt import Connection
from vedette.spool import Spool
from vedette.topics import AgentTopics

MAX_IN_FLIGHT = 20
"""Unacknowledged alerts at a time: as many as mosquitto takes by default."""


FORGET_EVERY_S = 0.5
"""Acknowledged alerts leave the disk together: a disk that has to be sure of it takes as long for one as for fifty, and alerts to come
wait meanwhile. Those that an end of the agent finds still there are sent once more, with the ids that they had.
"""


class Outbox:
    """Delivers alerts in order, at least once each.

    Args:
        spool: Open.
        connection: To the broker.
        topics: The agent's.
    """

    def __init__(self, spool: Spool, connection: Connection, topics: AgentTopics) -> None:
        self._spool, self._connection, self._topics = spool, connection, topics
        self._in_flight: dict[int, int] = {}
        self._acknowledged: list[int] = []
        self._forget_due = 0.0
        self._last_sent = 0

    def __len__(self) -> int:
        """Alerts that the broker has not acknowledged yet."""
        return len(self._spool) - len(self._acknowledged)

    def add(self, alerts: Sequence[Alert]) -> None:
        """Put alerts on disk."""
        if alerts:
            self._spool.add((self._topics.alert(a.stream, a.device), msgspec.json.encode(a)) for a in alerts)

    def deliver(self, now: float) -> None:
        """Send what may be sent, and forget what was acknowledged. Never waits but for the disk.

        Args:
            now: Monotonic clock, seconds; infinity forgets at once.
        """
        self._acknowledged += [n for mid in self._connection.take_delivered() if (n := self._in_flight.pop(mid, None)) is not None]
        self._send()
        if self._acknowledged and now >= self._forget_due:
            self._spool.remove(self._acknowledged)
            self._acknowledged.clear()
            self._forget_due = now + FORGET_EVERY_S if now < float("inf") else 0.0

    def _send(self) -> None:
        room = MAX_IN_FLIGHT - len(self._in_flight)
        if room <= 0 or self._last_sent >= self._spool.newest or not self._connection.connected:
            return
        for alert in self._spool.after(self._last_sent, room):
            mid = self._connection.publish(alert.topic, alert.payload, qos=1)
            if mid is None:
                return
            self._in_flight[mid] = alert.number
            self._last_sent = alert.number
