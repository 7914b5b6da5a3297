"""Windows: the last `steps` readings of one device.

Rules this module keeps: no clock and no I/O, time is the readings' own; what one device sends never changes another's
window; every reading that is pushed is counted once, as `windows`, `waiting` or `late`.
"""

from collections import OrderedDict
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.features import Rows


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


class Windower:
    """Keeps the recent readings of every device of a stream in one array.

    Args:
        spec: Steps, stride and gap.
        columns: Width of a row.
        max_devices: Above it the device least recently heard of is forgotten.

    Attributes:
        windows: Readings that completed a window.
        waiting: Readings kept for a window that was not due yet.
        late: Readings dropped because a newer one of the device was there.
        restarted: Windows begun anew after a gap or a clock that went back.
        evicted: Devices forgotten at the cap.
    """

    def __init__(self, spec: WindowSpec, columns: int, max_devices: int = 10_000) -> None:
        self.spec = spec
        self._max_devices = max_devices
        self._slots: OrderedDict[str, int] = OrderedDict()
        self._rows = np.zeros((0, spec.steps, columns), dtype=np.float32)
        self._newest: list[float] = []
        self._filled: list[int] = []
        self._since: list[int] = []
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
        slot = self._slot(device)
        newest = self._newest[slot]
        if time < newest and newest - time <= self.spec.max_gap_s:
            self.late += 1
            return None
        if abs(time - newest) > self.spec.max_gap_s and self._filled[slot]:
            self._filled[slot] = self._since[slot] = 0
            self.restarted += 1
        self._newest[slot] = time
        window: Rows = self._rows[slot]
        if self.spec.steps > 1:
            window[:-1] = window[1:]
        window[-1] = row
        self._filled[slot] += 1
        self._since[slot] += 1
        if self._filled[slot] < self.spec.steps or (self._filled[slot] > self.spec.steps and self._since[slot] < self.spec.stride):
            self.waiting += 1
            return None
        self._since[slot] = 0
        self.windows += 1
        return window

    def push_batch(self, devices: Sequence[str], times: Sequence[float], rows: Rows) -> tuple[npt.NDArray[np.intp], Rows]:
        """Add readings in their order.

        Args:
            devices: n names.
            times: n event times, epoch seconds.
            rows: float32 `(n, columns)`.

        Returns:
            The positions of the m readings that completed a window, and their windows, float32 `(m, steps, columns)`.
        """
        windows = np.empty((len(devices), *self._rows.shape[1:]), dtype=np.float32)
        positions: list[int] = []
        for position, (device, time) in enumerate(zip(devices, times, strict=True)):
            window = self.push(device, time, rows[position])
            if window is not None:
                windows[len(positions)] = window
                positions.append(position)
        return np.array(positions, dtype=np.intp), windows[: len(positions)]

    def _slot(self, device: str) -> int:
        slot = self._slots.get(device)
        if slot is not None:
            self._slots.move_to_end(device)
            return slot
        if len(self._slots) >= self._max_devices:
            _, slot = self._slots.popitem(last=False)
            self.evicted += 1
            self._newest[slot], self._filled[slot], self._since[slot] = 0.0, 0, 0
        else:
            slot = len(self._slots)
            if slot == len(self._rows):
                grown = np.zeros((min(max(16, 2 * slot), self._max_devices), *self._rows.shape[1:]), dtype=np.float32)
                grown[:slot] = self._rows
                self._rows = grown
            self._newest.append(0.0)
            self._filled.append(0)
            self._since.append(0)
        self._slots[device] = slot
        return slot
