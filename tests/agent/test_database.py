import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from vedette.contract.errors import ConfigError, DiskError
from vedette.database import KEPT_ASIDE, WAL_BYTES, Database
from vedette.seals import seal, unseal

SCHEMA = "CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY, text TEXT NOT NULL, data SEALED BLOB);"


@contextmanager
def opened(path: Path, *schemas: str) -> Iterator[Database]:
    with closing(Database(path, *(schemas or (SCHEMA,)))) as database:
        assert database.open() is None
        yield database


def note(database: Database, text: str, data: bytes = b"") -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO notes (text, data) VALUES (?, ?)", (text, seal(data)))


def notes(database: Database) -> list[str]:
    with database.reading() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY number")]


def put_in(path: Path, *texts: str) -> None:
    with opened(path) as database:
        for text in texts:
            note(database, text)


def reopened(path: Path, *schemas: str) -> tuple[str | None, list[str]]:
    """What was set aside, and what is there."""
    with closing(Database(path, *(schemas or (SCHEMA,)))) as database:
        aside = database.open()
        assert database.failing is None
        return aside, notes(database)


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    put_in(tmp_path / "spool.db", "one", "two")
    assert reopened(tmp_path / "spool.db") == (None, ["one", "two"])


def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "spool.db") as database:
        told: list[tuple[str, bool]] = []

        def write_and_fail(error: Exception) -> None:
            with database.transaction() as connection:
                database.at_end(lambda committed: told.append(("first", committed)))
                database.at_end(lambda committed: told.append(("second", committed)))
                connection.execute("INSERT INTO notes (text) VALUES ('gone')")
                raise error

        with pytest.raises(ValueError, match="mine"):
            write_and_fail(ValueError("mine"))
        assert told == [("second", False), ("first", False)]
        with pytest.raises(sqlite3.IntegrityError), database.transaction() as connection:
            connection.executemany("INSERT INTO notes (text) VALUES (?)", [("gone",), (None,)])
        assert database.failing is None, "an error of the program is none of the disk"
        note(database, "kept")
        assert len(told) == 2, "a transaction tells those of its own only"
        assert notes(database) == ["kept"]


def test_a_statement_that_fails_within_a_transaction_leaves_the_sum_right(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with opened(path) as database:
        note(database, "one")
        with database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (1, 'instead', NULL)")
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute("INSERT INTO notes (number, text) VALUES (7, 'undone'), (1, 'taken')")
            connection.execute("INSERT OR IGNORE INTO notes (number, text) VALUES (1, 'ignored')")
            connection.execute("UPDATE notes SET text = text || '!', number = number + 5")
        with database.transaction() as connection:
            connection.execute("INSERT INTO notes (text) VALUES ('to go')")
            connection.execute("DELETE FROM notes WHERE text = 'to go'")
    assert reopened(path) == (None, ["instead!"])


def _flip_a_text(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.rindex(b"two")] ^= 1
    path.write_bytes(data)


def _change_behind_its_back(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM notes WHERE text = 'two'")


def _break_a_seal(path: Path) -> None:
    with opened(path) as database:
        note(database, "sealed", b"some data that is longer than a seal")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"longer")] ^= 1
    path.write_bytes(data)


