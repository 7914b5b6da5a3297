"""NAB's scoring: how early and how exclusively a detector's scores pick out a series' labelled windows, from 0 to 100.

Source: Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark" (2015), and NAB 1.1's
own sweeper, whose published results this module reproduces (test_nab.py).

Rules this module keeps: rows of the probation neither gain nor lose; of a window's rows the one that earns most counts, of the rows
outside each counts; one threshold serves all series, and each profile has its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]

PROBATION_SHARE, PROBATION_ROWS_MAX = 0.15, 750
"""NAB's probationPercent: 15 % of a series, but never more than 15 % of 5000 rows."""

_STEEPNESS = 5.0
_FAR = 3.0
"""A false alarm this many window lengths behind a window costs as much as one that no window precedes."""


class Profile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a hit, a missed window and a false alarm are worth to one kind of user."""

    tp_weight: float
    fn_weight: float
    fp_weight: float


class Series(NamedTuple):
    """One file of the benchmark.

    Attributes:
        name: Folder and file, as in `combined_windows.json`.
        times: datetime64[s] `(n,)`.
        values: float64 `(n,)`.
        windows: First and last row of each labelled window, both inclusive, in order.
    """

    name: str
    times: Times
    values: Floats
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """How many rows at the start are there to learn from."""
        return probation(len(self.values))


class Result(NamedTuple):
    """A profile's score, 0 for a detector that never alarms and 100 for a perfect one, and the threshold that reached it."""

    score: float
    threshold: float


class _Profiles(msgspec.Struct, frozen=True):
    cost: Profile = msgspec.field(name="CostMatrix")


def probation(rows: int) -> int:
    """How many of a series' rows are probation."""
    return min(int(PROBATION_SHARE * rows), PROBATION_ROWS_MAX)


def read_profiles(folder: Path) -> dict[str, Profile]:
    """Read `profiles.json`: standard, reward_low_FP_rate and reward_low_FN_rate."""
    raw = msgspec.json.decode((folder / "profiles.json").read_bytes(), type=dict[str, _Profiles])
    return {name: profile.cost for name, profile in raw.items()}


def read_series(folder: Path) -> list[Series]:
    """Read every series that `combined_windows.json` names and `folder` has, in the order of its names."""
    windows = msgspec.json.decode((folder / "combined_windows.json").read_bytes(), type=dict[str, list[tuple[str, str]]])
    return [_read_one(folder, name, windows[name]) for name in sorted(windows) if (folder / name).exists()]


def read_published(folder: Path, detector: str, name: str) -> Floats:
    """Read a published detector's scores, float64 `(n,)`, for the series of that name."""
    return np.loadtxt(folder / "published" / detector / name, skiprows=1, ndmin=1)


def score(series: Sequence[Series], scores: Mapping[str, Floats], profile: Profile) -> Result:
    """Score a detector at the one threshold that suits it best over all series.

    Args:
        series: At least one of them with a window.
        scores: For each series' name float64 `(n,)`, higher is stranger; rows at or over the threshold are alarms.
        profile: What hits, misses and false alarms are worth.

    Raises:
        ValueError: a series has another number of scores than rows, a score is NaN, or there is no window at all.
    """
    count = sum(len(one.windows) for one in series)
    if not count:
        raise ValueError("no series has a labelled window, so nothing can be found")
    levels, gains = zip(*(_gains(one, scores[one.name], profile) for one in series), strict=True)
    level, gain = np.concatenate(levels), np.concatenate(gains)
    order = np.argsort(-level, kind="stable")
    level, total = level[order], np.cumsum(gain[order])
    # A threshold takes all rows of one score or none of them.
    last = np.append(np.flatnonzero(np.diff(level)), len(level) - 1)
    best = last[np.argmax(total[last])]
    if total[best] <= 0.0:
        return Result(score=0.0, threshold=float("inf"))
    return Result(score=float(100.0 * total[best] / (count * (profile.tp_weight + profile.fn_weight))), threshold=float(level[best]))


def score_at(series: Sequence[Series], scores: Mapping[str, Floats], profile: Profile, threshold: float) -> float:
    """Score a detector at a threshold that is given, 0..100 and below 0 where it does worse than silence. Arguments as `score`'s."""
    gained = 0.0
    for one in series:
        level, gain = _gains(one, scores[one.name], profile)
        gained += float(gain[level >= threshold].sum())
    return 100.0 * gained / (sum(len(one.windows) for one in series) * (profile.tp_weight + profile.fn_weight))


def keep_first(scores: Floats, rows: int) -> Floats:
    """Leave a score only where none of the `rows` before it was kept and as high: the refractory period of an alert, for every threshold.

    A row is kept where it exceeds all rows kept in the period before it, so that at any threshold the first alarm is there and at most
    the few that outdo it follow.

    Args:
        scores: float64 `(n,)`.
        rows: Length of the period; 0 leaves all.

    Returns:
        float64 `(n,)`, -inf where nothing was kept.
    """
    kept = np.full(len(scores), -np.inf)
    for row, value in enumerate(scores):
        if value > kept[max(0, row - rows) : row].max(initial=-np.inf):
            kept[row] = value
    return kept


def _read_one(folder: Path, name: str, windows: Iterable[tuple[str, str]]) -> Series:
    table = np.loadtxt(folder / name, delimiter=",", skiprows=1, dtype=str)
    times = table[:, 0].astype("datetime64[s]")
    row = {time: index for index, time in reversed(list(enumerate(times.tolist())))}
    edges = tuple((row[_moment(first)], row[_moment(last)]) for first, last in windows)
    return Series(name=name, times=times, values=table[:, 1].astype(np.float64), windows=edges)


def _moment(text: str) -> object:
    return np.datetime64(text, "s").item()


def _gains(series: Series, scores: Floats, profile: Profile) -> tuple[Floats, Floats]:
    """Give each row's score and what the total gains when the threshold sinks to it, both float64 `(rows after the probation,)`."""
    if scores.shape != series.values.shape or np.isnan(scores).any():
        raise ValueError(f"{series.name}: expected {len(series.values)} scores, none of them NaN")
    worth, window = _worth(series, profile)
    rows = np.arange(series.probation, len(scores))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    gain = worth[rows]
    for index in range(len(series.windows)):
        inside = window[rows] == index
        # Silence costs the window; each row then adds what it earns over the best one before it.
        earned = np.maximum.accumulate(np.append(-profile.fn_weight, gain[inside]))
        gain[inside] = np.diff(earned)
    return scores[rows], gain


def _worth(series: Series, profile: Profile) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Give what an alarm at each row is worth, float64 `(n,)`, and which window the row is in, -1 where none, `(n,)`."""
    rows = np.arange(len(series.values))
    worth = np.full(len(rows), -1.0) * profile.fp_weight
    window = np.full(len(rows), -1, dtype=np.intp)
    for index, (first, last) in enumerate(series.windows):
        length = last - first + 1
        behind = rows > last
        worth[behind] = _sigmoid((rows[behind] - last) / max(length - 1, 1)) * profile.fp_weight
        inside = slice(first, last + 1)
        worth[inside] = _sigmoid(-(last - rows[inside] + 1) / length) * profile.tp_weight / _sigmoid(np.array(-1.0))
        window[inside] = index
    return worth, window


def _sigmoid(position: Floats) -> Floats:
    """NAB's: from almost 1 at a window's start (-1) over 0 at its end (0) to -1 far behind it."""
    return np.where(position > _FAR, -1.0, 2.0 / (1.0 + np.exp(_STEEPNESS * np.minimum(position, _FAR))) - 1.0)
