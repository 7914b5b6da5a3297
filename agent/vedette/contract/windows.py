"""Windows: the last `steps` rows of one device.

Rules this module keeps: no clock and no I/O; what one device sends never changes another's window; a batch gives what its rows would
give one by one; every row that is pushed is counted once, as `windows` or `waiting`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.devices import Groups, PerDevice, Slots, grouped
from vedette.contract.features import Rows

Times = npt.NDArray[np.float64]
Averages = Sequence[tuple[int, float]]

MOST_HELD = 10_000
"""Points of a grid that one reading may fill."""


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How readings become windows.

    Attributes:
        steps: Rows in a window; without a grid a row is a reading.
        stride: A window is due after this many new rows.
        max_gap_s: A longer silence, in seconds, starts a new window. So does a clock that goes back by more; a reading older
            than the newest by less is late and dropped.
        late_s: Readings may be so much older than their device's newest, in seconds: each then waits so long, by its device's clock, for
            what may still come before it.
        period_s: Distance, in seconds, of a grid's points, which are multiples of it. Each point gets the values of the last reading at
            or before it, as soon as the next reading shows that there was no later one; the points are the rows.
    """

    steps: int = 1
    stride: int = 1
    max_gap_s: float = 3600.0
    late_s: float = 0.0
    period_s: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.stride < 1 or not self.max_gap_s > 0:
            raise ValueError("steps and stride must be at least 1, max_gap_s more than 0")
        if not 0 <= self.late_s <= self.max_gap_s:
            raise ValueError("late_s must be at least 0 and at most max_gap_s")
        if self.period_s is not None and not (0 < self.period_s <= self.max_gap_s <= MOST_HELD * self.period_s):
            raise ValueError(f"period_s must be more than 0, at most max_gap_s and at least a {MOST_HELD}th of it")


class Batch(NamedTuple):
    """The m windows that some rows completed, in their order.

    Attributes:
        positions: int `(m,)`: which row completed each.
        windows: float32 `(m, steps, columns)`, oldest first.
        slots: int `(m,)`: of the windows' devices.
        is_first: bool `(m,)`: no window of the device came before it, or none since a gap or a clock that went back.
    """

    positions: Slots
    windows: Rows
    slots: Slots
    is_first: npt.NDArray[np.bool_]


def decay(half_life: float) -> float:
    """The weight that the newest value has in an exponential average with this half-life, in values."""
    return float(1.0 - 0.5 ** (1.0 / half_life))


def elapsed_column(since_s: Times, max_gap_s: float) -> Times:
    """Seconds since a device's previous reading as a column, 0 to 1: log(1 + seconds) / log(1 + max_gap_s)."""
    column: Times = np.log1p(np.clip(since_s, 0.0, max_gap_s)) / np.log1p(max_gap_s)
    return column


def elapsed_s(column: float, max_gap_s: float) -> float:
    """The seconds that `elapsed_column` made a value of."""
    return float(np.expm1(column * np.log1p(max_gap_s)))


