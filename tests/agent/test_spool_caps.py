"""What waits stays within the caps, whatever comes, goes and fails, as a spool in plain lists has it."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spools import NOW, opened_spool, outgoing
from vedette.config import SpoolLimits
from vedette.contract.durations import Duration, Size
from vedette.contract.errors import DiskError
from vedette.database import Database
from vedette.spool import Outgoing, Spool

AGE_S = 1000.0


class Waiting(NamedTuple):
    """An alert that waits, as the model has it."""

    number: int
    alert: Outgoing
    at: float

    @property
    def bytes(self) -> int:
        return len(self.alert.topic) + len(self.alert.payload)


class Model:
    """A spool in plain lists, which looks at everything each time."""

    def __init__(self, limits: SpoolLimits) -> None:
        self._limits = limits
        self.waiting: list[Waiting] = []
        self.episodes: dict[str, bytes] = {}
        self.dropped: Counter[str] = Counter()
        self.added = self.delivered = 0

    def add(self, alerts: list[Outgoing], now: float) -> None:
        for alert in alerts:
            self.added += 1
            self.waiting.append(Waiting(self.added, alert, now))
            if alert.type == "end":
                self.episodes.pop(alert.episode, None)
            else:
                self.episodes[alert.episode] = alert.payload
        self.make_room(now)

    def make_room(self, now: float) -> None:
        while self.waiting and self.waiting[0].at < now - AGE_S:
            self._drop(self.waiting[0], "spool_age")
        while self._over() and (updates := [each for each in self.waiting if each.alert.type == "update"]):
            self._drop(updates[0], "spool_updates")
        while self._over():
            for each in [each for each in self.waiting if each.alert.episode == self.waiting[0].alert.episode]:
                self._drop(each, "spool_episodes")

    def remove(self, numbers: list[int]) -> None:
        before = len(self.waiting)
        self.waiting = [each for each in self.waiting if each.number not in numbers]
        self.delivered += before - len(self.waiting)

    def _over(self) -> bool:
        return len(self.waiting) > self._limits.rows or sum(each.bytes for each in self.waiting) > self._limits.bytes

    def _drop(self, each: Waiting, reason: str) -> None:
        self.waiting.remove(each)
        self.dropped[reason] += 1


class BreakableDatabase(Database):
    """One whose disk can be taken away: what was written in a transaction is undone at its end."""

    broken = False

    @contextmanager
    def transaction(self) -> Iterator:  # type: ignore[type-arg]  # because its parent's is so
        with super().transaction() as connection:
            yield connection
            if self.broken:
                raise DiskError("broken for a test")


ALERTS = st.lists(
    st.builds(
        outgoing,
        episode=st.sampled_from("abcde"),
        type_=st.sampled_from(["new", "update", "update", "end"]),
        payload=st.binary(max_size=300),
    ),
    max_size=8,
)


class SpoolBesideModel(RuleBasedStateMachine):
    """Adds, deliveries, time, failing disks and restarts."""

    @initialize(rows=st.integers(1, 12), size=st.integers(4096, 5000), small=st.booleans())
    def begin(self, rows: int, size: int, small: bool) -> None:
        self.limits = SpoolLimits(rows=rows if small else 1000, bytes=Size(size), age=Duration(AGE_S))
        self.folder = tempfile.TemporaryDirectory(prefix="vedette-spool-")
        self.database = BreakableDatabase(Path(self.folder.name) / "spool.db", Spool.SCHEMA)
        assert self.database.open() is None
        self.spool = Spool(self.database, self.limits)
        self.settle()
        self.model = Model(self.limits)
        self.now = NOW
        self.in_flight: list[int] = []

    def settle(self) -> None:
        with self.database.transaction() as connection:
            self.spool.settle(connection)

    @rule(alerts=ALERTS)
    def add(self, alerts: list[Outgoing]) -> None:
        self.spool.keep(alerts, self.now)
        if alerts:
            self.model.add(alerts, self.now)

    @rule(first=ALERTS, second=ALERTS)
    def add_twice_in_one_transaction(self, first: list[Outgoing], second: list[Outgoing]) -> None:
        try:
            with self.database.transaction() as connection:
                self.spool.add(connection, first, self.now)
                self.spool.add(connection, second, self.now)
        except DiskError:
            self.spool.hold(first, self.now)
            self.spool.hold(second, self.now)
        self.model.add(first, self.now)
        self.model.add(second, self.now)

    @rule(seconds=st.sampled_from([1.0, 100.0, 600.0, 2000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.spool.expire(self.now)
        self.model.make_room(self.now)

    @rule(count=st.integers(1, 5))
    def send(self, count: int) -> None:
        after = self.in_flight[-1] if self.in_flight else 0
        sent = [alert.number for alert in self.spool.after(after, count)]
        assert sent == [number for number in self.waiting() if number > after][:count]
        self.in_flight += sent

    @rule(count=st.integers(1, 5))
    def acknowledge(self, count: int) -> None:
        """Also of what was dropped in flight."""
        numbers, self.in_flight = self.in_flight[:count], self.in_flight[count:]
        self.spool.remove(numbers)
        self.model.remove(numbers)

    @rule()
    def forget(self) -> None:
        if not self.database.broken:
            self.settle()
            assert not self.spool.unsettled

    @rule()
    def break_disk(self) -> None:
        self.database.broken = True

    @rule()
    def mend_disk(self) -> None:
        self.database.broken = False
        self.settle()
        assert self.spool.held == 0

    @rule()
    def restart(self) -> None:
        if self.database.broken or self.spool.unsettled:
            return
        self.database.close()
        assert self.database.open() is None
        before = self.spool.stats()
        self.spool = Spool(self.database, self.limits)
        self.settle()
        self.spool.newest = max(self.spool.newest, self.model.added)
        assert self.spool.stats()["waiting"] == before["waiting"]
        self.spool.added, self.spool.delivered = self.model.added, self.model.delivered
        self.spool.dropped = self.model.dropped.copy()
        self.in_flight = []

    def waiting(self) -> list[int]:
        return [each.number for each in self.model.waiting]

    @invariant()
    def what_waits_is_the_same(self) -> None:
        found = self.spool.after(0, 10_000)
        assert [(each.number, each.payload) for each in found] == [(each.number, each.alert.payload) for each in self.model.waiting]
        assert sorted(self.spool.open_episodes()) == sorted(self.model.episodes.values())
        assert self.spool.stats() == {
            "waiting": len(self.model.waiting),
            "bytes": sum(each.bytes for each in self.model.waiting),
            "held": self.spool.held,
            "added": self.model.added,
            "delivered": self.model.delivered,
            **{f"dropped.{reason}": count for reason, count in sorted(self.model.dropped.items())},
        }
        assert self.spool.added == self.spool.delivered + self.spool.dropped.total() + len(self.spool)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()


SpoolBesideModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestSpoolBesideModel = SpoolBesideModel.TestCase


@pytest.mark.parametrize("keep", [Spool.keep, Spool.hold], ids=["on disk", "in memory"])
def test_updates_go_before_any_end_or_new(tmp_path: Path, keep: Callable[[Spool, list[Outgoing], float], None]) -> None:
    with opened_spool(tmp_path, SpoolLimits(rows=4)) as spool:
        coming = [outgoing("a"), outgoing("a", "update"), outgoing("b"), outgoing("a", "end"), outgoing("b", "update"), outgoing("c")]
        keep(spool, coming, NOW)
        assert [alert.topic for alert in spool.after(0, 10)] == ["t/a", "t/b", "t/a", "t/c"]
        keep(spool, [outgoing("d")], NOW)
        assert [alert.topic for alert in spool.after(0, 10)] == ["t/b", "t/c", "t/d"], "then the oldest episode, all of it"
        assert spool.dropped == {"spool_updates": 2, "spool_episodes": 2}


def test_alerts_of_a_clock_that_was_not_set_are_not_too_old_once_it_is(tmp_path: Path) -> None:
    with opened_spool(tmp_path) as spool:
        spool.keep([outgoing("a")], 50.0)
        spool.expire(NOW)
        assert len(spool) == 1
        spool.expire(NOW + 6 * 86400)
        assert len(spool) == 1
        spool.expire(NOW + 8 * 86400)
        assert spool.dropped == {"spool_age": 1}


def test_an_alert_that_is_no_longer_what_was_written_is_dropped_and_counted(tmp_path: Path) -> None:
    with opened_spool(tmp_path) as spool:
        spool.keep([outgoing("a"), outgoing("b", payload=b"whole")], NOW)
        with spool._database.transaction() as connection:
            connection.execute("UPDATE alerts SET payload = x'00000000ff' WHERE number = 1")
        assert [alert.payload for alert in spool.after(0, 10)] == [b"whole"]
        assert spool.dropped == {"spool_damaged": 1}


def test_alerts_lost_with_a_damaged_file_are_counted(tmp_path: Path) -> None:
    with opened_spool(tmp_path) as spool:
        database = spool._database
        spool.keep([outgoing("a"), outgoing("b")], NOW)
        spool.hold([outgoing("c")], NOW)
        database.close()
        (tmp_path / "spool.db").write_bytes(b"")
        assert database.open()
        with database.transaction() as connection:
            spool.settle(connection)
        assert [alert.topic for alert in spool.after(0, 10)] == ["t/c"]
        assert spool.dropped == {"spool_damaged": 2}
        assert spool.added == spool.dropped.total() + len(spool)
