"""Torn copies of a database: whatever a power cut or a dying card leaves of the file and its log, it opens to what some transaction
committed, or is set aside.

Rules this module keeps: contents and damage are drawn from a seed, which is told with whatever is wrong; every state that was ever
committed is known by its digest, so that a mixture of two is told from either.
"""

import hashlib
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench.figures import Row
from chaos.progress import Progress
from spools import NOW, outgoing, settled
from vedette.config import SpoolLimits
from vedette.contract.readings import Message
from vedette.database import Database
from vedette.journal import Journal, Tick
from vedette.packets import Burst
from vedette.spool import Spool

PAGE = 4096
_A_LIFE = 100
"""Copies of one database; then another is written."""

# What is kept beside the spool: rows that come and go in order, and large ones that replace each other.
_TABLES = ("alerts", "episodes", "arrived", "ticks", "marks", "checkpoint")


class Moment(NamedTuple):
    """The file and its log after a transaction, and the digest of what it committed."""

    file: bytes
    log: bytes
    state: str


class Life(NamedTuple):
    """What became of a database, transaction by transaction; `fresh` is the state of an empty one."""

    moments: list[Moment]
    fresh: str

    @property
    def states(self) -> set[str]:
        return {self.fresh, *(moment.state for moment in self.moments)}


class Copy(NamedTuple):
    """A copy: the file and its log, None where there is none; and the moment whose state it has to have, where only that is right."""

    file: bytes | None
    log: bytes | None
    must_be: str | None = None


Damage = Callable[[Life, int, random.Random], Copy]


class Outcome(NamedTuple):
    """`kept` where a copy opened to what was committed, `set aside`, or `wrong`, with why."""

    what: str
    why: str = ""


def live(folder: Path, rng: random.Random, transactions: int = 40) -> Life:
    """Write a database as an agent does, and look at it after every transaction."""
    moments: list[Moment] = []
    path = folder / "spool.db"
    with closing(Database(path, Spool.SCHEMA, Journal.SCHEMA, wal_bytes=rng.choice([1, 40_000, 150_000, 10_000_000]))) as database:
        database.open()
        fresh = _digest(database)
        spool = settled(Spool(database, SpoolLimits(rows=rng.choice([20, 200]))), database)
        journal = Journal(database, "full")
        journal.resume()
        moments.extend(
            Moment(path.read_bytes(), _bytes(path.with_name("spool.db-wal")) or b"", _digest(database))
            for _ in _transactions(database, spool, journal, transactions, rng)
        )
    return Life(moments, fresh)


def _transactions(database: Database, spool: Spool, journal: Journal, rounds: int, rng: random.Random) -> Iterator[None]:
    """Do what an agent does; stops after every transaction."""
    for number in range(rounds):
        alerts = []
        for _ in range(rng.choice([0, 1, 1, 5, 20])):
            episode, type_ = f"episode-{rng.randrange(30)}", rng.choice(["new", "update", "update", "end"])
            alerts.append(outgoing(episode, type_, rng.randbytes(rng.choice([10, 300, 700, 6000]))))
        if rng.random() < 0.7:
            messages = [Message("t", rng.randbytes(rng.randrange(200)), NOW + number) for _ in range(rng.randrange(1, 60))]
            journal.take(Burst(messages, list(range(1, len(messages) + 1)), []))
            yield
        with journal.transaction() as connection:
            spool.add(connection, alerts, NOW + number)
            journal.mark_told(connection, journal.last)
            if rng.random() < 0.2:
                journal.mark_tick(connection, Tick(journal.last, NOW + number))
        yield
        if rng.random() < 0.2:
            journal.checkpoint(journal.last, rng.randbytes(rng.randrange(60_000)))
            yield
        spool.remove([alert.number for alert in spool.after(0, rng.randrange(4))])


def _digest(database: Database) -> str:
    digest = hashlib.sha256()
    with database.reading() as connection:
        for table in _TABLES:
            digest.update(repr(sorted(connection.execute(f"SELECT * FROM {table}"))).encode())
    return digest.hexdigest()


def _nothing(life: Life, at: int, rng: random.Random) -> Copy:
    moment = life.moments[at]
    return Copy(moment.file, moment.log, must_be=moment.state)


