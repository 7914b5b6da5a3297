"""The alert: one message of an episode, as subscribers see it, and what gives an episode its id.

Rules this module keeps: an id is a digest of what the episode is about and when it began, so that a replay gives the same one; what a
message of one kind needs and others do not is left out of theirs.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from vedette.detector import Cause

Kind = Literal["anomaly", "silent", "stuck", "drift"]
Type = Literal["new", "update", "end"]
Severity = Literal["warning", "critical"]

MAX_NAMES = 5
"""An alert about many devices names so many of them."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Which bundle judged."""

    name: str
    version: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an episode; the JSON that subscribers see.

    Attributes:
        id: The same for all messages of an episode, and for the same episode in a replay.
        device: Empty where the alert is about many devices of the stream at once.
        kind: `anomaly`; `drift` where it went on for too long to be one: what is normal is no longer what the model learnt; `silent`
            where nothing is heard of a device; `stuck` where a sensor's value no longer changes.
        score: How far beyond its rule the episode is now, 1.0 at the rule's limit: an anomaly's is the window's score; of the other kinds
            see docs/alerts.md.
        peak: The highest score so far.
        started: When the episode began: an anomaly when it was raised; silence with the last reading; a stuck sensor with the first of
            the equal values.
        windows: Windows at or over the threshold in the episode so far; 0 for kinds that no window has to do with.
        devices: Of an alert about many devices: how many.
        names: Of an alert about many devices: the first MAX_NAMES of them.
        explanation: Empty in an `end`, and where nothing is to be explained.
    """

    schema: Literal["vedette.alert/1"] = "vedette.alert/1"
    id: str
    type: Type
    gateway: str
    stream: str
    device: str
    kind: Kind = "anomaly"
    score: float
    peak: float
    severity: Severity
    started: datetime
    time: datetime
    ended: datetime | None
    windows: int
    model: Model
    devices: int | UnsetType = UNSET
    names: tuple[str, ...] | UnsetType = UNSET
    explanation: tuple[Cause, ...] = ()


class Origin:
    """Where a stream's alerts come from.

    Attributes:
        model: May become another from one batch to the next; an episode that is open keeps its id.
    """

    def __init__(self, gateway: str, stream: str, model: Model) -> None:
        self.gateway, self.stream, self.model = gateway, stream, model

    def identify(self, device: str, began: float, *more: str) -> str:
        """An episode's id.

        Args:
            device: Its name.
            began: Epoch seconds.
            more: What tells it from another that began with it: nothing for an anomaly, whose id is as it was before there were other
                kinds.
        """
        parts = [self.gateway, self.stream, device, self.model.name, self.model.version, repr(began), *more]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def alert(
        self,
        type_: Type,
        kind: Kind,
        id_: str,
        device: str,
        *,
        score: float,
        peak: float,
        started: float,
        time: float,
        severity: Severity = "warning",
        windows: int = 0,
        devices: Sequence[str] | None = None,
        count: int | None = None,
        explanation: tuple[Cause, ...] = (),
    ) -> Alert:
        """A message; times are epoch seconds."""
        at = datetime.fromtimestamp(time, UTC)
        return Alert(
            id=id_,
            type=type_,
            gateway=self.gateway,
            stream=self.stream,
            device=device,
            kind=kind,
            score=round(score, 4),
            peak=round(peak, 4),
            severity=severity,
            started=datetime.fromtimestamp(started, UTC),
            time=at,
            ended=at if type_ == "end" else None,
            windows=windows,
            model=self.model,
            devices=UNSET if count is None else count,
            names=UNSET if devices is None else tuple(devices[:MAX_NAMES]),
            explanation=explanation,
        )


def ended(alert: Alert, time: float, score: float | None = None) -> Alert:
    """The end of the episode that a message is of.

    Args:
        alert: A message of it.
        time: Epoch seconds; if that is before the message, its time counts.
        score: What the score has come to; None leaves it as it was.
    """
    at = max(alert.time, datetime.fromtimestamp(time, UTC))
    last = alert.score if score is None else round(score, 4)
    return msgspec.structs.replace(alert, type="end", time=at, ended=at, score=last, peak=max(alert.peak, last), explanation=())
