"""Who may take part: how much one device may send, and how fast new devices may take the place of others.

Rules this module keeps: only times of arrival count, so a recording meets the same limits; what is decided depends on the messages and
their order, never on where batches end; a clock that goes back shuts nobody out.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.contract.per_device import PerDevice, Slots

QUIET_S = 60.0
"""A device that was heard of more recently than this gives way to none: whoever sends at least once a minute cannot be pushed out."""

TURNOVER_S = 3600.0
"""As many devices as there may be can be replaced in this time, a steady part of them in each second;"""

TURNOVER_AT_ONCE = 0.1
"""and this share of them at once."""


class AdmissionLimits(NamedTuple):
    """What one device may send.

    Attributes:
        rate: Messages a second for long; None or 0 for any number.
        burst: Messages at once.
    """

    rate: float | None = None
    burst: int = 1


class Admission:
    """Limits on the devices of one stream.

    Args:
        limits: What one device may send.
        most: Devices that there may be.

    A device has a token for each message; they are filled up when its first message of a second arrives. Who may take another's place has
    tokens, too, which all newcomers share.
    """

    def __init__(self, limits: AdmissionLimits, most: int) -> None:
        self._rate, self._burst = limits.rate or 0.0, float(limits.burst)
        self._left = PerDevice(np.array(self._burst))
        self._heard_at = PerDevice(np.array(-np.inf))  # whole seconds
        self._most_tokens = max(1.0, TURNOVER_AT_ONCE * most)
        self._tokens_a_second = most / TURNOVER_S
        self._tokens, self._filled_at = self._most_tokens, -math.inf
        self._shut_until = -math.inf

    def refused(self, slots: Slots, arrived: npt.NDArray[np.float64]) -> Slots:
        """Take note of messages.

        Args:
            slots: int `(n,)`: of their devices.
            arrived: float64 `(n,)`: epoch seconds; infinity for a table's row, of which no rate is known.

        Returns:
            Positions of those that are too many.
        """
        if not len(slots):
            return slots
        seconds = np.floor(arrived)
        if seconds[0] != seconds[-1] or not (seconds == seconds[0]).all():
            return self._refused_one_by_one(slots, seconds)
        second = float(seconds[0])
        if not math.isfinite(second):
            return slots[:0]
        left, heard_at = self._left.reach(slots), self._heard_at.reach(slots)
        before = heard_at[slots]
        if (is_first := before != second).any():
            some = slots[is_first]
            if self._rate:
                left[some] = np.minimum(self._burst, left[some] + self._rate * np.maximum(0.0, second - before[is_first]))
            heard_at[some] = second
        if not self._rate:
            return slots[:0]
        were_left = left[slots]
        np.subtract.at(left, slots, 1.0)
        if left[slots].min() >= 0.0:
            return slots[:0]
        left[slots] = were_left
        return self._refused_one_by_one(slots, seconds)

    def _refused_one_by_one(self, slots: Slots, seconds: npt.NDArray[np.float64]) -> Slots:
        """As `refused`; where many seconds are in a batch, or somebody sends too much."""
        some, which = np.unique(slots, return_inverse=True)
        all_left, all_heard_at = self._left.reach(slots), self._heard_at.reach(slots)
        left, heard_at = all_left[some].tolist(), all_heard_at[some].tolist()
        rate, burst = self._rate, self._burst
        refused = []
        for position, (each, second) in enumerate(zip(which.tolist(), seconds.tolist(), strict=True)):
            if second == math.inf:
                continue
            if heard_at[each] != second:
                # A clock that went back fills nothing, and counts from there.
                if rate:
                    left[each] = min(burst, left[each] + rate * max(0.0, second - heard_at[each]))
                heard_at[each] = second
            if rate and left[each] < 1.0:
                refused.append(position)
            else:
                left[each] -= 1.0 if rate else 0.0
        all_left[some], all_heard_at[some] = left, heard_at
        return np.array(refused, dtype=np.intp)

    def is_shut(self, at: float) -> bool:
        """Whether no device has to give way now, whichever it is. For a table's row, which has no time of arrival, one always has."""
        if not math.isfinite(at):
            return False
        if at < self._shut_until <= at + QUIET_S:
            return True
        if at < self._filled_at:
            self._filled_at = at  # the clock went back
        elif at > self._filled_at:
            self._tokens = min(self._most_tokens, self._tokens + (at - self._filled_at) * self._tokens_a_second)
            self._filled_at = at
        return self._tokens < 1.0

    def may_take(self, slot: int, at: float) -> bool:
        """Whether a new device may have the place of the one least recently heard of; asked only where it is not shut."""
        if not math.isfinite(at):
            return True
        heard_at = float(self._heard_at.reach(np.array([slot]))[slot])
        if at < heard_at + QUIET_S <= at + QUIET_S:
            self._shut_until = heard_at + QUIET_S
            return False
        self._tokens -= 1.0
        return True

    def vacate(self, slot: int) -> None:
        """Another device has the slot now."""
        for kept in (self._left, self._heard_at):
            kept.reset(np.array([slot]))

    def move(self, to: Slots, kept: int) -> None:
        """Devices have other slots: that of slot k is now at `to[k]`; those from `kept` on are forgotten."""
        for each in (self._left, self._heard_at):
            each.move(to)
            each.reset(np.arange(kept, len(to)))

    def saved(self) -> dict[str, Any]:
        """All that is remembered, as plain data; see `restore`."""
        bucket = [self._tokens, self._filled_at, self._shut_until]
        return {"left": self._left.values, "heard_at": self._heard_at.values, "newcomers": bucket}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where another left off, which may have had other limits."""
        self._left.restore(np.minimum(self._burst, saved["left"]))
        self._heard_at.restore(saved["heard_at"])
        tokens, self._filled_at, self._shut_until = saved["newcomers"]
        self._tokens = min(tokens, self._most_tokens)
