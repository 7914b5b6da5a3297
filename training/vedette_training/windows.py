"""Windows of history: views of its rows, gathered only when they are looked at.

The gateway's Windower takes one reading after the other; a history of millions needs no such loop. Rules this module keeps: it gives
what the Windower would give, bit for bit (a property test compares the two); nothing is copied before it is asked for.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from vedette.contract.features import Rows
from vedette.contract.windows import Averages, Batch, WindowSpec, decay, elapsed_column

Positions = npt.NDArray[np.intp]

MANY = 100_000
"""More windows teach a classical detector nothing new, and cost memory."""


class Windows:
    """n windows over rows that stand segment after segment; no window straddles two.

    Args:
        rows: float32 `(readings, columns)`.
        ends: int `(n,)`: the row that each window ends with.
        steps: Rows in a window.
    """

    def __init__(self, rows: Rows, ends: Positions, steps: int) -> None:
        self.rows, self.ends, self.steps = rows, ends, steps

    def __len__(self) -> int:
        """How many."""
        return len(self.ends)

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and columns of a window."""
        return self.steps, self.rows.shape[1]

    def __getitem__(self, chosen: slice | Positions | npt.NDArray[np.bool_]) -> "Windows":
        """Some of them, by position or mask; copies no row."""
        return Windows(self.rows, self.ends[chosen], self.steps)

    def flat(self, seed: int, at_most: int = MANY) -> Rows:
        """Windows as vectors, float32 `(n, steps x columns)`: all of them, or so many drawn at random, in their order."""
        chosen = self.sample(seed, at_most)
        return chosen.gather().reshape(len(chosen), -1)

    def sample(self, seed: int, at_most: int = MANY) -> "Windows":
        """All of them, or so many drawn at random, in their order."""
        if len(self) <= at_most:
            return self
        return self[np.sort(np.random.default_rng(seed).choice(len(self), at_most, replace=False))]

    def gather(self) -> Rows:
        """All of them as one array, float32 `(n, steps, columns)`."""
        gathered: Rows = self.rows[self.ends[:, None] + np.arange(1 - self.steps, 1)]
        return gathered


class Part(NamedTuple):
    """n windows that belong to one part of history, in the order in which the readings stood.

    Attributes:
        anomalous: bool `(n,)`: the label of each window's last reading, because that is when the gateway would raise the alert.
        touched: bool `(n,)`: some reading of the window is anomalous. What is to learn from normal windows leaves these out.
        readings: int `(n,)`: the position in history of each window's last reading.
        segments: int `(n,)`: ascending within a device: windows of one segment follow each other without a gap.
        devices: int `(n,)`: a number for each.
    """

    windows: Windows
    anomalous: npt.NDArray[np.bool_]
    touched: npt.NDArray[np.bool_]
    readings: Positions
    segments: Positions
    devices: Positions

    @property
    def normal(self) -> Windows:
        """The windows that no anomalous reading touches."""
        return self.windows[~self.touched]

    def only(self, chosen: npt.NDArray[np.bool_] | Positions) -> "Part":
        """Some of the windows, by mask or position."""
        return Part(
            self.windows[chosen],
            self.anomalous[chosen],
            self.touched[chosen],
            self.readings[chosen],
            self.segments[chosen],
            self.devices[chosen],
        )

    def batches(self, at_most: int = 4096) -> Iterator[Batch]:
        """The windows as the gateway's windower would hand them on, the devices' numbers being their slots."""
        is_first = _firsts(self.segments)
        for start in range(0, len(self.segments), at_most):
            some = slice(start, start + at_most)
            yield Batch(self.readings[some], self.windows[some].gather(), self.devices[some], is_first[some])


def _firsts(numbers: Positions) -> npt.NDArray[np.bool_]:
    """Which of the numbers stand there for the first time."""
    firsts = np.zeros(len(numbers), dtype=np.bool_)
    firsts[np.unique(numbers, return_index=True)[1]] = True
    return firsts


