"""The one SQLite file of an agent's state folder: what has arrived, what the engine knew, and alerts that are not delivered yet.

Rules this module keeps: what a transaction committed is on the disk when it returns; the contents are those after some transaction, or
the file is set aside and a fresh one made, for its tables are summed up in it; a disk that fails is a DiskError and never ends the agent;
threads take turns. While the disk fails nothing is tried but by `recover`, so that a slow fault does not hold up scoring.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from vedette import disk, seals
from vedette.contract.errors import ConfigError, DiskError
from vedette.sqlite_errors import DAMAGED, DISK_FAILS, IN_USE, UNREADABLE, code_of, name_of

log = logging.getLogger(__name__)

VERSION = 1
"""`PRAGMA user_version`. Raise it where a column comes to mean something else; a file of another version is set aside."""

KEPT_ASIDE = 2
"""Damaged files that are kept for whoever wants to look; the oldest go."""

WAL_BYTES = 4 * 1024**2
MAX_WAL_TIMES = 16

ROOM_BYTES = 256 * 1024
"""A disk that was full works again once there is so much room: with less it would be full again at once."""

BUSY_S = 5.0
"""An agent that is about to end may hold the file for so long."""


class _DamagedError(Exception):
    """The file cannot be used as it is."""


class Database:
    """A SQLite file that several parts of the agent share.

    A column of sealed bytes (`seals.seal`) is declared `SEALED BLOB`.

    Args:
        path: The file; made if it is not there, in a folder that is.
        schemas: Of each part that uses it, `CREATE … IF NOT EXISTS` statements, each ended by a semicolon.
        wal_bytes: From this size on the log is written back into the file, and cut to nothing; where that has failed up to MAX_WAL_TIMES as
            much, nothing more is written until it succeeds.

    Attributes:
        failing: Why the disk cannot be used, in words; None while it can.
        generation: Grows whenever a file was opened. What a part remembers of the file holds for one of them.
    """

    def __init__(self, path: Path, *schemas: str, wal_bytes: int = WAL_BYTES) -> None:
        self.path = path
        self.failing: str | None = None
        self.generation = 0
        self._schemas, self._max_wal_bytes = schemas, wal_bytes
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        # SQLite's code for what failed last.
        self._cause = sqlite3.SQLITE_OK
        self._at_end: list[Callable[[bool], None]] = []

    def open(self) -> str | None:
        """Open or make the file.

        Returns:
            What was set aside and why; None where nothing was. A disk that fails is told by `failing`.

        Raises:
            ConfigError: the folder or the file cannot be used, and only the operator can change that.
        """
        with self._lock:
            try:
                return self._open()
            except DiskError as error:
                self._fail(str(error))
                return None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction, on disk when the block has ended; rolled back where that raises anything.

        Raises:
            DiskError: the disk is full, read-only or failing, or has been and `recover` has not succeeded yet.
        """
        with self._lock:
            connection = self._usable()
            assert not connection.in_transaction, "one transaction at a time"
            committed = False
            try:
                if self._wal_bytes() > MAX_WAL_TIMES * self._max_wal_bytes:
                    self._write_back(connection)
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
                committed = True
            except sqlite3.Error as error:
                self._refuse(error)
            finally:
                if not committed and connection.in_transaction:
                    # Where even this fails, SQLite has rolled back by itself or `recover` opens the file anew.
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                ended, self._at_end = self._at_end, []
                for told in ended if committed else reversed(ended):
                    told(committed)
            if self._wal_bytes() > self._max_wal_bytes:
                # What was committed is safe in the log; MAX_WAL_TIMES ends it where this goes on failing.
                with suppress(sqlite3.Error):
                    self._write_back(connection)

    def at_end(self, told: Callable[[bool], None]) -> None:
        """Let `told` be called at the end of the transaction under way, with whether it was committed; where it was not, last come first
        called, so that each can put back what it found.
        """
        self._at_end.append(told)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, to read with.

        Raises:
            DiskError: the file cannot be read.
        """
        with self._lock:
            if self._connection is None:
                raise DiskError(self.failing or f"{self.path} is not open")
            try:
                yield self._connection
            except sqlite3.Error as error:
                self._refuse(error)

    def recover(self) -> bool:
        """Try whether a disk that failed works again: a small write, after opening the file anew where that is called for.

        Returns:
            Whether it works. `generation` has grown where the file was opened anew.
        """
        with self._lock:
            if self._cause == sqlite3.SQLITE_FULL and not disk.takes_files(self.path.parent, ROOM_BYTES):
                return False
            if self._cause in DAMAGED:
                self._drop_connection()
            works = self._connection is not None and self._works(self._connection)
            # What an error of the disk has left in memory is not to be relied on; full and read-only disks leave nothing.
            if self._connection is None or (works and self._cause not in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_OK}):
                try:
                    self.open()
                except ConfigError as error:
                    self._fail(str(error))
                works = self.failing is None
            elif works:
                self.failing = None
            if works and self._cause:
                log.info("%s can be written again", self.path)
                self._cause = sqlite3.SQLITE_OK
            return works

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._drop_connection()

    def _open(self) -> str | None:
        self._drop_connection()
        self._check_folder()
        is_new = not self.path.exists()
        try:
            return self._open_or_make()
        except DiskError:
            # What a full disk leaves of a file that was to be made is no damaged one.
            with suppress(OSError):
                if is_new and not self.path.stat().st_size:
                    self.path.unlink()
            raise

    def _open_or_make(self) -> str | None:
        told = None
        why = self._unusable()
        if why is None:
            try:
                self._connection = self._connect()
            except _DamagedError as error:
                why = str(error)
        if why is not None:
            told = self._set_aside(why)
            try:
                self._connection = self._connect()
            except _DamagedError as error:
                raise DiskError(f"the disk fails: {self.path} was made anew and cannot be read: {error}") from error
        self.generation += 1
        self.failing = None
        return told

    def _check_folder(self) -> None:
        folder = self.path.parent
        try:
            if not folder.is_dir():
                raise ConfigError(f"state_dir: {folder} is not a folder; make it, or set state_dir")
            for path in (folder, self.path):
                writable = os.access(path, os.R_OK | os.W_OK | (os.X_OK if path is folder else 0))
                if path.exists() and not writable and not disk.is_read_only(folder):
                    raise ConfigError(f"state_dir: {path} cannot be written by this user; give it to the user that runs the agent")
        except OSError as error:
            raise DiskError(f"the disk fails: {folder}: {error.strerror}") from error

    def _unusable(self) -> str | None:
        """Why the file should not even be opened: SQLite takes these for a new one."""
        if self.path.is_dir():
            return "it is a folder"
        if self.path.exists():
            return None if self.path.stat().st_size else "it is empty"
        return "it is missing, its log is not" if self._beside("-wal").exists() else None

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._connect_once()
        except (sqlite3.Error, _DamagedError) as error:
            self._check_damaged(error)
        # Once more: the disk may have failed a moment ago, and what is set aside is lost.
        try:
            return self._connect_once()
        except (sqlite3.Error, _DamagedError) as error:
            self._check_damaged(error)
            raise _DamagedError(str(error)) from error

    def _check_damaged(self, error: Exception) -> None:
        """See that it is the file that is at fault, and not the disk or another agent."""
        if isinstance(error, sqlite3.Error):
            if code_of(error) in IN_USE:
                raise ConfigError(f"state_dir: {self.path} is in use; does another agent run with this state_dir?") from error
            if code_of(error) in DISK_FAILS and name_of(error) not in UNREADABLE:
                raise DiskError(self._in_words(error)) from error
        # A file that cannot be read on a disk that can be written is as good as damaged.
        if not disk.can_be_read(self.path, self._beside("-wal")) and not disk.takes_files(self.path.parent):
            raise DiskError(f"the disk fails: {self.path} cannot be read; see the system's log") from error

    def _connect_once(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            # Alone with the file, SQLite needs no memory shared through a second one, which a failing disk could pull away.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise _DamagedError(f"its journal mode stays {mode}")
            for pragma in (
                "synchronous = FULL",
                # Our own, which cuts the log: see _write_back.
                "wal_autocheckpoint = 0",
                f"journal_size_limit = {self._max_wal_bytes}",
                "temp_store = MEMORY",
                "mmap_size = 0",
                "cell_size_check = ON",
            ):
                connection.execute(f"PRAGMA {pragma}")
            self._make_tables(connection)
            if (wrong := seals.find_damage(connection)) is not None:
                raise _DamagedError(wrong)
            seals.keep_sum(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise _DamagedError(str(found).replace("\n", " "))
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        is_fresh = version == 0 and not _schema(connection)
        if not is_fresh and version != VERSION:
            raise _DamagedError(f"it is of version {version}, this agent's is {VERSION}")
        expected = self._expected_schema()
        if _schema(connection) != expected:
            connection.execute("BEGIN IMMEDIATE")
            _create(connection, self._schemas)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        if _schema(connection) != expected:
            raise _DamagedError("its tables are not those of this agent")

    def _expected_schema(self) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
            _create(made, self._schemas)
            return _schema(made)

    def _set_aside(self, why: str) -> str:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        try:
            aside = disk.set_aside(self.path, ("-wal", "-shm", "-journal"), stamp, KEPT_ASIDE)
        except OSError as error:
            raise DiskError(f"the disk fails: {self.path} is damaged ({why}) and cannot be set aside: {error.strerror}") from error
        told = f"{self.path} could not be used: {why}; it is set aside as {aside.name}"
        log.error("%s, and a fresh one is made", told)
        return told

    def _usable(self) -> sqlite3.Connection:
        if self.failing is not None or self._connection is None:
            raise DiskError(self.failing or f"{self.path} is not open")
        return self._connection

    def _works(self, connection: sqlite3.Connection) -> bool:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE contents SET sum = sum")
            connection.execute("COMMIT")
            if self._wal_bytes() > MAX_WAL_TIMES * self._max_wal_bytes:
                self._write_back(connection)
        except sqlite3.Error as error:
            self._fail(self._in_words(error), code_of(error))
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            return False
        return True

    def _write_back(self, connection: sqlite3.Connection) -> None:
        """Write the log back into the file and cut it to nothing. What SQLite does by itself leaves it there to be written over: damage in
        the middle of such a log would set old pages before newer ones of the file.
        """
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _wal_bytes(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size  # noqa: PTH116 because it is looked at with every transaction, and a Path takes three times as long
        except OSError:
            return 0

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                connection.close()
            except sqlite3.Error as error:
                log.warning("%s: %s", self.path, error)

    def _refuse(self, error: sqlite3.Error) -> NoReturn:
        """Raise what an error means: the disk's is kept in `failing`, one of the program stays what it is."""
        if code_of(error) not in DISK_FAILS | DAMAGED | IN_USE:
            raise error
        self._fail(self._in_words(error), code_of(error))
        raise DiskError(self.failing) from error

    def _fail(self, why: str, cause: int = sqlite3.SQLITE_IOERR) -> None:
        if self.failing is None:
            log.warning("%s", why)
        self.failing, self._cause = why, cause

    def _in_words(self, error: sqlite3.Error) -> str:
        folder = self.path.parent
        code = code_of(error)
        if code == sqlite3.SQLITE_FULL:
            return f"the disk is full: {self.path} cannot grow; make room in {folder}"
        if code == sqlite3.SQLITE_READONLY or disk.is_read_only(folder):
            return f"the disk is read-only: {self.path} cannot be written; see why the system mounted {folder} so"
        if code in DAMAGED and disk.can_be_read(self.path, self._beside("-wal")):
            return f"the file is damaged: {self.path}: {error}"
        return f"the disk fails: {self.path}: {error} ({name_of(error)}); see the system's log"


def _create(connection: sqlite3.Connection, schemas: tuple[str, ...]) -> None:
    for statement in (*seals.SCHEMA.split(";"), *(statement for schema in schemas for statement in schema.split(";"))):
        if statement.strip():
            connection.execute(statement)


def _schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute(
        "SELECT type, name, tbl_name, sql FROM main.sqlite_master WHERE sql IS NOT NULL ORDER BY type, name"
    ).fetchall()
