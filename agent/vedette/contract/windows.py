"""Windows: the last `steps` readings of one device.

Rules this module keeps: no clock and no I/O, time is the readings' own; what one device sends never changes another's
window; every reading that is pushed is counted once, as `windows`, `waiting` or `late`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.features import Rows

Averages = Sequence[tuple[int, float]]


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How readings become windows.

    Attributes:
        steps: Readings in a window.
        stride: A window is due after this many new readings.
        max_gap_s: A longer silence, in seconds, starts a new window. So does a clock that goes back by more; a reading older
            than the newest by less is late and dropped.
    """

    steps: int = 1
    stride: int = 1
    max_gap_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.stride < 1 or not self.max_gap_s > 0:
            raise ValueError("steps and stride must be at least 1, max_gap_s more than 0")


class Batch(NamedTuple):
    """The m windows that some readings completed, in their order.

    Attributes:
        positions: int `(m,)`: which reading completed each.
        windows: float32 `(m, steps, columns)`, oldest first.
        slots: int `(m,)`: where the windower keeps the window's device.
        is_first: bool `(m,)`: no window of the device came before it, or none since a gap, a clock that went back or an eviction.
        is_new: bool `(m,)`: no window of the device came before it, or none since an eviction: nothing else is forgotten at a gap.
    """

    positions: npt.NDArray[np.intp]
    windows: Rows
    slots: npt.NDArray[np.intp]
    is_first: npt.NDArray[np.bool_]
    is_new: npt.NDArray[np.bool_]


def decay(half_life: float) -> float:
    """The weight that the newest value has in an exponential average with this half-life, in values."""
    return float(1.0 - 0.5 ** (1.0 / half_life))


def elapsed_column(since_s: npt.NDArray[np.float64], max_gap_s: float) -> npt.NDArray[np.float64]:
    """Seconds since a device's previous reading as a column, 0 to 1: log(1 + seconds) / log(1 + max_gap_s)."""
    column: npt.NDArray[np.float64] = np.log1p(np.clip(since_s, 0.0, max_gap_s)) / np.log1p(max_gap_s)
    return column


def elapsed_s(column: float, max_gap_s: float) -> float:
    """The seconds that `elapsed_column` made a value of."""
    return float(np.expm1(column * np.log1p(max_gap_s)))


