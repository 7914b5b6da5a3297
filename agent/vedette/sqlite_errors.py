"""What SQLite's result codes mean for a file that has to last: the disk fails, the file is damaged, or somebody else has it."""

import sqlite3

DISK_FAILS = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
UNREADABLE = {"SQLITE_IOERR_READ", "SQLITE_IOERR_CORRUPTFS"}
IN_USE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def code_of(error: sqlite3.Error) -> int:
    """The primary result code; 0 where SQLite has given none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def name_of(error: sqlite3.Error) -> str:
    """Its extended name, such as SQLITE_IOERR_READ."""
    return str(getattr(error, "sqlite_errorname", type(error).__name__))
