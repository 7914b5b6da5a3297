"""The way out of an alert: spool, broker, acknowledgement, and only then off the disk."""

from collections.abc import Sequence

import msgspec

from vedette.alerts import Alert
from vedette.mqtt import Connection
from vedette.spool import Spool
from vedette.topics import AgentTopics

MAX_IN_FLIGHT = 20
"""Unacknowledged alerts at a time: as many as mosquitto takes by default."""


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
        self._last_sent = 0

    def __len__(self) -> int:
        """Alerts that the broker does not have yet."""
        return len(self._spool)

    def add(self, alerts: Sequence[Alert]) -> None:
        """Put alerts on disk."""
        if alerts:
            self._spool.add((self._topics.alert(a.stream, a.device), msgspec.json.encode(a)) for a in alerts)

    def deliver(self) -> None:
        """Forget what was acknowledged and send what may be sent. Never waits."""
        if acknowledged := [n for mid in self._connection.take_delivered() if (n := self._in_flight.pop(mid, None)) is not None]:
            self._spool.remove(acknowledged)
        room = MAX_IN_FLIGHT - len(self._in_flight)
        if room <= 0 or self._last_sent >= self._spool.newest or not self._connection.connected:
            return
        for alert in self._spool.after(self._last_sent, room):
            mid = self._connection.publish(alert.topic, alert.payload, qos=1)
            if mid is None:
                return
            self._in_flight[mid] = alert.number
            self._last_sent = alert.number