def _cut_log(life: Life, at: int, rng: random.Random) -> Copy:
    moment = life.moments[at]
    return Copy(moment.file, moment.log[: rng.randrange(len(moment.log) + 1)])


def _cut_file(life: Life, at: int, rng: random.Random) -> Copy:
    moment = life.moments[at]
    return Copy(moment.file[: rng.randrange(len(moment.file) + 1)], moment.log)


def _cut_both(life: Life, at: int, rng: random.Random) -> Copy:
    return Copy(_cut_file(life, at, rng).file, _cut_log(life, at, rng).log)


def _flip_log(life: Life, at: int, rng: random.Random) -> Copy:
    moment = life.moments[at]
    return Copy(moment.file, _flip(moment.log, rng))


def _flip_file(life: Life, at: int, rng: random.Random) -> Copy:
    moment = life.moments[at]
    return Copy(_flip(moment.file, rng), moment.log)


def _zero_log(life: Life, at: int, rng: random.Random) -> Copy:
    moment = life.moments[at]
    return Copy(moment.file, _zero(moment.log, rng))


def _zero_file(life: Life, at: int, rng: random.Random) -> Copy:
    moment = life.moments[at]
    return Copy(_zero(moment.file, rng), moment.log)


def _no_last_pages(life: Life, at: int, rng: random.Random) -> Copy:
    moment = life.moments[at]
    return Copy(moment.file[: -PAGE * rng.randint(1, 8)], moment.log)


def _no_log(life: Life, at: int, rng: random.Random) -> Copy:
    return Copy(life.moments[at].file, None)


def _no_file(life: Life, at: int, rng: random.Random) -> Copy:
    return Copy(None, life.moments[at].log)


