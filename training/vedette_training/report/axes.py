"""Axes: time, scores and shares as they are drawn, and lines thinned to what a page can show.

Rules this module keeps: what is thinned keeps its peaks; a huge score does not hide the small ones.
"""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

Series = npt.NDArray[np.float64]

_LOG_FROM = 12.0
_STEPS_S = (1, 5, 15, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600)
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g} %")
MAX_CURVE = 300


def thin_line(times: Series, scores: Series, max_gap_s: float, stretches: int) -> tuple[Series, Series]:
    """A line's points, lowest and highest of each stretch of time, broken where a device was silent."""
    if len(times) > 2 * stretches:
        edges = np.linspace(times[0], times[-1], stretches + 1)
        bins = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, stretches - 1)
        starts = np.flatnonzero(np.diff(bins, prepend=-1))
        kept = set()
        for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), len(times)], strict=True):
            kept |= {begin + int(scores[begin:end].argmin()), begin + int(scores[begin:end].argmax())}
        chosen = np.array(sorted(kept))
        breaks = np.searchsorted(chosen, np.flatnonzero(np.diff(times) > max_gap_s) + 1)
        times, scores = times[chosen], scores[chosen]
    else:
        breaks = np.flatnonzero(np.diff(times) > max_gap_s) + 1
    breaks = np.unique(breaks[(breaks > 0) & (breaks < len(times))])
    return np.insert(times, breaks, times[breaks]), np.insert(scores, breaks, np.nan)


def thin_curve(x: Series, y: Series) -> tuple[Series, Series]:
    """A curve in the unit square, in at most MAX_CURVE points that are about equally far apart, ends included."""
    if len(x) <= MAX_CURVE:
        return x, y
    walked = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    chosen = np.unique(np.searchsorted(walked, np.linspace(0, walked[-1], MAX_CURVE - 1)))
    chosen = np.unique(np.append(np.minimum(chosen, len(x) - 1), len(x) - 1))
    return x[chosen], y[chosen]


def is_wide(scores: Series) -> bool:
    """Whether scores are so far apart that their axis is `stretch`ed."""
    return bool(np.abs(scores).max(initial=0.0) > _LOG_FROM)


def stretch(scores: Series) -> Series:
    """Linear between -1 and 1, logarithmic beyond."""
    stretched: Series = np.where(np.abs(scores) <= 1, scores, np.sign(scores) * (1 + np.log10(np.maximum(np.abs(scores), 1))))
    return stretched


def log_ticks(scores: Series) -> list[float]:
    """0, 1 and powers of ten, not more than about six; between them 3 and 30, where there is room."""
    ticks = [0.0, 1.0]
    if np.abs(scores).max() < 100:
        ticks += [3.0, 30.0] if scores.max() > 30 else [3.0]
    for sign, most in ((1, scores.max()), (-1, -scores.min())):
        if most > _LOG_FROM:
            powers = range(1, int(np.floor(np.log10(most))) + 1)
            ticks += [sign * 10.0**power for power in powers][:: 1 + len(powers) // 5]
    return sorted(ticks)


def power(value: float) -> str:
    """A tick's number; a large one as a power of ten."""
    if abs(value) < 10_000:
        return f"{value:g}".replace("-", "\u2212")
    power = str(round(np.log10(abs(value)))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    sign = "\u2212" if value < 0 else ""
    return f"{sign}10{power}"


def score_axis(axis: Axis, scores: Series) -> None:
    """Make an axis one of scores, `stretch`ed if they are wide."""
    if is_wide(scores):
        axis.axes.set_yscale("function", functions=(stretch, unstretch))
        ticks = log_ticks(scores)
        axis.set_major_locator(FixedLocator(ticks[:: 1 + len(ticks) // 5]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
    else:
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\u2212")))


def unstretch(stretched: Series) -> Series:
    """The inverse of `stretch`."""
    scores: Series = np.where(np.abs(stretched) <= 1, stretched, np.sign(stretched) * 10.0 ** (np.abs(stretched) - 1))
    return scores


def time_axis(axes: Axes, until: tuple[float, float], narrow: bool) -> None:
    """Make the x axis one of time, from and until epoch seconds."""
    start, end = until
    room = max(end - start, 60.0)
    axes.set_xlim(start - 0.005 * room, start + 1.005 * room)
    ticks = time_ticks(start, start + room, 4 if narrow else 9)
    axes.set_xticks([tick.timestamp() for tick, _ in ticks], [text for _, text in ticks])


def time_ticks(start: float, end: float, at_most: int) -> list[tuple[datetime, str]]:
    """Round times, UTC, with what is written at them; at most so many."""
    for step in _STEPS_S:
        first = -(-start // step) * step
        if (count := int((end - first) // step) + 1) <= at_most:
            found = [datetime.fromtimestamp(first + k * step, UTC) for k in range(count)]
            layout = "%d %b" if step >= 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
            return [(time, f"{time:{'%d %b' if step >= 3600 and not time.hour else layout}}") for time in found]
    from_, to = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
    months = range(12 * from_.year + from_.month, 12 * to.year + to.month)
    every = next(n for n in (1, 2, 3, 6, 12, 24, 60, 120, 1200, 12000) if sum(month % n == 0 for month in months) <= at_most)
    found = [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in months if month % every == 0]
    return [(time, f"{time:%b %Y}") for time in found]


def unit_axes(axes: Axes, x: str, y: str) -> None:
    """Make both axes ones of shares, with these labels."""
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.03), xlabel=x, ylabel=y)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])


def least(until: tuple[float, float]) -> float:
    """The shortest time that can be seen, seconds."""
    return 0.005 * (until[1] - until[0])
