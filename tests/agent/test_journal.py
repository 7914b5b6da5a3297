"""The journal: what is kept of messages, and what is known of them after an end at any point."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.contract.errors import DiskError
from vedette.contract.readings import Message
from vedette.database import Database
from vedette.journal import MAX_PENDING_BYTES, RECENT, Durability, Journal, Tick
from vedette.packets import Burst


def opened(path: Path, durability: Durability = "full") -> tuple[Database, Journal]:
    database = Database(path / "spool.db", Journal.SCHEMA)
    database.open()
    journal = Journal(database, durability)
    journal.resume()
    return database, journal


def message(number: int, text: str = "") -> Message:
    return Message(f"t/{number % 3}", (text or str(number)).encode(), float(number), retained=number % 5 == 0)


def burst(*numbers: int, again: tuple[int, ...] = ()) -> Burst:
    return Burst([message(n) for n in numbers], [n % 7 and n for n in numbers], list(again))


def fail(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DiskError("the disk is full")

    monkeypatch.setattr(database, "transaction", refuse)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "checkpoint", "tick", "end"]), st.integers(1, 30)), max_size=25))
def test_after_an_end_at_any_point_checkpoint_and_messages_after_it_are_all_that_was_taken(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("journal")
    database, journal = opened(path)
    taken, number, ticks = 0, 0, list[Tick]()
    for step, count in steps:
        if step == "take":
            journal.take(burst(*range(taken + 1, taken + count + 1)))
            journal.flush()
            taken += count
        elif step == "checkpoint":
            number = max(number, taken - count)
            journal.checkpoint(number, f"state {number}".encode())
            ticks = []
        elif step == "tick":
            ticks.append(Tick(taken, float(count)))
            with journal.transaction() as connection:
                journal.mark_tick(connection, ticks[-1])
                journal.mark_told(connection, taken)
        else:
            database.close()  # what a process leaves that ends between two transactions
            database, journal = opened(path)
        past = journal.past()
        assert past.number == number and past.state == (f"state {number}".encode() if past.state else None)
        assert past.messages == [message(n) for n in range(number + 1, taken + 1)]
        assert past.ticks == ticks and journal.last == max(taken, number)
    database.close()


def test_a_message_that_the_broker_sends_again_is_known_also_after_a_restart_and_a_checkpoint(tmp_path: Path) -> None:
    database, journal = opened(tmp_path)
    journal.take(burst(*range(1, 6)))
    journal.checkpoint(5, b"state")
    database.close()
    database, journal = opened(tmp_path)
    again = burst(3, 4, 5, 6, again=(0, 1, 2, 3))
    assert journal.without_repeats(again).messages == [message(6)]
    # The same packet id with something else in it is another message; so is one that does not say that it was sent before.
    other = Burst([message(3, "else"), message(4)], [3, 4], [0])
    assert journal.without_repeats(other).messages == other.messages
    journal.begin()
    assert journal.without_repeats(again).messages == again.messages, "ids of another session"
    database.close()


def test_no_more_is_remembered_of_messages_than_a_broker_can_send_again(tmp_path: Path) -> None:
    database, journal = opened(tmp_path)
    for first in range(1, 5 * RECENT, 50):
        journal.take(burst(*range(first, first + 50)))
    journal.checkpoint(5 * RECENT, b"state")
    assert journal._recent_count <= RECENT + 50
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM arrived").fetchone()[0] <= RECENT / 50 + 2
    database.close()


def test_while_the_disk_fails_messages_are_kept_and_written_when_it_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, journal = opened(tmp_path)
    journal.take(burst(1))
    with monkeypatch.context() as fault:
        fail(database, fault)
        journal.take(burst(2, 3))
    journal.take(burst(4))
    database.close()
    database, journal = opened(tmp_path)
    assert journal.past().messages == [message(n) for n in (1, 2, 3, 4)]
    database.close()


def test_where_too_much_came_while_the_disk_failed_nothing_is_written_but_behind_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, journal = opened(tmp_path)
    journal.take(burst(1))
    big = Message("t", bytes(MAX_PENDING_BYTES), 0.0)
    with monkeypatch.context() as fault:
        fail(database, fault)
        journal.take(Burst([big], [2], []))
        assert journal._pending_bytes == 0 and journal.needs_checkpoint
        journal.take(burst(3))
    journal.take(burst(4))
    journal.checkpoint(1, b"before the gap")
    assert journal.needs_checkpoint, "messages behind it are gone"
    journal.checkpoint(2, b"state 2")
    assert not journal.needs_checkpoint
    database.close()
    database, journal = opened(tmp_path)
    past = journal.past()
    assert (past.number, past.state, past.messages) == (2, b"state 2", [message(3), message(4)])
    database.close()


def test_where_the_file_could_not_be_read_at_the_start_what_it_holds_gives_way_to_a_checkpoint(tmp_path: Path) -> None:
    database, journal = opened(tmp_path)
    journal.take(burst(*range(1, 60)))
    with journal.transaction() as connection:
        journal.mark_told(connection, 59)
    database.close()
    database = Database(tmp_path / "spool.db", Journal.SCHEMA)
    journal = Journal(database, "full")
    with pytest.raises(DiskError):
        journal.resume()  # not open: as a disk that cannot be read
    journal.take(burst(101, 102))
    database.open()
    journal.take(burst(103))
    assert journal.needs_checkpoint
    with pytest.raises(DiskError, match="gap"):
        journal.past()
    journal.checkpoint(2, b"state 2")
    database.close()
    database, journal = opened(tmp_path)
    past = journal.resume()
    assert (past.number, past.told, past.messages, journal.last) == (2, 2, [message(103)], 3)
    database.close()


def test_periodic_writes_when_it_is_told_to_and_with_every_alert_and_memory_never(tmp_path: Path) -> None:
    database, journal = opened(tmp_path, "periodic")

    def on_disk() -> int:
        with database.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM arrived").fetchone()[0])

    journal.take(burst(1))
    assert on_disk() == 0 and journal.past().messages == [message(1)]
    journal.flush()
    assert on_disk() == 1
    journal.take(burst(2))
    with journal.transaction() as connection:
        journal.mark_told(connection, 2)
    assert on_disk() == 2 and journal.past().told == 2
    database.close()
    (tmp_path / "other").mkdir()
    database, journal = opened(tmp_path / "other", "memory")
    journal.take(burst(1))
    journal.flush()
    assert on_disk() == 0 and journal.last == 1
    database.close()


def test_what_nobody_waits_for_is_written_with_what_comes_next(tmp_path: Path) -> None:
    database, journal = opened(tmp_path)
    journal.take(Burst([message(1)], [0], []))
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM arrived").fetchone()[0] == 0
        journal.take(burst(2))
        assert connection.execute("SELECT count(*) FROM arrived").fetchone()[0] == 2
    database.close()


def test_what_the_broker_has_granted_is_known_after_a_restart(tmp_path: Path) -> None:
    database, journal = opened(tmp_path)
    journal.grant([("a/+", 1), ("b", 0)])
    database.close()
    database, journal = opened(tmp_path)
    assert journal.granted == [("a/+", 1), ("b", 0)]
    database.close()
