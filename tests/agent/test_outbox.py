"""The way out, where the disk or the broker comes and goes."""

import random
from contextlib import closing
from pathlib import Path

from chaos.spooled import GoneBroker
from spools import NOW, outgoing, settled
from vedette.config import SpoolLimits
from vedette.database import Database
from vedette.outbox import FORGET_EVERY_S, MAX_IN_FLIGHT, Outbox
from vedette.spool import Spool
from vedette.topics import AgentTopics


class Patient(random.Random):
    """Never full, and acknowledges nothing until it is told to."""

    acknowledges = 0

    def random(self) -> float:
        return 1.0

    def randint(self, a: int, b: int) -> int:
        return min(b, self.acknowledges)


class Way:
    """A spool, an outbox and a broker that acknowledges on request."""

    def __init__(self, folder: Path, limits: SpoolLimits | None = None, *, opened: bool = True) -> None:
        self.database = Database(folder / "spool.db", Spool.SCHEMA)
        self.spool = Spool(self.database, limits or SpoolLimits())
        if opened:
            assert self.database.open() is None
            settled(self.spool, self.database)
        self.broker = GoneBroker(Patient())
        self.broker.connected = True
        self.outbox = Outbox(self.database, self.spool, self.broker, AgentTopics("vedette", "gw"))
        self._now = 0.0

    def keep(self, *payloads: bytes, type_: str = "new") -> None:
        self.spool.keep([outgoing(payload.decode(), type_, payload) for payload in payloads], NOW)

    def deliver(self, acknowledged: int = 0) -> list[bytes]:
        """A turn, once it is time to forget; all that the broker has had so far."""
        Patient.acknowledges = acknowledged
        self._now += FORGET_EVERY_S
        self.outbox.deliver(self._now)
        return self.broker.payloads


def test_no_more_than_the_broker_takes_are_in_flight(tmp_path: Path) -> None:
    way = Way(tmp_path)
    with closing(way.database):
        numbers = [b"%d" % number for number in range(50)]
        way.keep(*numbers)
        assert way.deliver() == numbers[:MAX_IN_FLIGHT]
        assert way.deliver(acknowledged=5) == numbers[: MAX_IN_FLIGHT + 5]
        assert len(way.outbox) == 45


def test_an_alert_that_is_dropped_in_flight_confuses_nothing(tmp_path: Path) -> None:
    way = Way(tmp_path, SpoolLimits(rows=3))
    with closing(way.database):
        way.keep(b"1", b"2", b"3")
        assert way.deliver() == [b"1", b"2", b"3"]
        way.keep(b"4", b"5")
        assert way.spool.dropped == {"spool_episodes": 2}
        assert way.deliver(acknowledged=3) == [b"1", b"2", b"3", b"4", b"5"]
        way.deliver(acknowledged=9)
        assert way.spool.stats() == {"waiting": 0, "bytes": 0, "held": 0, "added": 5, "delivered": 3, "dropped.spool_episodes": 2}


def test_alerts_found_when_a_disk_comes_back_are_sent_before_the_rest_and_none_twice(tmp_path: Path) -> None:
    before = Way(tmp_path)
    with closing(before.database):
        before.keep(b"old 1", b"old 2")
    way = Way(tmp_path, opened=False)
    way.database.failing = "the disk fails: for a test"
    way.spool.hold([outgoing(str(number), payload=b"%d" % number) for number in range(30)], NOW)
    way.outbox._forget_due = 10.0
    sent = [b"%d" % number for number in range(MAX_IN_FLIGHT)]
    assert way.deliver() == sent
    assert way.database.open() is None
    way.outbox._forget_due = 0.0
    with closing(way.database):
        way.deliver()
        sent += [b"old 1", b"old 2", b"20"]
        assert way.deliver(acknowledged=3) == sent
        sent += [b"%d" % number for number in range(21, 30)]
        assert way.deliver(acknowledged=20) == sent
        way.deliver(acknowledged=20)
        assert len(way.outbox) == 0
        assert way.spool.delivered == 32
    again = Way(tmp_path)
    with closing(again.database):
        assert len(again.outbox) == 0
