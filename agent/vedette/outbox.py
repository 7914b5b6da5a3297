"""The way out of an alert: spool, broker, acknowledgement, and only then off the disk.

Rules this module keeps: an alert that the broker refuses stays in the spool, and those that come after it on the same topic wait behind it;
all others go on.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import msgspec

from vedette import cloudevents
from vedette.alerts import Alert
from vedette.contract.errors import DiskError
from vedette.database import Database
from vedette.spool import Outgoing, Spool, Spooled
from vedette.topics import AgentTopics

MAX_IN_FLIGHT = 20
"""Unacknowledged alerts at a time: as many as mosquitto takes by default."""

FORGET_EVERY_S = 0.05
"""Acknowledged alerts leave the disk together: a disk that has to be sure of it takes as long for one as for fifty, and alerts to come
wait meanwhile. Those that an end of the agent finds still there are sent once more, with the ids that they had.
"""

RECOVER_EVERY_S = 0.5
"""How often a disk that fails is tried again."""


RETRY_EVERY_S = 30.0
"""How often topics that the broker refuses are tried again, and no more of them than may be in flight: it is mended by hand, or never."""


class Publisher(Protocol):
    """What of the connection an outbox needs."""

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted it."""

    def publish(
        self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False, event: Sequence[tuple[str, str]] = ()
    ) -> int | None:
        """Publish; the message's id, or None if it was not sent."""

    def take_answers(self) -> Sequence[tuple[int, bool]]:
        """Ids of the messages that the broker has answered since the last call, and whether it took them."""


class Outbox:
    """Delivers alerts in order, at least once each; of those that wait while the broker is gone, as many as the spool has room for.

    Args:
        database: The spool's.
        spool: Its database is open, or fails.
        connection: To the broker.
        topics: The agent's.

    Attributes:
        spool: As given; alerts are added to it.
    """

    def __init__(self, database: Database, spool: Spool, connection: Publisher, topics: AgentTopics) -> None:
        self._database, self.spool, self._connection, self._topics = database, spool, connection, topics
        self._in_flight: dict[int, Spooled] = {}
        # In the order in which they are tried again.
        self._refused: dict[str, None] = {}
        self._retried: set[str] = set()
        self._retry_due: float | None = None
        self._retried_at = -RETRY_EVERY_S
        self._was_connected = self._is_anew = False
        self._forget_due = 0.0
        self._last_sent = 0
        self._rewinds = spool.rewinds

    def __len__(self) -> int:
        """Alerts that the broker has not acknowledged yet."""
        return len(self.spool)

    @property
    def busy(self) -> bool:
        """Whether alerts are on their way, or could be; those that the broker refuses are not."""
        return bool(self._in_flight) or self._last_sent < self.spool.newest

    def outgoing(self, alerts: Sequence[Alert]) -> list[Outgoing]:
        """Alerts as the spool takes them."""
        return [Outgoing(self._topics.alert(a.stream, a.device), msgspec.json.encode(a), a.id, a.type) for a in alerts]

    def open_alerts(self) -> list[Alert]:
        """The last message of every episode of which a `new` was told and no `end`, but for those that another version wrote in a way that
        this one cannot read.
        """
        return [alert for found in self.spool.open_episodes() if (alert := _alert(found)) is not None]

    def deliver(self, now: float) -> None:
        """Send what may be sent, and forget what was acknowledged. Never waits but for the disk.

        Args:
            now: Monotonic clock, seconds; infinity forgets at once.
        """
        for mid, taken in self._connection.take_answers():
            if alert := self._in_flight.pop(mid, None):
                self._settle_answer(alert, taken=taken)
        self._retry(now)
        self._send()
        if (self.spool.unsettled or self._database.failing) and now >= self._forget_due:
            self._settle()
            pause_s = RECOVER_EVERY_S if self._database.failing else FORGET_EVERY_S
            self._forget_due = now + pause_s if now < float("inf") else 0.0

    def _settle_answer(self, alert: Spooled, *, taken: bool) -> None:
        if taken:
            self.spool.remove([alert.number])
            if alert.topic in self._refused:
                # Something has changed: what waits behind it goes, and the others are worth another try.
                del self._refused[alert.topic]
                self._last_sent, self._retry_due = 0, 0.0
        else:
            self._refused.pop(alert.topic, None)
            self._refused[alert.topic] = None

    def _retry(self, now: float) -> None:
        """Let the first alert of some topics that were refused be sent once more: every while, and when the connection was made anew. Not
        at each new one: there are brokers that hang up on what they refuse.
        """
        connected = self._connection.connected
        self._is_anew |= connected and not self._was_connected and bool(self._refused)
        self._was_connected = connected
        if not self._refused:
            self._retry_due = None
        if not self._refused or not 0 < now < float("inf"):
            return  # a turn that is for something else does not say what time it is
        if self._retry_due is None:
            self._retry_due = now + RETRY_EVERY_S
        if connected and (now >= self._retry_due or (self._is_anew and now >= self._retried_at + RETRY_EVERY_S)):
            self._retried = set(islice(self._refused, MAX_IN_FLIGHT))
            for topic in self._retried:  # to the end of the row, even if the spool had to drop what waited there
                self._refused[topic] = self._refused.pop(topic)
            self._retried_at, self._retry_due = now, now + RETRY_EVERY_S
            self._last_sent = 0
        self._is_anew = False

    def _may_go(self, topic: str) -> bool:
        """Whether the next alert of a topic is sent now; of one that is tried again, the first alone."""
        if topic not in self._refused:
            return True
        if topic not in self._retried:
            return False
        self._retried.discard(topic)
        return True

    def _settle(self) -> None:
        if self._database.failing and not self._database.recover():
            return
        try:
            with self._database.transaction() as connection:
                self.spool.settle(connection)
        except DiskError:
            return  # said in `failing`; the spool has kept what is to be done

    def _send(self) -> None:
        room = MAX_IN_FLIGHT - len(self._in_flight)
        if room <= 0 or self._last_sent >= self.spool.newest or not self._connection.connected:
            return
        newest, besides = self.spool.newest, {alert.number for alert in self._in_flight.values()}
        waiting = self.spool.after(self._last_sent, room, besides, self._may_go)
        if self._rewinds != self.spool.rewinds:
            self._rewinds = self.spool.rewinds
            waiting = self.spool.after(0, room, besides, self._may_go)
        for alert in waiting:
            mid = self._connection.publish(alert.topic, alert.payload, qos=1, event=cloudevents.attributes(alert.payload))
            if mid is None:
                return
            self._in_flight[mid] = alert
            self._last_sent = alert.number
        if len(waiting) < room:
            self._last_sent = newest  # past those that may not go


def _alert(found: bytes) -> Alert | None:
    try:
        return msgspec.json.decode(found, type=Alert)
    except msgspec.MsgspecError:
        return None
