"""The journal: what arrived, as it arrived, and now and then all that the engine remembers.

The same messages in the same order give the same alerts, wherever batches end. So a checkpoint and the messages after it are the engine's
state: taking them through it once more brings it to where it was. Rules this module keeps: messages are numbered in the order in which
they are taken; what the file holds of them has no gap behind its checkpoint; passing time is written down where it called for alerts,
because nothing else in the journal would call for them again, and so is time in which nothing could be heard.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from sqlite3 import Connection
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from vedette.contract.errors import DiskError
from vedette.contract.readings import Message
from vedette.database import Database
from vedette.packets import Burst
from vedette.seals import seal, unseal

Durability = Literal["full", "periodic", "memory"]

RECENT = 4096
"""Messages that are known to have been taken when the broker sends them again. It has fewer unacknowledged at a time."""

MAX_PENDING_BYTES = 8 * 1024**2
"""Of messages that are not on disk yet: what memory holds while the disk fails, or between two writings of `periodic`."""

_NEVER = 2**62
"""A number that no message has."""

_OVERHEAD = 40
"""Bytes of a message beside topic and payload, about."""


class Tick(NamedTuple):
    """Time passed and called for alerts, or passed unheard.

    Attributes:
        after: The message of this number.
        now: Epoch seconds.
        unheard_since: Nothing could be heard of any device from then on; 0 is since the last message, None is that all could.
    """

    after: int
    now: float
    unheard_since: float | None = None


class Past(NamedTuple):
    """What the journal holds.

    Attributes:
        number: Of the last message that the state knows.
        state: Of the checkpoint; None before the first.
        told: Alerts that messages up to this number called for are in the spool, or have been delivered.
        messages: All after `number`.
        ticks: All since, in order.
    """

    number: int
    state: bytes | None
    told: int
    messages: list[Message]
    ticks: list[Tick]


class _Entry(NamedTuple):
    """A burst's messages; `last` is the number of the last."""

    last: int
    messages: Sequence[Message]
    ids: Sequence[int]


class _Saved(msgspec.Struct, array_like=True):
    """An entry's bytes in the file, without its number."""

    messages: list[Message]
    ids: list[int]


