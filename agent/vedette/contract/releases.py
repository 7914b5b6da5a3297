"""What a publisher writes into a signed repository of bundles, and a gateway reads there.

Rules this module keeps: a channel holds at most one bundle of a name, because the two together are where it lies; so a channel is
moved, forward or back, by putting another bundle in the same place.
"""

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from vedette.contract.bundle import SUFFIX
from vedette.contract.manifest import Name, Version

SIGNED_AT = "signed_at"
"""A field of the timestamp: when the publisher signed it. A gateway without a clock of its own has no other time."""

_SIGNED_AT_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """What the signed metadata says of a bundle, beside its size and digest. Unknown fields are a later publisher's and ignored."""

    name: Name
    version: Version


class Place(NamedTuple):
    """Where a channel keeps its bundle of a name."""

    channel: str
    name: str

    @property
    def path(self) -> str:
        """The target's path in the repository."""
        return f"{self.channel}/{self.name}{SUFFIX}"


def place_of(path: str) -> Place | None:
    """The place that a target's path stands for; None where it stands for none."""
    channel, _, file = path.partition("/")
    return Place(channel, file.removesuffix(SUFFIX)) if file.endswith(SUFFIX) and "/" not in file else None


def write_time(time: datetime) -> str:
    """A time as the metadata has it: UTC, to the second."""
    return time.astimezone(UTC).strftime(_SIGNED_AT_FORMAT)


def read_time(text: str) -> datetime:
    """The time that `write_time` wrote.

    Raises:
        ValueError: it is something else.
    """
    return datetime.strptime(text, _SIGNED_AT_FORMAT).replace(tzinfo=UTC)