def _set_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def _add_a_column(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE notes ADD COLUMN more TEXT")


def _make_a_folder_of_it(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _lose_the_file_and_keep_its_log(path: Path) -> None:
    path.rename(path.with_name(path.name + "-wal"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "no database": (lambda path: path.write_bytes(b"hello" * 1000), "file is not a database"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "malformed|page"),
    "a bit of a text": (_flip_a_text, "do not add up"),
    "a row less": (_change_behind_its_back, "do not add up"),
    "a bit of sealed bytes": (_break_a_seal, "a data of notes is not what was written"),
    "another version": (_set_version, "it is of version 99, this agent's is 1"),
    "other tables": (_add_a_column, "its tables are not those of this agent"),
    "a folder": (_make_a_folder_of_it, "it is a folder"),
    "a log without its file": (_lose_the_file_and_keep_its_log, "it is missing, its log is not"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_set_aside_and_a_fresh_one_made(tmp_path: Path, damage: Callable[[Path], object], reason: str) -> None:
    path = tmp_path / "spool.db"
    put_in(path, "one", "two", "three")
    damage(path)
    aside, found = reopened(path)
    assert found == []
    assert aside
    assert re.search(reason, aside), aside
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1
    put_in(path, "four")
    assert reopened(path) == (None, ["four"])


def test_few_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    for number in range(KEPT_ASIDE + 3):
        path.write_bytes(b"%d" % number * 1000)
        assert reopened(path)[0]
    kept = sorted(file.read_bytes()[:1] for file in tmp_path.glob("spool.db.damaged-*"))
    assert kept == sorted([b"%d" % number for number in range(3, KEPT_ASIDE + 3)])


def test_a_folder_that_is_not_there_or_not_ours_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"state_dir: .*nowhere is not a folder; make it, or set state_dir"):
        Database(tmp_path / "nowhere" / "spool.db", SCHEMA).open()


def test_a_file_that_another_agent_uses_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.database.BUSY_S", 0.1)
    path = tmp_path / "spool.db"
    with opened(path) as database:
        note(database, "ours")
        with pytest.raises(ConfigError, match="is in use; does another agent run with this state_dir"):
            Database(path, SCHEMA).open()
        note(database, "still")
    assert reopened(path) == (None, ["ours", "still"])


def test_a_part_that_comes_with_a_new_version_gets_its_table(tmp_path: Path) -> None:
    put_in(tmp_path / "spool.db", "one")
    more = "CREATE TABLE IF NOT EXISTS more (number INTEGER PRIMARY KEY);"
    assert reopened(tmp_path / "spool.db", SCHEMA, more) == (None, ["one"])
    assert reopened(tmp_path / "spool.db", SCHEMA, more) == (None, ["one"])


def test_the_log_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    largest = 0
    with opened(path) as database:
        for _ in range(40):
            note(database, "much", b"x" * 300_000)
            with database.transaction() as connection:
                connection.execute("DELETE FROM notes WHERE number < (SELECT max(number) FROM notes)")
            largest = max(largest, path.with_name("spool.db-wal").stat().st_size)
        assert WAL_BYTES / 2 < largest < WAL_BYTES + 1_000_000
        assert path.stat().st_size < 2_000_000


def test_two_threads_take_turns(tmp_path: Path) -> None:
    with opened(tmp_path / "spool.db") as database:
        started = threading.Barrier(2)
        faults: list[BaseException] = []

        def write(name: str) -> None:
            started.wait()
            try:
                for number in range(50):
                    with database.transaction() as connection:
                        connection.execute("INSERT INTO notes (text) VALUES (?)", (f"{name}-{number}",))
                        connection.execute("INSERT INTO notes (text) VALUES (?)", (f"{name}-{number}",))
            except BaseException as error:  # noqa: BLE001 because a thread's failure is told by the test
                faults.append(error)

        threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = notes(database)
        assert not faults
        assert len(found) == 200
        assert found[::2] == found[1::2], "a transaction's rows stand together"


def test_a_file_that_is_not_open_is_a_disk_error(tmp_path: Path) -> None:
    database = Database(tmp_path / "spool.db", SCHEMA)
    with pytest.raises(DiskError, match="is not open"), database.transaction():
        pass
    with pytest.raises(DiskError, match="is not open"), database.reading():
        pass


def test_damage_found_while_running_is_set_aside_by_recover(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool.db"
    with opened(path) as database, database.transaction() as connection:
        # More than SQLite keeps in memory.
        connection.executemany("INSERT INTO notes (text) VALUES (?)", (("x" * 1000,) for _ in range(5000)))
    with opened(path) as database:
        generation = database.generation
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * 4_000_000)
        with pytest.raises(DiskError, match="the file is damaged"), database.transaction() as connection:
            connection.execute("UPDATE notes SET text = text || '+'")
        assert database.failing
        with pytest.raises(DiskError, match="the file is damaged"):
            note(database, "not before recover")
        assert database.recover()
        assert database.failing is None
        assert database.generation > generation
        assert notes(database) == []
        note(database, "fresh")
    assert "is set aside as spool.db.damaged-" in caplog.text
    assert reopened(path) == (None, ["fresh"])


def test_seals_tell_what_is_not_what_was_written() -> None:
    assert unseal(seal(b"data")) == b"data"
    assert unseal(seal(b"")) == b""
    assert unseal(seal(b"data")[:-1]) is None
    assert unseal(b"abc") is None
