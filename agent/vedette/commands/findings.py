"""What a check finds, before it is told."""

from typing import Literal, NamedTuple

Level = Literal["ok", "note", "fault"]


class Found(NamedTuple):
    """One thing that was looked at: a fault, a note on what is none, or what was found to be well."""

    level: Level
    detail: str
