"""A trial: a new model scores what the live one scores, and the numbers decide whether it may take its place.

Rules this module keeps: no clock and no I/O; nothing that a candidate finds is published; both see the same readings and are judged by
the same rules; a verdict comes with the numbers that it rests on. A candidate is not asked to agree with the live model: it may be better.
It is asked not to fail, not to flood, not to call what is ordinary strange, and to look at the data at all.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np

from vedette.alerts import Alert, Judge
from vedette.contract.readings import Message
from vedette.contract.scores import Scores
from vedette.phrases import TrialLength
from vedette.pipeline import Outcome, Pipeline
from vedette.stream import Scored

MIN_WINDOWS = 50
"""Fewer say nothing of a distribution: a trial by the clock goes on until there are so many."""

TIMES = 3.0
"""A candidate may raise this many times the live model's alerts and flag this many times its windows, and beyond that"""

SPARE_ALERTS, SPARE_ALERTS_A_DEVICE, SPARE_SHARE = 3, 0.02, 0.05
"""so many alerts, with more devices so many a device, and this share of the windows."""

MAX_MEDIAN = 0.75
"""An ordinary window scores about 0. Where the live model, too, finds the data strange, twice its median."""

_EDGES = np.linspace(-2.0, 6.0, 321)


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What one model made of the trial's readings.

    Attributes:
        over: Share of the windows at or over 1.0.
        alerts: That it raised; the live model's that were open when the trial began among them.
        median: Of the scores, to 0.03; so is `p99`. Both are from -2 to 6.
    """

    version: str
    windows: int
    over: float
    alerts: int
    median: float
    p99: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate beside the live model.

    Attributes:
        distance: Kolmogorov and Smirnov's: the largest difference of the scores' distributions, 0 to 1.
        failed: Windows that the candidate could not score.
    """

    live: Tally
    candidate: Tally
    distance: float
    failed: int

    def words(self) -> str:
        """For people."""
        one, two = self.candidate, self.live
        return (
            f"{one.windows} windows beside {two.version}: {one.over:.2%} over the threshold (live {two.over:.2%}), {one.alerts} alerts "
            f"({two.alerts}), median score {one.median:.2f} ({two.median:.2f}), 99th percentile {one.p99:.2f} ({two.p99:.2f}), "
            f"distance of the distributions {self.distance:.2f}"
        )


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the candidate may go live, why not, and the numbers."""

    good: bool
    reason: str
    numbers: Comparison


class Trial:
    """A candidate beside the live model.

    Args:
        candidate: The streams that use the model, with the candidate; it raises alerts that nobody sees.
        live: The agent's, with what is live.
        length: For how long.
        began: Monotonic clock, seconds.
    """

    def __init__(self, candidate: Pipeline, live: Pipeline, length: TrialLength, began: float) -> None:
        self.pipeline = candidate
        self._length, self._began = length, began
        self._is_over = False
        names = {stream.name for stream in candidate.streams}
        self._streams = names
        watched = [stream for stream in live.streams if stream.name in names]
        self._live = _Count([stream.judge for stream in watched])
        self._candidate = _Count([stream.judge for stream in candidate.streams])

    def process(self, messages: Sequence[Message], live: Outcome) -> Outcome:
        """Let the candidate take messages that the live model has taken, count what both made of them, and return what it found."""
        found = self.pipeline.process(messages)
        self._candidate.add([some.scores for some in found.scored], found.alerts)
        if self._candidate.windows:  # until its first window is full there is nothing to compare
            self._live.add(_beside(live.scored, found.scored), (a for a in live.alerts if a.stream in self._streams))
        return found

    def verdict(self, now: float) -> Verdict | None:
        """What the trial has come to.

        Args:
            now: Monotonic clock, seconds.

        Returns:
            None while it goes on, and once it has been told.
        """
        if self._is_over:
            return None
        numbers = self.numbers()
        fault = self._fault(numbers)
        self._is_over = fault is not None or self._has_lasted(numbers.candidate.windows, now)
        if not self._is_over:
            return None
        return Verdict(good=fault is None, reason=f"{fault}; {numbers.words()}" if fault else numbers.words(), numbers=numbers)

    def numbers(self) -> Comparison:
        """The numbers so far."""
        shares = [count.bins.cumsum() / max(1, count.windows) for count in (self._live, self._candidate)]
        return Comparison(
            live=self._live.tally(),
            candidate=self._candidate.tally(),
            distance=round(float(np.abs(shares[0] - shares[1]).max()), 4) if self._live.windows and self._candidate.windows else 0.0,
            failed=sum(stream.failed for stream in self.pipeline.streams),
        )

    def _has_lasted(self, windows: int, now: float) -> bool:
        if self._length.windows is not None:
            return windows >= self._length.windows
        return now - self._began >= (self._length.seconds or 0) and windows >= MIN_WINDOWS

    def _fault(self, numbers: Comparison) -> str | None:
        one, two = numbers.candidate, numbers.live
        if numbers.failed:
            return f"{numbers.failed} windows could not be scored"
        if flood := self._flood(one, two):
            return flood
        if one.windows < MIN_WINDOWS:
            return None
        if one.median > max(MAX_MEDIAN, 2 * two.median):
            return f"ordinary windows look strange to it: half of them score over {one.median:.2f}"
        if self._candidate.lowest == self._candidate.highest and self._live.lowest != self._live.highest:
            return f"it gives every window the same score, {self._candidate.lowest:.2f}"
        return None

    def _flood(self, one: Tally, two: Tally) -> str | None:
        devices = sum(len(stream.devices) for stream in self.pipeline.streams)
        if one.alerts > max(SPARE_ALERTS, SPARE_ALERTS_A_DEVICE * devices) + TIMES * two.alerts:
            return f"flood: {one.alerts} alerts where {two.version} raised {two.alerts}"
        if one.windows >= MIN_WINDOWS and one.over > SPARE_SHARE + TIMES * two.over:
            return f"flood: {one.over:.1%} of the windows over the threshold where {two.version} has {two.over:.1%}"
        return None


def _beside(live: Iterable[Scored], candidate: Iterable[Scored]) -> Iterator[Scores]:
    """The live model's scores of devices that the candidate has scored too, from its first window on: where its windows have to fill, a
    device that sends more often than others is the first, and it may be the one that is not well.
    """
    since: dict[str, dict[str, float]] = {}
    for some in candidate:
        first = since.setdefault(some.stream, {})
        for device, time in zip(some.devices, some.times.tolist(), strict=True):
            first.setdefault(device, time)
    for some in live:
        first = since.get(some.stream, {})
        times = zip(some.devices, some.times.tolist(), strict=True)
        yield some.scores[[time >= first.get(device, np.inf) for device, time in times]]


class _Count:
    """One model's scores and alerts, those among them that are withheld because a whole stream drifts."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        self._judges, self._version = judges, judges[0].model.version
        self._alerts = sum(judge.open_alerts() + judge.withholds() - judge.held for judge in judges)
        self._over = self.windows = 0
        self.bins = np.zeros(len(_EDGES) - 1, dtype=np.int64)
        self.lowest, self.highest = np.inf, -np.inf

    def add(self, scores: Iterable[Scores], alerts: Iterable[Alert]) -> None:
        self._alerts += sum(alert.type == "new" for alert in alerts)
        found = np.concatenate([[], *scores])
        if not len(found):
            return
        self.windows += len(found)
        self._over += int((found >= 1.0).sum())
        self.lowest, self.highest = min(self.lowest, float(found.min())), max(self.highest, float(found.max()))
        self.bins += np.histogram(np.clip(found, _EDGES[0], _EDGES[-1]), _EDGES)[0]

    def tally(self) -> Tally:
        return Tally(
            version=self._version,
            windows=self.windows,
            over=round(self._over / max(1, self.windows), 6),
            alerts=self._alerts + sum(judge.held for judge in self._judges),
            median=self._quantile(0.5),
            p99=self._quantile(0.99),
        )

    def _quantile(self, share: float) -> float:
        if not self.windows:
            return 0.0
        place = int(np.searchsorted(self.bins.cumsum(), share * self.windows))
        return round(float(_EDGES[place : place + 2].mean()), 3)
