"""The spool: alerts that the broker has not acknowledged yet, in SQLite.

Rules this module keeps: an alert is on disk before it is sent and stays there until it is acknowledged; alerts leave in the
order in which they came; one thread uses it.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


class Spooled(NamedTuple):
    """An alert that waits: its number, in the order of coming, its topic and its payload."""

    number: int
    topic: str
    payload: bytes


class Spool:
    """Alerts on disk.

    Args:
        path: The database; made if it is not there, in a folder that is.

    Attributes:
        newest: Number of the alert that came last; 0 before the first.
    """

    def __init__(self, path: Path) -> None:
        self.newest = 0
        self._path = path
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open or make the database.

        Raises:
            sqlite3.Error: it cannot be used.
        """
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS alerts (number INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL)"
        )
        self._find_newest()

    def add(self, alerts: Iterable[tuple[str, bytes]]) -> None:
        """Keep alerts, each a topic and a payload, in one transaction; on disk when it returns."""
        database = self._opened()
        with database:
            database.execute("BEGIN")
            database.executemany("INSERT INTO alerts (topic, payload) VALUES (?, ?)", alerts)
        self._find_newest()

    def after(self, number: int, limit: int) -> list[Spooled]:
        """The first `limit` alerts that came after the one with this number."""
        rows = self._opened().execute("SELECT number, topic, payload FROM alerts WHERE number > ? ORDER BY number LIMIT ?", (number, limit))
        return [Spooled(*row) for row in rows]

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget alerts that were acknowledged."""
        database = self._opened()
        with database:
            database.execute("BEGIN")
            database.executemany("DELETE FROM alerts WHERE number = ?", [(n,) for n in numbers])

    def __len__(self) -> int:
        """Alerts that wait."""
        return int(self._opened().execute("SELECT count(*) FROM alerts").fetchone()[0])

    def close(self) -> None:
        """Close the database."""
        if self._database:
            self._database.close()
            self._database = None

    def _find_newest(self) -> None:
        self.newest = self._opened().execute("SELECT coalesce(max(number), 0) FROM alerts").fetchone()[0] or self.newest

    def _opened(self) -> sqlite3.Connection:
        assert self._database, "open() comes first"
        return self._database
