"""Two bundles of a model on one recording: which alerts both would have raised, and which only one.

Rules this module keeps: no clock and no I/O; alerts are the same where they are of the same device and at some time both open.
"""

import math
from collections.abc import Sequence
from datetime import datetime

import msgspec

from vedette.alerts import Alert
from vedette.trial import Comparison


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """An alert from its `new` to its `end`, None where it was open when the recording ended."""

    id: str
    kind: str
    started: datetime
    ended: datetime | None
    peak: float


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A device's alerts that were open at the same time; `live` or `given` is empty where only the other bundle raised any."""

    stream: str
    device: str
    live: tuple[Episode, ...]
    given: tuple[Episode, ...]

    @property
    def started(self) -> datetime:
        """When the first of them began."""
        return min(episode.started for episode in (*self.live, *self.given))

    def words(self) -> str:
        """On one line, for people."""
        who = "both" if self.live and self.given else "live" if self.live else "given"
        parts = [f"{name} {_span(episodes)}" for name, episodes in (("live", self.live), ("given", self.given)) if episodes]
        return f"{self.started:%Y-%m-%d %H:%M} {who:5} {self.stream}/{self.device}  {', '.join(parts)}"


class SideBySide(msgspec.Struct, frozen=True, kw_only=True):
    """All alerts of both, and what their scores are like.

    Attributes:
        both: Pairs in which both raised an alert; `live` and `given`, in which only one did.
    """

    both: int
    live: int
    given: int
    numbers: Comparison
    pairs: tuple[Pair, ...]

    def lines(self) -> list[str]:
        """For people."""
        one, two = self.numbers.live.version, self.numbers.candidate.version
        counts = f"in both {self.both}, only in {one} (live) {self.live}, only in {two} (given) {self.given}"
        return [*(pair.words() for pair in self.pairs), f"alerts {counts}", self.numbers.words()]


def compare(live: Sequence[Alert], given: Sequence[Alert], numbers: Comparison) -> SideBySide:
    """Set the alerts of two bundles side by side.

    Args:
        live: Of the bundle that is live, in order; of the streams that use the model.
        given: Of the other, in order.
        numbers: What the two have scored.
    """
    episodes: dict[tuple[str, str], list[tuple[bool, Episode]]] = {}
    for is_live, alerts in ((True, live), (False, given)):
        for key, episode in _episodes(alerts):
            episodes.setdefault(key, []).append((is_live, episode))
    pairs = [pair for (stream, device), of_device in episodes.items() for pair in _pairs(stream, device, of_device)]
    pairs.sort(key=lambda pair: (pair.started, pair.stream, pair.device))
    return SideBySide(
        both=sum(bool(pair.live and pair.given) for pair in pairs),
        live=sum(not pair.given for pair in pairs),
        given=sum(not pair.live for pair in pairs),
        numbers=numbers,
        pairs=tuple(pairs),
    )


def _episodes(alerts: Sequence[Alert]) -> list[tuple[tuple[str, str], Episode]]:
    found: dict[str, tuple[tuple[str, str], Episode]] = {}
    for alert in alerts:
        key, before = found.get(alert.id, ((alert.stream, alert.device), None))
        started = before.started if before else alert.started
        found[alert.id] = (key, Episode(id=alert.id, kind=alert.kind, started=started, ended=alert.ended, peak=alert.peak))
    return list(found.values())


def _pairs(stream: str, device: str, episodes: list[tuple[bool, Episode]]) -> list[Pair]:
    """Episodes of one device, put together where one begins before those before it are over."""
    groups: list[list[tuple[bool, Episode]]] = []
    until = -math.inf
    for is_live, episode in sorted(episodes, key=lambda item: item[1].started):
        if episode.started.timestamp() > until:
            groups.append([])
        groups[-1].append((is_live, episode))
        until = max(until, episode.ended.timestamp() if episode.ended else math.inf)
    return [
        Pair(
            stream=stream,
            device=device,
            live=tuple(episode for is_live, episode in group if is_live),
            given=tuple(episode for is_live, episode in group if not is_live),
        )
        for group in groups
    ]


def _span(episodes: Sequence[Episode]) -> str:
    """From when to when, and how strange."""
    ended = episodes[-1].ended
    end = f"{ended:%H:%M}" if ended else "open still"
    return f"{episodes[0].started:%H:%M} to {end}, peak {max(episode.peak for episode in episodes):.2f}"
