"""The announcement: which bundles a publisher has put into a model's channels, as one retained MQTT message.

Rules this module keeps: an announcement is a hint that it is worth looking, and never trusted: what a gateway installs, it takes from
signed metadata alone. A reader ignores fields that it does not know.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from vedette.contract.errors import UpdateError
from vedette.contract.manifest import Digest, Name, Version

MAX_BYTES = 64 * 1024


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that a channel points to; `sha256` is of the whole file."""

    version: Version
    sha256: Digest


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """The heads of a model's channels, by channel."""

    schema: Literal["vedette.model/1"] = "vedette.model/1"
    name: Name
    channels: Annotated[Mapping[Name, Head], msgspec.Meta(max_length=64)]


def encode(announcement: Announcement) -> bytes:
    """The announcement as JSON, the same bytes for equal announcements."""
    return msgspec.json.encode(announcement, order="deterministic")


def decode(data: bytes) -> Announcement:
    """Read what a broker delivered.

    Raises:
        UpdateError: it is no announcement.
    """
    if len(data) > MAX_BYTES:
        raise UpdateError(f"not an announcement: {len(data)} bytes, where at most {MAX_BYTES} are read")
    try:
        return msgspec.json.decode(data, type=Announcement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpdateError(f"not an announcement: {error}") from error
