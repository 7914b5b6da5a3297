"""Lateness: readings that may come out of order wait until what could still come before them has had its time.

Rules this module keeps: only where a stream asks for it, because every reading then waits; what waits is bounded, a device at a time.
"""

import heapq
from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.contract.devices import Slots
from vedette.contract.features import Raw
from vedette.contract.windows import Times

MOST_WAITING = 1000
"""Readings of one device; beyond it the oldest wait no longer."""


class _Waiting(NamedTuple):
    """A reading that waits; readings of one time keep their order."""

    time: float
    number: int
    values: tuple[float, ...]
    dated: bool


class Turn(NamedTuple):
    """The m readings whose turn it is.

    Attributes:
        positions: int `(m,)`: which reading of the batch let each go.
        sources: int `(m,)`: which one it is; -1 if of an earlier batch.
        slots: int `(m,)`.
        times: float64 `(m,)`, epoch seconds.
        raw: float64 `(m, features)`.
        dated: bool `(m,)`: which have a time of their own, so that they may be repeats; None if all have.
    """

    positions: Slots
    sources: Slots
    slots: Slots
    times: Times
    raw: Raw
    dated: npt.NDArray[np.bool_] | None

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Turn":
        """Some of them."""
        dated = None if self.dated is None else self.dated[chosen]
        return Turn(self.positions[chosen], self.sources[chosen], self.slots[chosen], self.times[chosen], self.raw[chosen], dated)


class Lateness:
    """Sorts each device's readings by time.

    Args:
        late_s: How much older than its device's newest a reading may be, seconds.
        max_gap_s: A clock that goes back by more is not late but set anew.
        drops_repeats: Whether a reading is dropped that equals, in time and values, one that waits.
    """

    def __init__(self, late_s: float, max_gap_s: float, *, drops_repeats: bool = False) -> None:
        self._late_s, self._max_gap_s, self._drops_repeats = late_s, max_gap_s, drops_repeats
        self._devices: dict[int, list[_Waiting]] = {}
        self._newest: dict[int, float] = {}
        self._count = 0

    def __len__(self) -> int:
        """Readings that wait."""
        return sum(map(len, self._devices.values()))

    def sort(self, slots: Slots, times: Times, raw: Raw, dated: npt.NDArray[np.bool_] | None) -> tuple[Turn, list[int]]:
        """Take in readings and let go of those that need wait no longer.

        Args:
            slots: int `(n,)`.
            times: float64 `(n,)`.
            raw: float64 `(n, features)`.
            dated: See Turn.

        Returns:
            The readings that leave, and which of the batch were repeats.
        """
        first = self._count
        left: list[tuple[int, int, _Waiting]] = []
        repeated: list[int] = []
        may_repeat = repeat(True, len(slots)) if dated is None else dated.tolist()
        for position, (slot, time, values, own) in enumerate(zip(slots.tolist(), times.tolist(), raw.tolist(), may_repeat, strict=True)):
            waiting = self._devices.setdefault(slot, [])
            newest = self._newest.get(slot, time)
            if newest - time > self._max_gap_s:
                left += [(position, slot, heapq.heappop(waiting)) for _ in range(len(waiting))]
                newest = time
            if self._drops_repeats and own and time <= newest and _waits(waiting, time, values):
                repeated.append(position)
                self._count += 1
                continue
            newest = self._newest[slot] = max(newest, time)
            heapq.heappush(waiting, _Waiting(time, self._count, tuple(values), own))
            self._count += 1
            while waiting and (waiting[0].time <= newest - self._late_s or len(waiting) > MOST_WAITING):
                left.append((position, slot, heapq.heappop(waiting)))
        turn = Turn(
            np.array([position for position, _, _ in left], dtype=np.intp),
            np.array([max(-1, reading.number - first) for _, _, reading in left], dtype=np.intp),
            np.array([slot for _, slot, _ in left], dtype=np.intp),
            np.array([reading.time for _, _, reading in left]),
            np.array([reading.values for _, _, reading in left]).reshape(len(left), raw.shape[1]),
            np.array([reading.dated for _, _, reading in left], dtype=np.bool_),
        )
        return turn, repeated

    def reset(self, slots: Slots) -> None:
        """Forget these slots' devices and what waits of them."""
        for slot in slots.tolist():
            self._devices.pop(slot, None)
            self._newest.pop(slot, None)

    def move(self, to: Slots) -> None:
        """Devices have other slots: slot k's now has `to[k]`."""
        self._devices = {int(to[slot]): waiting for slot, waiting in self._devices.items()}
        self._newest = {int(to[slot]): newest for slot, newest in self._newest.items()}

    def saved(self) -> dict[str, Any]:
        """What waits, one array for each of its properties, and each device's newest time."""
        waiting = [(slot, reading) for slot, readings in self._devices.items() for reading in readings]
        return {
            "slots": np.array([slot for slot, _ in waiting], dtype=np.int64),
            "times": np.array([reading.time for _, reading in waiting], dtype=np.float64),
            "numbers": np.array([reading.number for _, reading in waiting], dtype=np.int64),
            "values": np.array([reading.values for _, reading in waiting], dtype=np.float64),
            "dated": np.array([reading.dated for _, reading in waiting], dtype=np.bool_),
            "devices": np.array(list(self._newest), dtype=np.int64),
            "newest": np.array(list(self._newest.values()), dtype=np.float64),
            "count": self._count,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        self._devices = {}
        # Each device's in the order in which they were saved, which is that of a heap.
        for slot, *reading in zip(*(saved[name].tolist() for name in ("slots", "times", "numbers", "values", "dated")), strict=True):
            time, number, values, dated = reading
            self._devices.setdefault(slot, []).append(_Waiting(time, number, tuple(values), dated))
        self._newest = dict(zip(saved["devices"].tolist(), saved["newest"].tolist(), strict=True))
        self._count = saved["count"]


def _waits(waiting: Sequence[_Waiting], time: float, values: Sequence[float]) -> bool:
    """Whether a reading of that time and these values is among those that wait; NaN equals NaN."""
    return any(
        other.time == time and all(a == b or (a != a and b != b) for a, b in zip(other.values, values, strict=True)) for other in waiting
    )
