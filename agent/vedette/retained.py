"""What the agent has the broker keep for it: retained messages that are to be corrected or taken back, by whichever process runs then.

Rules this module keeps: what is to be published is noted, and on disk, before it is; while the disk fails memory alone knows it; who is
noted stays so until whoever noted it says that the broker has let go of it; one thread uses it.
"""

import logging
from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec

from vedette.contract.errors import DiskError
from vedette.database import Database

log = logging.getLogger(__name__)

Purpose = Literal["state", "discovery"]


class Left(msgspec.Struct):
    """A retained message.

    Attributes:
        topic: Where.
        purpose: `state` for a device's state while it shows an alert, `discovery` for what announces a device to Home Assistant.
        stream: Empty for what is about the gateway.
        device: Empty for what is about the stream or the gateway.
        state: The device's state topic.
        heard: When the device was heard of last, on whatever clock the one who noted it goes by.
    """

    topic: str
    purpose: Purpose
    stream: str
    device: str
    state: str
    heard: float = 0.0


class Retained:
    """All of it, on disk and in memory.

    Args:
        database: Made with this class's SCHEMA.

    Attributes:
        kept: By topic. What is in it is changed by `note` and `forget` alone.
    """

    SCHEMA: ClassVar[str] = """
        CREATE TABLE IF NOT EXISTS retained (
            topic TEXT PRIMARY KEY, purpose TEXT NOT NULL, stream TEXT NOT NULL, device TEXT NOT NULL, state TEXT NOT NULL,
            heard REAL NOT NULL) WITHOUT ROWID;
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._generation = 0
        self._changed: set[str] = set()
        self.kept: dict[str, Left] = {}

    def load(self) -> None:
        """Learn what earlier processes have left; nothing, where the file cannot be read."""
        try:
            with self._database.reading() as connection:
                rows = connection.execute("SELECT topic, purpose, stream, device, state, heard FROM retained ORDER BY topic").fetchall()
        except DiskError as error:
            log.warning("what is retained on the broker is not known: %s", error)
            return
        self.kept = {left.topic: left for row in rows if (left := Left(*row))}
        self._generation = self._database.generation

    def of(self, purpose: Purpose) -> list[Left]:
        """All of one purpose."""
        return [left for left in self.kept.values() if left.purpose == purpose]

    def note(self, some: Iterable[Left]) -> None:
        """Note what is about to be published, or what is other than it was; `settle` has it on disk."""
        for left in some:
            self.kept[left.topic] = left
            self._changed.add(left.topic)

    def forget(self, topics: Iterable[str]) -> None:
        """The broker has let go of these."""
        for topic in topics:
            if self.kept.pop(topic, None):
                self._changed.add(topic)

    def settle(self) -> None:
        """Bring the disk up to date, if it works."""
        if self._generation != self._database.generation:
            self._changed.update(self.kept)  # it is another file
        if not self._changed or self._database.failing:
            return
        rows = [msgspec.structs.astuple(self.kept[topic]) for topic in self._changed if topic in self.kept]
        generation = self._database.generation
        try:
            with self._database.transaction() as connection:
                connection.executemany("DELETE FROM retained WHERE topic = ?", [(topic,) for topic in self._changed])
                connection.executemany("INSERT INTO retained VALUES (?, ?, ?, ?, ?, ?)", rows)
        except DiskError:
            return  # said in the status; what is noted is noted, and written once the disk works
        self._changed.clear()
        self._generation = generation
