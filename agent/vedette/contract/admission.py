"""Who may take part: how much one device may send, and how fast new devices may take the place of others.

Rules this module keeps: only times of arrival count, so a recording meets the same limits; what is decided depends on the messages and
their order, never on where batches end; a clock that goes back shuts nobody out.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

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

    Two token buckets. A device's is kept as the time at which it would be full again: that grows by a message's share with each message,
    and may lie ahead of the clock by as much as a burst is worth (the generic cell rate algorithm, ITU-T I.371).
    """

    def __init__(self, limits: AdmissionLimits, most: int) -> None:
        self._share_s = 1 / limits.rate if limits.rate else 0.0
        self._ahead_s = (limits.burst - 1) * self._share_s if limits.rate else math.inf
        # Further ahead it never lies, but where the clock went back.
        self._furthest_s = self._ahead_s + 2 * self._share_s
        self._full_at: list[float] = []
        self._most_tokens = max(1.0, TURNOVER_AT_ONCE * most)
        self._tokens_a_second = most / TURNOVER_S
        self._tokens, self._filled_at = self._most_tokens, -math.inf
        self._shut_until = -math.inf

    def refused(self, slots: Sequence[int], arrived: Sequence[float]) -> list[int]:
        """Take note of messages.

        Args:
            slots: Of their devices.
            arrived: Epoch seconds; infinity for a table's row, of which no rate is known.

        Returns:
            Positions of those that are too many.
        """
        full_at, share_s, ahead_s = self._full_at, self._share_s, self._ahead_s
        if slots and (room := max(slots) + 1) > len(full_at):
            full_at += [-math.inf] * (room - len(full_at))
        refused = []
        for position, (slot, at) in enumerate(zip(slots, arrived, strict=True)):
            full = full_at[slot]
            if full <= at:
                full_at[slot] = at + share_s
            elif full - at <= ahead_s:
                full_at[slot] = full + share_s
            elif full - at > self._furthest_s:
                full_at[slot] = at + share_s
            else:
                refused.append(position)
        return refused

    def is_shut(self, at: float) -> bool:
        """Whether no device has to give way now, whichever it is. For a table's row, which has no time of arrival, one always has."""
        if not math.isfinite(at):
            return False
        if at < self._shut_until <= at + QUIET_S + self._reach_s:
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
        quiet_from = self._full_at[slot] if slot < len(self._full_at) else -math.inf
        if at < quiet_from + QUIET_S <= at + QUIET_S + self._reach_s:
            self._shut_until = quiet_from + QUIET_S
            return False
        self._tokens -= 1.0
        return True

    def vacate(self, slot: int) -> None:
        """Another device has the slot now."""
        if slot < len(self._full_at):
            self._full_at[slot] = -math.inf

    def move(self, to: npt.NDArray[np.intp], kept: int) -> None:
        """Devices have other slots: that of slot k is now at `to[k]`; those from `kept` on are forgotten."""
        full_at = np.full(len(to), -np.inf)
        full_at[to[: len(self._full_at)]] = self._full_at[: len(to)]
        self._full_at = full_at[:kept].tolist()

    def saved(self) -> dict[str, Any]:
        """All that is remembered, as plain data; see `restore`."""
        bucket = [self._tokens, self._filled_at, self._shut_until]
        return {"full_at": np.array(self._full_at, dtype=np.float64), "newcomers": bucket}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where another left off."""
        self._full_at = np.asarray(saved["full_at"], dtype=np.float64).tolist()
        tokens, self._filled_at, self._shut_until = saved["newcomers"]
        self._tokens = min(tokens, self._most_tokens)  # there may be fewer devices now

    @property
    def _reach_s(self) -> float:
        """How far ahead of the clock a device may be, and a little more."""
        return self._furthest_s if math.isfinite(self._furthest_s) else 0.0