def _pages_of_before(life: Life, at: int, rng: random.Random) -> Copy:
    """Writes that the disk said it had done, and had not."""
    file = bytearray(life.moments[at].file)
    old = life.moments[rng.randrange(at + 1)].file
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(max(1, len(old) // PAGE)) * PAGE
        file[start : start + PAGE] = old[start : start + PAGE]
    return Copy(bytes(file), life.moments[at].log)


def _written_back_in_part(life: Life, at: int, rng: random.Random) -> Copy:
    """Killed while the log was written back into the file: the log is whole, so nothing is lost."""
    moment = life.moments[at]
    return Copy(_partly_newer(life, at, rng), moment.log, must_be=moment.state)


def _written_back_in_part_and_cut(life: Life, at: int, rng: random.Random) -> Copy:
    """The same, and the log is torn, too: old pages of it before newer ones of the file."""
    return Copy(_partly_newer(life, at, rng), rng.choice([_cut_log, _flip_log, _zero_log])(life, at, rng).log)


def _log_of_before(life: Life, at: int, rng: random.Random) -> Copy:
    return Copy(life.moments[at].file, life.moments[rng.randrange(at + 1)].log)


def _log_of_later(life: Life, at: int, rng: random.Random) -> Copy:
    return Copy(life.moments[at].file, life.moments[rng.randrange(at, len(life.moments))].log)


DAMAGES: dict[str, Damage] = {
    "whole": _nothing,
    "log cut": _cut_log,
    "file cut": _cut_file,
    "both cut": _cut_both,
    "bytes of the log flipped": _flip_log,
    "bytes of the file flipped": _flip_file,
    "a block of the log zeroed": _zero_log,
    "a block of the file zeroed": _zero_file,
    "last pages missing": _no_last_pages,
    "log missing": _no_log,
    "file missing": _no_file,
    "pages of before": _pages_of_before,
    "log written back in part": _written_back_in_part,
    "log written back in part, then torn": _written_back_in_part_and_cut,
    "log of before": _log_of_before,
    "log of later": _log_of_later,
}


def _partly_newer(life: Life, at: int, rng: random.Random) -> bytes:
    """The file with some of the log's pages written back: as it is in the log, by SQLite's own format of 24 bytes and a page."""
    moment = life.moments[at]
    file = bytearray(moment.file)
    pages: dict[int, bytes] = {}
    for start in range(32, len(moment.log) - PAGE - 23, 24 + PAGE):
        pages[int.from_bytes(moment.log[start : start + 4], "big")] = moment.log[start + 24 : start + 24 + PAGE]
    for number, page in sorted(pages.items())[: rng.randrange(len(pages) + 1)]:
        start = (number - 1) * PAGE
        file += b"\0" * (start + PAGE - len(file))
        file[start : start + PAGE] = page
    return bytes(file)


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    flipped = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _zero(data: bytes, rng: random.Random) -> bytes:
    size = rng.choice([1, 512, PAGE, 4 * PAGE])
    start = rng.randrange(len(data) // size + 1) * size
    return data[:start] + b"\0" * len(data[start : start + size]) + data[start + size :]


def open_copy(folder: Path, life: Life, copy: Copy) -> Outcome:
    """Open a copy as an agent does at its start."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "spool.db"
    for file, data in ((path, copy.file), (path.with_name("spool.db-wal"), copy.log)):
        if data is not None:
            file.write_bytes(data)
    try:
        with closing(Database(path, Spool.SCHEMA, Journal.SCHEMA)) as database:
            aside = database.open()
            state, fault = _digest(database), _read_back(database)
    except Exception as error:  # noqa: BLE001 whatever it is, the agent would not have started
        return Outcome("wrong", f"{type(error).__name__}: {error}")
    if fault:
        return Outcome("wrong", fault)
    if copy.must_be is not None and (aside or state != copy.must_be):
        return Outcome("wrong", f"nothing was lost, and yet: {aside or 'an earlier state'}")
    if aside:
        return Outcome("set aside") if state == life.fresh else Outcome("wrong", "set aside, and the fresh one is not empty")
    return Outcome("kept") if state in life.states else Outcome("wrong", "contents that no transaction committed")


def _read_back(database: Database) -> str | None:
    """What is wrong with what an agent would go on from."""
    if database.failing:
        return f"taken for a fault of the disk: {database.failing}"
    spool, journal = settled(Spool(database, SpoolLimits()), database), Journal(database, "full")
    if len(spool.after(0, 1_000_000)) != len(spool) or spool.dropped:
        return f"alerts are missing: {spool.stats()}"
    past = journal.resume()
    if journal.last != past.number + len(past.messages):
        return f"messages are missing: {len(past.messages)} from {past.number} to {journal.last}"
    return None


def run(progress: Progress, copies: int, seed: int) -> tuple[Row, ...]:
    """Open so many torn copies."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    by_damage: dict[str, Counter[str]] = {name: Counter() for name in DAMAGES}
    slowest_s = 0.0
    progress.begin("torn copies", copies)
    with tempfile.TemporaryDirectory(prefix="vedette-torn-") as folder:
        life = Life([], "")
        for number in range(copies):
            if number % _A_LIFE == 0:
                written = Path(folder) / f"life-{number}"
                written.mkdir()
                life = live(written, rng)
                shutil.rmtree(written)
            name = list(DAMAGES)[number % len(DAMAGES)]
            at = rng.randrange(len(life.moments))
            copy = DAMAGES[name](life, at, rng)
            began = time.monotonic()
            outcome = open_copy(Path(folder) / "copy", life, copy)
            slowest_s = max(slowest_s, time.monotonic() - began)
            found[outcome.what] += 1
            by_damage[name][outcome.what] += 1
            if outcome.what == "wrong":
                progress.say(f"copy {number} of seed {seed}, {name}: {outcome.why}")
            progress()
    return (
        Row(name=f"torn copies of the database, of {copies}: wrong", value=found["wrong"], unit="copies", bar=0, better="lower", runs=1),
        Row(name="torn copies: opened to what a transaction committed", value=found["kept"], unit="copies", runs=1),
        Row(name="torn copies: set aside", value=found["set aside"], unit="copies", runs=1),
        *(
            Row(name=f"torn copies, {name}: set aside, of {counts.total()}", value=counts["set aside"], unit="copies", runs=1)
            for name, counts in by_damage.items()
        ),
        Row(name="torn copies: slowest opened or set aside", value=slowest_s, unit="s", runs=copies),
    )


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
