"""Seals: what tells that bytes, or all that the tables of a SQLite file hold, are what was written.

SQLite checks how a file is built and not what is in it. So bytes get their CRC-32 in front, and with every transaction the sum of the
CRC-32 of all rows is kept in the file: a page that is damaged, or that is an older one than its neighbours, shows in it.
"""

import sqlite3
import zlib
from typing import Any

import msgspec

SCHEMA = """
    CREATE TABLE IF NOT EXISTS contents (id INTEGER PRIMARY KEY CHECK (id = 1), sum INTEGER NOT NULL);
    INSERT OR IGNORE INTO contents VALUES (1, 0);
"""


def seal(data: bytes) -> bytes:
    """Bytes with their CRC-32 in front."""
    return zlib.crc32(data).to_bytes(4, "big") + data


def unseal(sealed: bytes) -> bytes | None:
    """What was sealed; None where it is no longer that."""
    data = sealed[4:]
    return data if len(sealed) >= 4 and zlib.crc32(data).to_bytes(4, "big") == sealed[:4] else None


def keep_sum(connection: sqlite3.Connection) -> None:
    """Have every change of a row carried into the sum, in the same transaction, as long as this connection lasts: the triggers are its own
    and not the file's. A column of sealed bytes is declared `SEALED BLOB`; only its seal is summed up, and not megabytes.
    """
    _give_functions(connection)
    for table, columns in _tables(connection).items():
        old, new = _summed(table, columns, "OLD."), _summed(table, columns, "NEW.")
        for event, change in (("INSERT", f"+ {new}"), ("DELETE", f"- {old}"), ("UPDATE", f"- {old} + {new}")):
            update = f"UPDATE contents SET sum = sum {change}"  # noqa: S608 because names are those of our own schema
            connection.execute(f"CREATE TEMP TRIGGER sum_{event}_{table} AFTER {event} ON main.{table} BEGIN {update}; END")
    # What REPLACE takes away goes off the sum, too.
    connection.execute("PRAGMA recursive_triggers = ON")


def find_damage(connection: sqlite3.Connection) -> str | None:
    """Read everything; what is not as it was written, in words, or None."""
    _give_functions(connection)
    total = 0
    for table, columns in _tables(connection).items():
        total += connection.execute(f"SELECT coalesce(sum({_summed(table, columns)}), 0) FROM {table}").fetchone()[0]  # noqa: S608 because, as above, names are our own
        for column in (name for name, kind in columns.items() if _is_sealed_kind(kind)):
            if connection.execute(f"SELECT 1 FROM {table} WHERE NOT is_sealed({column}) LIMIT 1").fetchone():  # noqa: S608 because, as above, names are our own
                return f"a {column} of {table} is not what was written"
    if connection.execute("SELECT id, sum FROM contents").fetchall() != [(1, total)]:
        return "its contents do not add up to what was written with the last transaction"
    return None


def _give_functions(connection: sqlite3.Connection) -> None:
    connection.create_function("row_sum", -1, _row_sum, deterministic=True)
    connection.create_function("is_sealed", 1, _is_sealed, deterministic=True)


def _tables(connection: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """Tables that are summed up; of each, the declared kind of each column by its name."""
    query = "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name != 'contents' AND name NOT LIKE 'sqlite_%'"
    names = [name for (name,) in connection.execute(query)]
    return {table: {name: kind for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})")} for table in names}


def _summed(table: str, columns: dict[str, str], prefix: str = "") -> str:
    values = (f"substr({prefix}{name}, 1, 4)" if _is_sealed_kind(kind) else prefix + name for name, kind in columns.items())
    return f"row_sum('{table}', {', '.join(values)})"


def _row_sum(*values: object) -> int:
    return zlib.crc32(msgspec.msgpack.encode(values))


def _is_sealed(value: Any) -> bool:
    return value is None or (isinstance(value, bytes) and unseal(value) is not None)


def _is_sealed_kind(kind: str) -> bool:
    return kind.upper().startswith("SEALED")