class Journal:
    """Numbers messages and keeps them until a checkpoint holds what they came to.

    Args:
        database: Made with this class's SCHEMA.
        durability: `full` has what is to be acknowledged on disk when `take` returns, and all else when `flush` does; `periodic` all of it
            when `flush` does; `memory` keeps checkpoints alone.

    Attributes:
        last: Number of the last message that was taken.
        granted: Subscriptions that the broker was last known to have granted.
        needs_checkpoint: There is a gap: until the next checkpoint nothing more is written.
        bytes: About how much was taken since the last checkpoint.
    """

    SCHEMA: ClassVar[str] = """
        CREATE TABLE IF NOT EXISTS arrived (last INTEGER PRIMARY KEY, burst SEALED BLOB NOT NULL);
        CREATE TABLE IF NOT EXISTS ticks (number INTEGER PRIMARY KEY, tick SEALED BLOB NOT NULL);
        CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, mark SEALED BLOB NOT NULL);
        CREATE TABLE IF NOT EXISTS checkpoint (number INTEGER PRIMARY KEY, state SEALED BLOB NOT NULL);
    """

    def __init__(self, database: Database, durability: Durability) -> None:
        self._database, self._durability = database, durability
        self._lock = threading.Lock()  # both threads have to do with what waits
        self._pending: list[_Entry] = []
        self._pending_bytes = 0
        self._recent: deque[_Entry] = deque()
        self._recent_count = 0
        self._generation = 0
        self._gap_end = 0
        self.needs_checkpoint = False
        self.last = self.bytes = 0
        self.granted: Sequence[tuple[str, int]] = []

    def resume(self) -> Past:
        """What the file holds; from now on messages are numbered behind it.

        Raises:
            DiskError: it cannot be read. Once it can be written, a checkpoint takes its place.
        """
        past, entries, self.granted = self._read()
        self._generation = self._database.generation
        self.last = max([past.number, *(entry.last for entry in entries)])
        for entry in entries:
            self._remember(entry)
        return past

    def past(self) -> Past:
        """What is known of messages so far, with those that are on their way to the disk.

        Raises:
            DiskError: the file cannot be read, or is not the one that this began with.
        """
        if self.needs_checkpoint or self._generation != self._database.generation:
            raise DiskError("what the journal holds has a gap")
        return self._read()[0]

    def _read(self) -> tuple[Past, list[_Entry], list[tuple[str, int]]]:
        with self._database.reading() as connection:
            number, state = connection.execute("SELECT number, state FROM checkpoint").fetchone() or (0, None)
            rows = connection.execute("SELECT last, burst FROM arrived ORDER BY last").fetchall()
            ticks = [_decoded(tick, Tick) for (tick,) in connection.execute("SELECT tick FROM ticks ORDER BY number")]
            marks = {name: _decoded(mark, Any) for name, mark in connection.execute("SELECT name, mark FROM marks")}
            entries = [_Entry(last, *msgspec.structs.astuple(_decoded(burst, _Saved))) for last, burst in rows] + self._pending
        granted = [(name, qos) for name, qos in marks.get("granted", [])]
        messages = [m for e in entries for m in e.messages[max(0, number - e.last + len(e.messages)) :] if e.last > number]
        return Past(number, None if state is None else unseal(state), marks.get("told", 0), messages, ticks), entries, granted

    def take(self, burst: Burst) -> None:
        """Number a burst's messages and keep them, on disk if the broker waits for that. Called by the network's thread."""
        self.last += len(burst.messages)
        entry = _Entry(self.last, burst.messages, burst.ids)
        self._remember(entry)
        if self._durability == "memory":
            return
        size = _size(entry)
        self.bytes += size
        with self._lock:
            self._pending_bytes += size
            self._pending.append(entry)
        if (self._durability == "full" and any(burst.ids)) or self._pending_bytes > MAX_PENDING_BYTES:
            self.flush()
        if self._pending_bytes > MAX_PENDING_BYTES:
            self._begin_gap(self.last)

    def flush(self) -> None:
        """Put on disk what was taken; while the disk fails it is kept, as far as there is room."""
        if not self._pending:
            return
        with contextlib.suppress(DiskError), self.transaction():
            pass

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of the database that puts on disk, too, what was taken up to now.

        Raises:
            DiskError: the disk fails.
        """
        with self._database.transaction() as connection:
            self._look_at_file()
            if not self.needs_checkpoint:
                self._write(connection)
            yield connection

    def mark_told(self, connection: Connection, number: int) -> None:
        """Note in a transaction that it holds the alerts which messages up to this number called for."""
        _mark(connection, "told", number)

    def mark_tick(self, connection: Connection, tick: Tick) -> None:
        """Note how time passed, in a transaction that holds the alerts which that called for."""
        connection.execute("INSERT INTO ticks (tick) VALUES (?)", (seal(msgspec.msgpack.encode(tick)),))

    def checkpoint(self, number: int, state: bytes) -> None:
        """Replace what is behind by the engine's state after the message of this number.

        Raises:
            DiskError: the disk fails; all is as it was.
        """
        with self._database.transaction() as connection:
            self._look_at_file()
            if number < self._gap_end:
                return  # messages between it and those that are kept are gone: later
            connection.execute("DELETE FROM checkpoint")
            connection.execute("INSERT INTO checkpoint VALUES (?, ?)", (number, seal(state)))
            # Behind a gap, what the file holds may be numbered in another way.
            keeps_none = self.needs_checkpoint or self._durability == "memory"
            connection.execute("DELETE FROM arrived WHERE last <= ?", (_NEVER if keeps_none else number - RECENT,))
            connection.execute("DELETE FROM ticks")
            self.mark_told(connection, number)
            self._write(connection, behind=number - RECENT)
            self._database.at_end(self._close_gap)

    def forget_checkpoint(self) -> None:
        """Where only an orderly end saves anything, what the last one saved holds until the first message after it."""
        try:
            with self._database.transaction() as connection:
                for table in ("checkpoint", "arrived", "ticks"):
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608 because the names are the ones in this line
        except DiskError:
            return  # it is said elsewhere; the next start would go on from an older state, as after a power cut

    def without_repeats(self, burst: Burst) -> Burst:
        """A burst without messages that were taken before and that the broker sends again, because it has no acknowledgement of them."""
        if not burst.again:
            return burst
        known = {id_: message for entry in self._recent for id_, message in zip(entry.ids, entry.messages, strict=True) if id_}
        repeated = {
            position
            for position in burst.again
            if (before := known.get(burst.ids[position])) and before[:2] == burst.messages[position][:2]
        }
        kept = [position for position in range(len(burst.messages)) if position not in repeated]
        return Burst([burst.messages[p] for p in kept], [burst.ids[p] for p in kept], [])

    def begin(self) -> None:
        """The broker has no session: its packet ids begin anew."""
        self._recent.clear()
        self._recent_count = 0
        self.grant([])

    def grant(self, subscriptions: Sequence[tuple[str, int]]) -> None:
        """The broker has granted these."""
        self.granted = list(subscriptions)
        try:
            with self._database.transaction() as connection:
                _mark(connection, "granted", self.granted)
        except DiskError:
            return  # after a restart it is asked for them once more, which does no harm

    def _remember(self, entry: _Entry) -> None:
        self._recent.append(entry)
        self._recent_count += len(entry.messages)
        while self._recent_count - len(self._recent[0].messages) > RECENT:
            self._recent_count -= len(self._recent.popleft().messages)

    def _write(self, connection: Connection, behind: int = 0) -> None:
        """Put what waits into the file, but for entries that end before a number; once that is committed they wait no more."""
        waiting = list(self._pending)
        if not waiting:
            return
        rows = [(e.last, seal(msgspec.msgpack.encode((e.messages, e.ids)))) for e in waiting if e.last > behind]
        connection.executemany("INSERT OR REPLACE INTO arrived VALUES (?, ?)", rows)

        def end(committed: bool) -> None:
            if committed:
                self._forget(waiting[-1].last)

        self._database.at_end(end)

    def _forget(self, last: int) -> None:
        """Let go of what waits, up to a number."""
        with self._lock:
            self._pending[:] = [entry for entry in self._pending if entry.last > last]
            self._pending_bytes = sum(map(_size, self._pending))

    def _look_at_file(self) -> None:
        """Another file than before knows nothing of the messages before those that wait."""
        if self._generation != self._database.generation:
            self._generation = self._database.generation
            if self._durability != "memory":
                first = next(iter(self._pending), None)
                self._begin_gap(first.last - len(first.messages) if first else self.last)

    def _begin_gap(self, end: int) -> None:
        """Let go of messages up to a number: a checkpoint behind them has to come before anything more is written."""
        self._gap_end, self.needs_checkpoint = end, True
        self._forget(end)

    def _close_gap(self, committed: bool) -> None:
        if committed:
            self.needs_checkpoint, self._gap_end, self.bytes = False, 0, 0


def _size(entry: _Entry) -> int:
    return sum(len(message.topic) + len(message.payload) + _OVERHEAD for message in entry.messages)


def _mark(connection: Connection, name: str, value: object) -> None:
    connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, seal(msgspec.msgpack.encode(value))))


def _decoded(sealed: bytes, type_: Any) -> Any:
    data = unseal(sealed)
    if data is None:
        raise DiskError("the journal is damaged")
    return msgspec.msgpack.decode(data, type=type_)