class Windower:
    """Keeps the recent readings of every device of a stream in one array.

    Args:
        spec: Steps, stride and gap.
        columns: Width of a row.
        max_devices: Above it the device least recently heard of is forgotten.
        averages: Columns that are kept as exponential averages, each with its half-life in readings; an average begins anew where
            a window does.
        elapsed: Columns that hold the time since the device's previous reading; see `elapsed_column`.

    Attributes:
        windows: Readings that completed a window.
        waiting: Readings kept for a window that was not due yet.
        late: Readings dropped because a newer one of the device was there.
        restarted: Windows begun anew after a gap or a clock that went back.
        evicted: Devices forgotten at the cap.
    """

    def __init__(
        self, spec: WindowSpec, columns: int, max_devices: int = 10_000, averages: Averages = (), elapsed: Sequence[int] = ()
    ) -> None:
        self.spec = spec
        self._max_devices = max_devices
        self._averaged = np.array([column for column, _ in averages], dtype=np.intp)
        self._weights = np.array([decay(half_life) for _, half_life in averages])
        self._averages = np.zeros((0, len(averages)))
        self._elapsed = list(elapsed)
        self._slots: OrderedDict[str, int] = OrderedDict()
        self._rows = np.zeros((0, spec.steps, columns), dtype=np.float32)
        self._newest: list[float] = []
        self._filled: list[int] = []
        self._since: list[int] = []
        self._is_new: list[bool] = []
        self.windows = self.waiting = self.late = self.restarted = self.evicted = 0

    def __len__(self) -> int:
        """Devices that are remembered."""
        return len(self._slots)

    def push(self, device: str, time: float, row: Rows) -> Rows | None:
        """Add a reading.

        Args:
            device: Its name.
            time: Event time, epoch seconds.
            row: float32 `(columns,)`.

        Returns:
            float32 `(steps, columns)`, oldest first: a view that the device's next push overwrites. None where no window is due.
        """
        return self._push(self._slot(device), time, row)

    def take_over(self, other: "Windower") -> None:
        """Go on with another's windows, which are of the same spec and columns; that one must not be used any more.

        Args:
            other: It has seen every reading that this one has, and maybe earlier ones. What is kept beside the windows by slot stays
                right: a device that is known here keeps its slot.
        """
        devices, rows, averages, counts = other.kept()
        slots = [self._slot(device) for device in devices]
        self._rows[slots], self._averages[slots] = rows, averages
        for slot, (newest, filled, since) in zip(slots, counts, strict=True):
            self._newest[slot], self._filled[slot], self._since[slot] = newest, filled, since

    def kept(self) -> tuple[list[str], Rows, npt.NDArray[np.float64], list[tuple[float, int, int]]]:
        """What is remembered of n devices, the one least recently heard of first.

        Returns:
            Their names; their rows, float32 `(n, steps, columns)`; their averages, float64 `(n, averages)`; and of each the time of its
            newest reading, how many readings its window has, and how many came since one was last due.
        """
        slots = list(self._slots.values())
        counts = [(self._newest[slot], self._filled[slot], self._since[slot]) for slot in slots]
        return list(self._slots), self._rows[slots], self._averages[slots], counts

    def _push(self, slot: int, time: float, row: Rows) -> Rows | None:
        newest = self._newest[slot]
        if time < newest and newest - time <= self.spec.max_gap_s:
            self.late += 1
            return None
        if abs(time - newest) > self.spec.max_gap_s and self._filled[slot]:
            self._filled[slot] = self._since[slot] = 0
            self.restarted += 1
        since_s = time - newest if self._filled[slot] else self.spec.max_gap_s
        self._newest[slot] = time
        window: Rows = self._rows[slot]
        if self.spec.steps > 1:
            window[:-1] = window[1:]
        window[-1] = row
        if self._elapsed:
            window[-1, self._elapsed] = elapsed_column(np.array([since_s]), self.spec.max_gap_s)
        if len(self._averaged):
            self._average(slot, window[-1])
        self._filled[slot] += 1
        self._since[slot] += 1
        if self._filled[slot] < self.spec.steps or (self._filled[slot] > self.spec.steps and self._since[slot] < self.spec.stride):
            self.waiting += 1
            return None
        self._since[slot] = 0
        self.windows += 1
        return window

    def push_batch(self, devices: Sequence[str], times: Sequence[float], rows: Rows) -> Batch:
        """Add readings in their order.

        Args:
            devices: n names.
            times: n event times, epoch seconds.
            rows: float32 `(n, columns)`.

        Returns:
            The windows that they completed.
        """
        windows = np.empty((len(devices), *self._rows.shape[1:]), dtype=np.float32)
        positions: list[int] = []
        slots: list[int] = []
        first: list[bool] = []
        new: list[bool] = []
        for position, (device, time) in enumerate(zip(devices, times, strict=True)):
            slot = self._slot(device)
            window = self._push(slot, time, rows[position])
            if window is not None:
                windows[len(positions)] = window
                positions.append(position)
                slots.append(slot)
                first.append(self._filled[slot] == self.spec.steps)
                new.append(self._is_new[slot])
                self._is_new[slot] = False
        return Batch(
            np.array(positions, dtype=np.intp),
            windows[: len(positions)],
            np.array(slots, dtype=np.intp),
            np.array(first, dtype=np.bool_),
            np.array(new, dtype=np.bool_),
        )

    def _average(self, slot: int, row: Rows) -> None:
        """Put the averages into their columns of the newest row."""
        averages = self._averages[slot]
        now = row[self._averaged]
        # The same two products and one sum as a linear filter's, so that history can be averaged by one, bit for bit.
        averages[:] = now if self._filled[slot] == 0 else self._weights * now + (1.0 - self._weights) * averages
        row[self._averaged] = averages

    def _slot(self, device: str) -> int:
        slot = self._slots.get(device)
        if slot is not None:
            self._slots.move_to_end(device)
            return slot
        if len(self._slots) >= self._max_devices:
            _, slot = self._slots.popitem(last=False)
            self.evicted += 1
            self._newest[slot], self._filled[slot], self._since[slot], self._is_new[slot] = 0.0, 0, 0, True
        else:
            slot = len(self._slots)
            if slot == len(self._rows):
                room = min(max(16, 2 * slot), self._max_devices)
                self._rows = _grown(self._rows, room)
                self._averages = _grown(self._averages, room)
            self._newest.append(0.0)
            self._filled.append(0)
            self._since.append(0)
            self._is_new.append(True)
        self._slots[device] = slot
        return slot


def _grown(array: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    """The array with room for more along its first axis."""
    grown = np.zeros((room, *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
