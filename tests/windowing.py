"""Devices, timeline and windower put together as the detector does, for tests that need no model."""

from collections.abc import Sequence

import numpy as np

from vedette.contract.devices import Devices
from vedette.contract.features import Rows
from vedette.contract.timeline import Timeline
from vedette.contract.windows import Averages, Windower, WindowSpec

Given = tuple[str, float, float]
"""Device, time, and the value of every column; NaN is missing."""


class Windowing:
    """Windows of readings whose columns all hold one value."""

    def __init__(
        self,
        spec: WindowSpec,
        columns: int = 1,
        most: int = 10,
        averages: Averages = (),
        elapsed: Sequence[int] = (),
        *,
        merges: bool = False,
        drops_repeats: bool = False,
    ) -> None:
        self.columns = columns
        self.devices = Devices(most)
        self.timeline = Timeline(spec, columns, merges=merges, drops_repeats=drops_repeats)
        self.windower = Windower(spec, columns, averages, elapsed)
        self.first: list[bool] = []

    def push(self, readings: Sequence[Given]) -> list[tuple[int, Rows]]:
        """Which reading completed each window, and the window."""
        found = []
        for part in self.devices.place([device for device, _, _ in readings]):
            some = readings[part.readings]
            self.timeline.reset(part.evicted)
            self.windower.reset(part.evicted)
            raw = np.array([[value] * self.columns for _, _, value in some], dtype=np.float64)
            rows = self.timeline.arrange(part.slots, np.array([time for _, time, _ in some], dtype=np.float64), raw)
            batch = self.windower.push(rows.slots, rows.since_s, rows.raw.astype(np.float32))
            self.first += batch.is_first.tolist()
            found += list(zip((rows.positions[batch.positions] + part.readings.start).tolist(), batch.windows, strict=True))
        return found

    def one_by_one(self, readings: Sequence[Given]) -> list[list[float] | None]:
        """The first column of the window that each reading completed."""
        found = [self.push([reading]) for reading in readings]
        return [windows[0][1][:, 0].tolist() if windows else None for windows in found]
