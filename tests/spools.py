"""A spool of an agent that does not run, to put alerts in or to look at."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vedette.config import SpoolLimits
from vedette.database import Database
from vedette.journal import Journal
from vedette.retained import Retained
from vedette.spool import Outgoing, Spool

NOW = 1_800_000_000.0


@contextmanager
def opened_spool(folder: Path, limits: SpoolLimits | None = None) -> Iterator[Spool]:
    """The spool in a state folder."""
    with closing(Database(folder / "spool.db", Spool.SCHEMA, Journal.SCHEMA, Retained.SCHEMA)) as database:
        assert database.open() is None
        yield settled(Spool(database, limits or SpoolLimits()), database)


def settled(spool: Spool, database: Database) -> Spool:
    """A spool that has taken over what is on disk."""
    with database.transaction() as connection:
        spool.settle(connection)
    return spool


def outgoing(episode: str, type_: str = "new", payload: bytes = b"{}") -> Outgoing:
    """An alert whose topic is its episode's."""
    return Outgoing(f"t/{episode}", payload, episode, type_)
