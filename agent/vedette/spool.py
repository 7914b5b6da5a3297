"""The spool: alerts that the broker has not acknowledged yet.

Rules this module keeps: alerts leave in the order in which they came; what is waiting stays within the caps, and what they cost is counted:
added = delivered + dropped + waiting; while the disk fails alerts are held in memory, under the same caps, and go to the disk when it
is back; time is an argument; one thread uses it.
"""

import heapq
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import ClassVar, NamedTuple, TypeVar

from vedette.config import SpoolLimits
from vedette.contract.errors import DiskError
from vedette.database import Database
from vedette.seals import seal, unseal

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")

_UNREAD = 1 << 48
"""Numbers begin here where the disk fails at the start: those that it holds are below."""

_CLOCK_SET = 1_760_000_000
"""No clock that was set shows a time before this version was written: what came before it was set has no age until then."""


class Outgoing(NamedTuple):
    """An alert on its way out: its topic, its payload, and of which episode it is which message: `new`, `update` or `end`."""

    topic: str
    payload: bytes
    episode: str
    type: str


class Spooled(NamedTuple):
    """An alert that waits: its number, in the order of coming, its topic and its payload."""

    number: int
    topic: str
    payload: bytes


class _Row(NamedTuple):
    number: int
    bytes: int
    episode: str
    at: float


