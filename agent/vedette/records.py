"""Records: which of a model's bundles is live on this gateway, which was before, which is on trial, and which were refused and why.

Rules this module keeps: no I/O; a record is one JSON document, so that one rename changes all of it.
"""

import time
from typing import Literal

import msgspec

_KEPT_REFUSALS = 16

Role = Literal["live", "previous", "candidate"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was proved here.

    Attributes:
        signed: It came through a signed update.
        settled: An agent has run it for a while without harm.
        since: When it went live here last, epoch seconds; 0 where it has not, or where an older version wrote this.
        starts: How often an agent has begun to run it, live or on trial, without stopping in good order, before it had settled.
    """

    version: str
    sha256: str
    signed: bool = False
    settled: bool = False
    since: int = 0
    starts: int = 0


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was proved here and still had to go, when (epoch seconds), and why."""

    version: str
    sha256: str
    time: int
    reason: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one model's bundles.

    Attributes:
        live: What agents score with.
        previous: What was live before: the way back.
        candidate: What a running agent tries beside the live one.
    """

    format: Literal[1] = 1
    live: Entry | None = None
    previous: Entry | None = None
    candidate: Entry | None = None
    refused: tuple[Refusal, ...] = ()

    def role_of(self, sha256: str) -> Role | None:
        """What a bundle is here."""
        roles: tuple[Role, ...] = ("live", "candidate", "previous")
        for role in roles:
            entry: Entry | None = getattr(self, role)
            if entry and entry.sha256 == sha256:
                return role
        return None

    def refusal_of(self, sha256: str) -> Refusal | None:
        """Why a bundle was refused here, if it was."""
        return next((refusal for refusal in reversed(self.refused) if refusal.sha256 == sha256), None)

    def with_live(self, entry: Entry) -> "Record":
        """The record with an entry live, what was live before it the way back; it is a candidate no longer."""
        candidate = None if self.candidate and self.candidate.sha256 == entry.sha256 else self.candidate
        live = msgspec.structs.replace(entry, since=int(time.time()))
        return msgspec.structs.replace(self, live=live, previous=self.live or self.previous, candidate=candidate)

    def with_refusal(self, entry: Entry, reason: str) -> "Record":
        """The record with a bundle refused now."""
        refusal = Refusal(version=entry.version, sha256=entry.sha256, time=int(time.time()), reason=reason)
        return msgspec.structs.replace(self, refused=(*self.refused, refusal)[-_KEPT_REFUSALS:])

    def without_refusal(self, entry: Entry) -> "Record":
        """The record with a bundle no longer refused: somebody wants it by hand."""
        return msgspec.structs.replace(self, refused=tuple(refusal for refusal in self.refused if refusal.sha256 != entry.sha256))