def cut(
    devices: Sequence[str],
    times: Sequence[float],
    rows: Rows,
    anomalous: npt.NDArray[np.bool_],
    spec: WindowSpec,
    averages: Averages = (),
    elapsed: Sequence[int] = (),
) -> Part:
    """Cut windows as the gateway would.

    Args:
        devices: n names.
        times: n event times, epoch seconds.
        rows: float32 `(n, columns)`, from `FeatureEncoder.transform`.
        anomalous: bool `(n,)`.
        spec: Steps, stride and gap.
        averages: As the Windower's.
        elapsed: As the Windower's.

    Returns:
        The windows; their `readings` are positions among the n.
    """
    _, number = np.unique(np.asarray(devices, dtype=np.str_), return_inverse=True)
    order, starts = _segments(number, times, spec.max_gap_s)
    lengths = np.diff(np.append(starts, len(order)))
    segment = np.repeat(np.arange(len(starts)), lengths)
    place = np.arange(len(order)) - np.repeat(starts, lengths)
    due = (place >= spec.steps - 1) & ((place - (spec.steps - 1)) % spec.stride == 0)
    ends = np.flatnonzero(due)
    # In the order of the readings again: segments are one device's each, but readings of many devices alternate.
    ends = ends[np.argsort(order[ends], kind="stable")]
    ordered = rows[order]
    if elapsed and len(order):
        since_s = np.diff(np.asarray(times, dtype=np.float64)[order], prepend=0.0)
        since_s[starts] = spec.max_gap_s
        ordered[:, elapsed] = elapsed_column(since_s, spec.max_gap_s)[:, None]
    _average(ordered, starts, averages)
    labels = anomalous[order]
    counted = np.concatenate([[0], np.cumsum(labels)])
    touched = counted[ends + 1] - counted[ends + 1 - spec.steps] > 0
    return Part(Windows(ordered, ends, spec.steps), labels[ends], touched, order[ends], segment[ends], number[order[ends]])


def _segments(number: Positions, times: Sequence[float], max_gap_s: float) -> tuple[Positions, Positions]:
    """Positions of the readings that are kept, segment by segment, and where in that list each segment begins."""
    if not len(number):
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    by_device = np.argsort(number, kind="stable")
    at = np.asarray(times, dtype=np.float64)
    kept: list[Positions] = []
    starts: list[Positions] = []
    count = 0
    for mine in np.split(by_device, np.flatnonzero(np.diff(number[by_device])) + 1):
        gaps = np.diff(at[mine])
        keep, begins = (mine, np.flatnonzero(gaps > max_gap_s) + 1) if (gaps >= 0).all() else _walk(mine, at, max_gap_s)
        starts.append(count + np.concatenate([[0], begins]).astype(np.intp))
        kept.append(keep)
        count += len(keep)
    return np.concatenate(kept), np.concatenate(starts)


def _walk(mine: Positions, at: npt.NDArray[np.float64], max_gap_s: float) -> tuple[Positions, Positions]:
    """As the Windower does it, reading by reading, for a device whose clock goes back."""
    kept, begins, newest = [], [], None
    for position in mine.tolist():
        time = float(at[position])
        if newest is not None:
            if time < newest and newest - time <= max_gap_s:
                continue
            if abs(time - newest) > max_gap_s:
                begins.append(len(kept))
        newest = time
        kept.append(position)
    return np.array(kept, dtype=np.intp), np.array(begins, dtype=np.intp)


def _average(rows: Rows, starts: Positions, averages: Averages) -> None:
    """Put exponential averages into their columns, segment by segment."""
    bounds = np.append(starts, len(rows)).tolist()
    for begin, end in pairwise(bounds if averages else []):
        for column, half_life in averages:
            weight = decay(half_life)
            values = rows[begin:end, column].astype(np.float64)
            averaged = values
            if len(values) > 1:
                filtered, _ = lfilter([weight], [1.0, weight - 1.0], values[1:], zi=[(1.0 - weight) * values[0]])
                averaged = np.concatenate([values[:1], filtered])
            rows[begin:end, column] = averaged