class Spool:
    """Alerts that wait, on disk or, while that fails, in memory.

    Args:
        database: Made with this class's SCHEMA.
        limits: Caps.

    Attributes:
        newest: Number of the alert that came last; 0 before the first.
        rewinds: Grows whenever alerts may have turned up that came before some which have been sent.
        added: Alerts that came, with those that were found on disk.
        delivered: Of those, the ones that were removed.
        dropped: And those that were dropped, by reason: `spool_updates` and `spool_episodes` for want of room, `spool_age`, and
            `spool_damaged` where they were lost with a damaged file.
    """

    SCHEMA: ClassVar[str] = """
        CREATE TABLE IF NOT EXISTS alerts (
            number INTEGER PRIMARY KEY, episode TEXT NOT NULL, type TEXT NOT NULL, at REAL NOT NULL, bytes INTEGER NOT NULL,
            topic TEXT NOT NULL, payload SEALED BLOB NOT NULL);
        CREATE INDEX IF NOT EXISTS alerts_updates ON alerts (number) WHERE type = 'update';
        CREATE INDEX IF NOT EXISTS alerts_episodes ON alerts (episode);
        CREATE TABLE IF NOT EXISTS episodes (episode TEXT PRIMARY KEY, alert SEALED BLOB NOT NULL) WITHOUT ROWID;
    """

    def __init__(self, database: Database, limits: SpoolLimits) -> None:
        self.newest = self.rewinds = self.added = self.delivered = 0
        self.dropped: Counter[str] = Counter()
        self._database, self._limits = database, limits
        self._waiting = self._bytes = 0
        self._held = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._held.executescript(self.SCHEMA)
        self._holds = 0
        # Numbers and sizes of alerts that `after` gave and that are neither removed nor dropped.
        self._sent: dict[int, int] = {}
        # Numbers that are on disk still, and are to leave it with the next transaction.
        self._gone: set[int] = set()
        # What the table of open episodes has to learn of what is held; None for those that have ended.
        self._episodes: dict[str, bytes | None] = {}
        self._generation = 0
        self._missed = False

    def __len__(self) -> int:
        """Alerts that wait."""
        return self._waiting

    @property
    def held(self) -> int:
        """Of those, the ones that only memory holds."""
        return self._holds

    @property
    def unsettled(self) -> bool:
        """Whether `settle` has something to do once the disk works."""
        return bool(self._holds or self._gone or self._episodes) or self._generation != self._database.generation

    def stats(self) -> dict[str, int]:
        """Counters: `waiting`, its `bytes`, `held`, `added`, `delivered` and `dropped.REASON`."""
        return {
            "waiting": self._waiting,
            "bytes": self._bytes,
            "held": self.held,
            "added": self.added,
            "delivered": self.delivered,
            **{f"dropped.{reason}": count for reason, count in sorted(self.dropped.items())},
        }

    def keep(self, alerts: Collection[Outgoing], now: float) -> None:
        """Add alerts in a transaction of their own; hold them in memory where the disk fails. Times are epoch seconds."""
        if not alerts:
            return
        try:
            with self._database.transaction() as connection:
                self.add(connection, alerts, now)
        except DiskError:
            self.hold(alerts, now)

    def add(self, connection: sqlite3.Connection, alerts: Iterable[Outgoing], now: float) -> None:
        """Add alerts to the disk in the caller's transaction, and drop what no longer finds room. Where the transaction comes to nothing,
        nothing has changed: `hold` takes the same alerts then.

        Args:
            connection: Of the transaction.
            alerts: In order.
            now: Epoch seconds.
        """
        self.settle(connection)
        self._undo_with_transaction()
        for row in self._rows(alerts, now):
            connection.execute(_INSERT, row)
        self._write_episodes(connection)
        self._make_room([connection], now, connection)

    def hold(self, alerts: Iterable[Outgoing], now: float) -> None:
        """Add alerts to those that memory holds, and drop what no longer finds room. Now is epoch seconds."""
        if not self._generation:
            self.newest = max(self.newest, _UNREAD)
        for row in self._rows(alerts, now):
            self._held.execute(_INSERT, row)
            self._holds += 1
        self._look(lambda shelves: self._make_room(shelves, now, None))

    def expire(self, now: float) -> None:
        """Drop what has waited for too long; `add` and `hold` do so, too. Now is epoch seconds."""
        oldest = self._look(lambda shelves: next(self._in_order(shelves), None))
        if oldest is None or _CLOCK_SET <= oldest.at >= now - self._limits.age:
            return
        try:
            with self._database.transaction() as connection:
                self.settle(connection)
                self._undo_with_transaction()
                self._make_room([connection], now, connection)
        except DiskError:
            self._look(lambda shelves: self._make_room(shelves, now, None))

    def settle(self, connection: sqlite3.Connection) -> None:
        """Take over what is on disk, if the file was opened since, and bring it up to date: what is held goes there, what was removed
        leaves it. Quick where there is nothing to do.

        Args:
            connection: Of the caller's transaction.
        """
        if not self.unsettled:
            return
        self._undo_with_transaction()
        if self._generation != self._database.generation:
            self._take_over(connection)
        connection.executemany("DELETE FROM alerts WHERE number = ?", ((number,) for number in self._gone))
        self._gone = set()
        if self._holds:
            rows = self._held.execute("SELECT number, episode, type, at, bytes, topic, payload FROM alerts ORDER BY number")
            connection.executemany(_INSERT, rows)
            self._database.at_end(self._let_go)
        self._write_episodes(connection)

    def after(
        self, number: int, limit: int, besides: Collection[int] = (), may_go: Callable[[str], bool] = lambda _: True
    ) -> list[Spooled]:
        """The first `limit` alerts that came after the one with this number, but for those in `besides`, and on topics that may go."""
        query = "SELECT number, topic, payload, bytes FROM alerts WHERE number > ? ORDER BY number"

        def look(shelves: Sequence[sqlite3.Connection]) -> list[tuple[int, str, bytes, int]]:
            rows = heapq.merge(*(shelf.execute(query, (number,)) for shelf in shelves))
            return list(islice((row for row in rows if row[0] not in self._gone and row[0] not in besides and may_go(row[1])), limit))

        found: list[Spooled] = []
        for number_, topic, sealed, size in self._look(look):
            self._sent[number_] = size
            if (payload := unseal(sealed)) is not None:
                found.append(Spooled(number_, topic, payload))
            else:
                self._drop([_Row(number_, size, "", 0.0)], "spool_damaged", None)
                self.rewinds += 1  # fewer were found than there may be
        return found

    def remove(self, numbers: Iterable[int]) -> None:
        """Count alerts that `after` gave as delivered. They leave the disk with the next `settle` or `add`; one that was dropped meanwhile
        stays counted as that.
        """
        for number in numbers:
            size = self._sent.pop(number, None)
            if size is not None:
                self.delivered += 1
                self._take_off(number, size)

    def open_episodes(self) -> list[bytes]:
        """The last alert, as JSON, of every episode of which a `new` was added and no `end`."""

        def look(shelves: Sequence[sqlite3.Connection]) -> list[tuple[str, bytes]]:
            return shelves[0].execute("SELECT episode, alert FROM episodes ORDER BY episode").fetchall()

        found: dict[str, bytes | None] = {episode: unseal(sealed) for episode, sealed in self._look(look)}
        found.update(self._episodes)
        return [alert for alert in found.values() if alert is not None]

    def _look(self, look: Callable[[Sequence[sqlite3.Connection]], _Found]) -> _Found:
        """Look where alerts are: on disk, if that was taken over and can be read, and in memory."""
        if self._generation and self._generation == self._database.generation:
            try:
                with self._database.reading() as connection:
                    found = look([connection, self._held])
            except DiskError:
                pass  # what memory holds goes on; what is on disk has its turn when that is back
            else:
                self.rewinds += self._missed
                self._missed = False
                return found
        self._missed = True
        return look([self._held])

    def _rows(self, alerts: Iterable[Outgoing], now: float) -> Iterator[tuple[object, ...]]:
        """Number and count alerts; their rows."""
        for topic, payload, episode, type_ in alerts:
            self.newest += 1
            size = len(topic.encode()) + len(payload)
            self._waiting += 1
            self._bytes += size
            self.added += 1
            self._episodes[episode] = None if type_ == "end" else payload
            yield self.newest, episode, type_, now, size, topic, seal(payload)

    def _write_episodes(self, connection: sqlite3.Connection) -> None:
        for episode, alert in self._episodes.items():
            if alert is None:
                connection.execute("DELETE FROM episodes WHERE episode = ?", (episode,))
            else:
                upsert = "INSERT INTO episodes VALUES (?, ?) ON CONFLICT (episode) DO UPDATE SET alert = excluded.alert"
                connection.execute(upsert, (episode, seal(alert)))
        self._episodes = {}

    def _make_room(self, shelves: Sequence[sqlite3.Connection], now: float, disk: sqlite3.Connection | None) -> None:
        """Drop what is too old, then the oldest updates, then the oldest episodes, until the rest finds room.

        Args:
            shelves: Where to look.
            now: Epoch seconds.
            disk: If that can be written.
        """
        if now >= _CLOCK_SET:
            first = next(self._in_order(shelves), None)
            if first and first.at < _CLOCK_SET:
                for shelf in [disk] if disk else [self._held]:
                    shelf.execute("UPDATE alerts SET at = ? WHERE at < ?", (now, _CLOCK_SET))
            too_old = now - self._limits.age
            old = list(takewhile(lambda row: _CLOCK_SET <= row.at < too_old, self._in_order(shelves)))
            self._drop(old, "spool_age", disk)
        if self._over():
            self._drop(self._enough(self._in_order(shelves, "WHERE type = 'update'")), "spool_updates", disk)
        while self._over() and (oldest := next(self._in_order(shelves), None)):
            self._drop(list(self._in_order(shelves, "WHERE episode = ?", oldest.episode)), "spool_episodes", disk)

    def _over(self) -> bool:
        return self._waiting > self._limits.rows or self._bytes > self._limits.bytes

    def _enough(self, rows: Iterable[_Row]) -> list[_Row]:
        """The first of some rows, as many as have to go."""
        taken: list[_Row] = []
        count, size = self._waiting - self._limits.rows, self._bytes - self._limits.bytes
        for row in rows:
            if count <= 0 and size <= 0:
                break
            taken.append(row)
            count, size = count - 1, size - row.bytes
        return taken

    def _in_order(self, shelves: Sequence[sqlite3.Connection], where: str = "", *values: str) -> Iterator[_Row]:
        query = f"SELECT number, bytes, episode, at FROM alerts {where} ORDER BY number"  # noqa: S608 because `where` is one of this class's own
        rows = heapq.merge(*(shelf.execute(query, values) for shelf in shelves))
        return (_Row(*row) for row in rows if row[0] not in self._gone)

    def _drop(self, rows: Sequence[_Row], reason: str, disk: sqlite3.Connection | None) -> None:
        if not rows:
            return
        self.dropped[reason] += len(rows)
        for row in rows:
            self._sent.pop(row.number, None)
            if disk is None:
                self._take_off(row.number, row.bytes)
            else:
                self._waiting -= 1
                self._bytes -= row.bytes
        if disk is not None:
            disk.executemany("DELETE FROM alerts WHERE number = ?", [(row.number,) for row in rows])

    def _take_off(self, number: int, size: int) -> None:
        """Take an alert off memory, or note that it is to leave the disk."""
        self._waiting -= 1
        self._bytes -= size
        if self._holds and self._held.execute("DELETE FROM alerts WHERE number = ?", (number,)).rowcount:
            self._holds -= 1
        else:
            self._gone.add(number)

    def _take_over(self, connection: sqlite3.Connection) -> None:
        """Learn what the disk's file holds, which may be another one than before."""
        held = self._held.execute("SELECT number, bytes FROM alerts ORDER BY number").fetchall()
        newest = connection.execute("SELECT coalesce(max(number), 0) FROM alerts").fetchone()[0]
        if not self._generation and held and newest >= held[0][0]:
            _renumber(connection, held[0][0])
        # A transaction that failed may be found whole after all: its alerts are those that are held, under the same numbers.
        twice = {number: size for number, _ in held if (size := _size_on(connection, number))}
        gone = {number: size for number in self._gone if (size := _size_on(connection, number))}
        count, size = connection.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM alerts").fetchone()
        found = count - len(twice) - len(gone) - (self._waiting - self._holds)
        self._waiting += found
        self._bytes = size - sum(twice.values()) - sum(gone.values()) + sum(size for _, size in held)
        if found > 0:
            self.added += found
        elif found < 0:
            self.dropped["spool_damaged"] -= found
        self._gone = set(gone)
        self._sent = {number: size for number, size in self._sent.items() if _size_on(self._held, number) or _size_on(connection, number)}
        self.newest = max(self.newest, newest)
        self._generation = self._database.generation
        self._missed = True

    def _undo_with_transaction(self) -> None:
        """Have all that this knows put back as it is now, should the transaction come to nothing."""
        numbers = self.newest, self._waiting, self._bytes, self.added, self._generation
        dropped, sent, gone, episodes = self.dropped.copy(), self._sent.copy(), self._gone, self._episodes.copy()

        def undo(committed: bool) -> None:
            if not committed:
                self.newest, self._waiting, self._bytes, self.added, self._generation = numbers
                self.dropped, self._sent, self._gone, self._episodes = dropped, sent, gone, episodes

        self._database.at_end(undo)

    def _let_go(self, committed: bool) -> None:
        if committed:
            self._held.execute("DELETE FROM alerts")
            self._holds = 0


_INSERT = "INSERT OR REPLACE INTO alerts (number, episode, type, at, bytes, topic, payload) VALUES (?, ?, ?, ?, ?, ?, ?)"


def _size_on(shelf: sqlite3.Connection, number: int) -> int:
    """Bytes of an alert that is there; 0 where it is not."""
    row = shelf.execute("SELECT bytes FROM alerts WHERE number = ?", (number,)).fetchone()
    return row[0] if row else 0


def _renumber(connection: sqlite3.Connection, below: int) -> None:
    """Give the alerts on disk the numbers just below one, in their order."""
    numbers = [number for (number,) in connection.execute("SELECT number FROM alerts ORDER BY number")]
    # By way of numbers that nobody has.
    connection.execute("UPDATE alerts SET number = -number")
    new = range(below - len(numbers), below)
    connection.executemany(
        "UPDATE alerts SET number = ? WHERE number = ?", ((to, -number) for to, number in zip(new, numbers, strict=True))
    )
