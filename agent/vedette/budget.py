"""A threshold from a budget: where a recording would have given so many alerts a day, and which.

Rules this module keeps: no clock and no I/O; the agent's own Judge decides, over the scores of the recording again, by the rules that the
stream has, but for what no score has to do with, silence and stuck sensors; a threshold that is proposed was judged at just that value.
"""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np

from vedette.alerts import Alert, Judge, Judged, Model
from vedette.config import Alerts
from vedette.contract.devices import Devices
from vedette.stream import Scored

LOWEST = 0.5
"""Below half of its threshold a model says little: no lower one is proposed."""

_STEP = 0.95
_AT_ONCE = 65536
_DAY_S = 86400.0


class Summary:
    """What a recording came to, counted as it is replayed.

    Attributes:
        windows: That were scored.
        alerts: New ones.
    """

    def __init__(self) -> None:
        self.windows = self.alerts = 0
        self._first, self._last = math.inf, -math.inf
        self._devices: set[tuple[str, str]] = set()

    def add(self, scored: Sequence[Scored], alerts: Sequence[Alert]) -> None:
        """Take note of a batch."""
        self.alerts += sum(alert.type == "new" for alert in alerts)
        for stream, devices, times, _ in scored:
            if devices:
                self.windows += len(devices)
                self._devices.update((stream, device) for device in set(devices))
                self._first, self._last = min(self._first, float(times.min())), max(self._last, float(times.max()))

    @property
    def days(self) -> float:
        """From the first window to the last, rounded up to a hundredth: a day of a reading a minute is a day, not one minute less."""
        return max(1, math.ceil((self._last - self._first) / _DAY_S * 100)) / 100 if self.windows else 0.0

    def document(self) -> dict[str, object]:
        """For scripts; times in epoch seconds."""
        return {
            "first": self._first if self.windows else None,
            "last": self._last if self.windows else None,
            "days": self.days,
            "devices": len(self._devices),
            "windows": self.windows,
            "alerts": self.alerts,
            "alerts_per_day": round(self.alerts / self.days, 3) if self.windows else None,
        }

    def words(self) -> str:
        """For people."""
        if not self.windows:
            return "no window was full: nothing was scored"
        first, last = (f"{datetime.fromtimestamp(t, UTC):%Y-%m-%d %H:%M}" for t in (self._first, self._last))
        return (
            f"{first} to {last} ({self.days:g} days), {len(self._devices)} devices, {self.windows} windows, "
            f"{self.alerts} alerts ({self.alerts / self.days:.3g} a day)"
        )


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """The lowest threshold that keeps to the budget.

    Attributes:
        stream: None where it is one threshold for all streams together.
        threshold: In units of the score.
        alerts: New ones that it would have given, all devices together.
    """

    stream: str | None
    threshold: float
    alerts: int


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps to a budget.

    Attributes:
        per_day: New alerts a day, all devices together, that were allowed.
        days: That the recording lasts.
        streams: Of each stream, as if it were alone.
        all: One threshold for all of them.
        alerts: Those that `all` would have given, in order of time.
    """

    per_day: float
    days: float
    streams: tuple[Proposal, ...]
    all: Proposal
    alerts: tuple[Alert, ...]

    def lines(self) -> list[str]:
        """For people, but for the alerts."""
        allowed = f"at most {self.per_day:g} new alerts a day of all devices, in {self.days:g} days"
        streams = [self._line(proposal) for proposal in self.streams] if len(self.streams) > 1 else []
        advice = ["in agent.yaml:", "  alerts:", f"    threshold: {self.all.threshold:g}"]
        return [f"budget: {allowed}", *streams, self._line(self.all), *advice]

    def _line(self, proposal: Proposal) -> str:
        lowest = " (no lower threshold is looked at)" if proposal.threshold == LOWEST else ""
        per_day = proposal.alerts / self.days
        return (
            f"{proposal.stream or 'all streams'}: threshold {proposal.threshold:g}: {proposal.alerts} alerts, {per_day:.3g} a day{lowest}"
        )


class ScoreHistory:
    """Every score of a recording, 24 bytes a window.

    Args:
        gateway: The agent's name.
        streams: Each stream's rules and model, by its name.
    """

    def __init__(self, gateway: str, streams: Mapping[str, tuple[Alerts, Model]]) -> None:
        self._streams = {name: _Stream(rules, gateway, name, model) for name, (rules, model) in streams.items()}

    def add(self, scored: Iterable[Scored]) -> None:
        """Append scores, in the order in which they were judged."""
        for some in scored:
            self._streams[some.stream].add(some)

    def find(self, per_day: float, days: float) -> Budget:
        """Find the lowest thresholds that keep to a budget, coming from above.

        A still lower one may give fewer alerts again, where episodes flow into one: that would be no way to keep to a budget.

        Args:
            per_day: New alerts a day, all devices together.
            days: That the recording lasts.
        """
        most = math.floor(per_day * days + 1e-9)
        streams = list(self._streams.values())
        proposals = [_propose(name, [stream], most) for name, stream in self._streams.items() if len(stream)]
        together = _propose(None, streams, most)
        alerts = [alert for stream in streams for alert in stream.judge(together.threshold)]
        return Budget(
            per_day=per_day,
            days=days,
            streams=tuple(proposals),
            all=together,
            alerts=tuple(sorted(alerts, key=lambda alert: (alert.time, alert.stream, alert.device))),
        )


class _Stream:
    """One stream's scores, and a judge's verdict on them at any threshold."""

    def __init__(self, rules: Alerts, gateway: str, name: str, model: Model) -> None:
        self._rules = msgspec.structs.replace(rules, silent=None, stuck=None, stuck_features=None)
        self._gateway, self._name, self._model = gateway, name, model
        self._numbers: dict[str, int] = {}
        self._device, self._times, self._scores = array("q"), array("d"), array("d")

    def __len__(self) -> int:
        return len(self._scores)

    def add(self, scored: Scored) -> None:
        numbers = self._numbers
        self._device.extend(numbers.setdefault(device, len(numbers)) for device in scored.devices)
        self._times.extend(scored.times.tolist())
        self._scores.extend(scored.scores.tolist())

    def highest(self) -> float:
        return max(self._scores, default=0.0)

    def judge(self, threshold: float) -> list[Alert]:
        """All alerts at a threshold; event times stand for times of arrival."""
        devices = Devices(max(1, len(self._numbers)))
        # At once, so that nobody's slot changes hands.
        slots = np.concatenate([part.slots for part in devices.place(list(self._numbers))] or [np.zeros(0, dtype=np.intp)])
        rules = msgspec.structs.replace(self._rules, threshold=threshold)
        judge = Judge(rules, self._gateway, self._name, self._model, devices, ())
        of_window = slots[np.frombuffer(self._device, dtype=np.int64)] if self._device else slots
        times, scores = np.frombuffer(self._times), np.frombuffer(self._scores).astype(np.float32)
        found: list[Alert] = []
        for start in range(0, len(scores), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            at, count = times[part], len(times[part])
            batch = Judged(of_window[part], at, np.full(count, np.inf), np.zeros((count, 0)), np.arange(count), at, scores[part])
            found += [finding.alert for finding in judge.judge(batch)]
        return found

    def count(self, threshold: float) -> int:
        return sum(alert.type == "new" for alert in self.judge(threshold))


def _propose(name: str | None, streams: Sequence[_Stream], most: int) -> Proposal:
    def count(threshold: float) -> int:
        return sum(stream.count(threshold) for stream in streams)

    good = _rounded_up(max(LOWEST, *(stream.highest() for stream in streams)) * 1.001)
    bad = good
    while good > LOWEST:
        bad = max(LOWEST, _rounded_up(good * _STEP) if _rounded_up(good * _STEP) < good else good - _grain(good))
        if count(bad) > most:
            break
        good = bad
    # Between the two, on values that are short to write.
    while good - bad > 1.5 * _grain(good):
        middle = _rounded_up((good + bad) / 2)
        if middle >= good:
            break
        good, bad = (good, middle) if count(middle) > most else (middle, bad)
    return Proposal(stream=name, threshold=good, alerts=count(good))


def _grain(value: float) -> float:
    """A hundredth, or for large values the third digit."""
    return max(0.01, 10.0 ** (math.floor(math.log10(value)) - 2))


def _rounded_up(value: float) -> float:
    grain = _grain(value)
    return round(math.ceil(round(value / grain, 6)) * grain, 6)