class Windower:
    """Keeps the recent rows of every device of a stream in one array.

    Args:
        spec: Steps, stride and gap.
        columns: Width of a row.
        averages: Columns that are kept as exponential averages, each with its half-life in rows; an average begins anew where
            a window does.
        elapsed: Columns that hold the time since the device's previous row; see `elapsed_column`.

    Attributes:
        windows: Rows that completed a window.
        waiting: Rows kept for a window that was not due yet.
    """

    def __init__(self, spec: WindowSpec, columns: int, averages: Averages = (), elapsed: Sequence[int] = ()) -> None:
        self.spec = spec
        self._averaged = np.array([column for column, _ in averages], dtype=np.intp)
        self._weights = np.array([decay(half_life) for _, half_life in averages])
        self._elapsed = list(elapsed)
        record = np.dtype(
            [
                ("filled", np.int64),
                ("averages", np.float64, (len(averages),)),
                ("rows", np.float32, (spec.steps - 1, columns)),
            ],
            align=True,
        )
        self._devices = PerDevice(np.zeros((), dtype=record))
        self.windows = self.waiting = 0

    def push(self, slots: Slots, since_s: Times, rows: Rows) -> Batch:
        """Add rows in their order.

        Args:
            slots: int `(n,)`: of their devices.
            since_s: float64 `(n,)`: seconds since the device's row before, infinite where a window begins anew.
            rows: float32 `(n, columns)`.

        Returns:
            The windows that they completed.
        """
        steps = self.spec.steps
        groups = grouped(slots)
        state = self._devices.reach(groups.slots)
        rows, since_s = rows[groups.order], since_s[groups.order]
        filled = _counted(groups, np.isinf(since_s), state["filled"][groups.slots])
        if self._elapsed:
            rows[:, self._elapsed] = elapsed_column(since_s, self.spec.max_gap_s)[:, None]
        if len(self._averaged):
            self._average(rows, groups, filled, state)
        # Each device's earlier rows, then its new ones, device after device.
        ends = np.arange(len(rows))
        chain = rows
        if steps > 1:
            ends += np.repeat(np.arange(1, len(groups.slots) + 1) * (steps - 1), groups.lengths)
            chain = np.empty((len(rows) + len(groups.slots) * (steps - 1), rows.shape[1]), dtype=np.float32)
            chain[ends] = rows
            before = (groups.starts + np.arange(len(groups.slots)) * (steps - 1))[:, None] + np.arange(steps - 1)
            chain[before] = state["rows"][groups.slots]
            lasts = ends[groups.starts + groups.lengths - 1]
            state["rows"][groups.slots] = _views(chain, steps - 1)[lasts - (steps - 2)]
        state["filled"][groups.slots] = filled[groups.starts + groups.lengths - 1]
        due = (filled >= steps) & ((filled - steps) % self.spec.stride == 0)
        positions = groups.order[due]
        back = positions.argsort()
        ends = ends[due][back]
        self.windows += len(ends)
        self.waiting += len(rows) - len(ends)
        windows = _views(chain, steps)[ends - (steps - 1)] if len(ends) else np.empty((0, steps, rows.shape[1]), dtype=np.float32)
        positions = positions[back]
        return Batch(positions, windows, slots[positions], filled[due][back] == steps)

    def reset(self, slots: Slots) -> None:
        """Forget these slots' devices."""
        self._devices.reset(slots)

    def move(self, to: Slots) -> None:
        """Devices have other slots: slot k's now has `to[k]`."""
        self._devices.move(to)

    def saved(self) -> dict[str, Any]:
        """The windows; what was counted is not among it."""
        return {"devices": self._devices.values}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        self._devices.restore(saved["devices"])

    def _average(self, rows: Rows, groups: Groups, filled: Slots, state: npt.NDArray[np.void]) -> None:
        """Put the averages into their columns, in the order of the groups."""
        averages = state["averages"][groups.slots]
        for devices, places in groups.rounds():
            now = rows[places[:, None], self._averaged]
            # The same two products and one sum as a linear filter's, so that history can be averaged by one, bit for bit.
            later = self._weights * now + (1.0 - self._weights) * averages[devices]
            averages[devices] = np.where((filled[places] == 1)[:, None], now, later)
            rows[places[:, None], self._averaged] = averages[devices]
        state["averages"][groups.slots] = averages


def _counted(groups: Groups, anew: npt.NDArray[np.bool_], before: Slots) -> Slots:
    """How many rows each device's window has had with each new row, since it began anew.

    Args:
        groups: Of the rows.
        anew: bool `(n,)`, in the order of the groups.
        before: int `(d,)`: how many each window had before.
    """
    places = np.arange(len(anew))
    start = np.repeat(groups.starts, groups.lengths)
    begin = np.maximum.accumulate(np.where(anew, places, -1))
    counted: Slots = places + 1 - np.maximum(begin, start) + np.where(begin < start, np.repeat(before, groups.lengths), 0)
    return counted


def _views(chain: Rows, steps: int) -> Rows:
    """All runs of so many rows, as views: `(len(chain) - steps + 1, steps, columns)`."""
    row, column = chain.strides
    views: Rows = np.lib.stride_tricks.as_strided(
        chain, (max(0, len(chain) - steps + 1), steps, chain.shape[1]), (row, row, column), writeable=False
    )
    return views
