"""Calibration: where on a model's own scale 0 (ordinary) and 1.0 (the threshold) are.

Rules this module keeps: it is fitted on held-out normal windows, never on those that the model learnt from; what is counted against a
budget is alerts as the agent raises them (`3 of 5` windows by default), not single windows; where a gateway goes on adapting, that is
fitted with which it begins.

A budget of alerts is met by peaks over threshold (Pickands, 1975; Coles, 2001, chapter 4): the excesses of independent peaks over a
high level follow a generalised Pareto distribution, which says how high the peak is that comes once in so many days, be they more days
than there were to look at.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import genpareto

from vedette.config import Alerts
from vedette.contract.adaptation import BINS, Adaptation, places_of
from vedette.contract.errors import ConfigError
from vedette.contract.scores import Calibration, RawScores, Scorer
from vedette_training.recipe import Threshold
from vedette_training.windows import Part

PEAK_SHARE = 0.02
"""The level that peaks are counted over is passed by this share of the windows."""

MIN_PEAKS = 10
"""With fewer, only the excesses' mean is used: an exponential tail, which is a generalised Pareto of shape 0."""

MAX_SHAPE = 0.5
"""Few peaks can suggest a tail so heavy that its mean is hardly finite; thresholds would then be anywhere."""

ORDINARY_LOG_ODDS = math.log(0.01 / 0.99)
"""Where a classifier's 0 is if it takes most normal windows for anomalous: a probability of 1 %."""

ORIGIN = 0.01
"""Quantile of the raw scores that an adaptation measures from: the very smallest may be an accident."""

_DAY_S = 86400.0
_KEPT_PEAKS = 400

Series = npt.NDArray[np.float64]


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """The upper tail of a score on held-out normal data.

    Attributes:
        level: What peaks are counted over, on the raw scale.
        scale: Of the generalised Pareto distribution of their excesses; `shape` likewise.
        device_days: How long was looked at.
        count: Peaks over the level.
        peaks: Their heights, ascending; the highest `_KEPT_PEAKS`.
        threshold: Where the budget puts it.
    """

    level: float
    scale: float
    shape: float
    device_days: float
    count: int
    peaks: tuple[float, ...]
    threshold: float


class Calibrated(NamedTuple):
    """Calibrations of the stages that have a say, in their order; of their combination, if there are several; and the last one's
    tail, where a budget asked for it.
    """

    stages: tuple[Calibration, ...]
    combined: Calibration | None
    tail: Tail | None


class Held(NamedTuple):
    """n held-out normal windows: raw scores as smoothed on the gateway `(n, voters)`, and where each belongs.

    Attributes:
        segments: int `(n,)`: windows of one segment follow each other.
        device_days: How long they were watched, all devices together.
    """

    raw: RawScores
    segments: npt.NDArray[np.intp]
    device_days: float


def hold(part: Part, raw: RawScores, times: Sequence[float]) -> Held:
    """The normal windows of a part, in the order of their segments.

    Args:
        part: Of held-out history.
        raw: float64 `(n, voters)`, smoothed.
        times: Event times of all of history's readings.
    """
    order = np.lexsort((np.arange(len(part.segments)), part.segments))
    at = np.asarray(times, dtype=np.float64)[part.readings[order]]
    # Each window stands for the time since the one before it.
    follows = np.concatenate([[False], np.diff(part.segments[order]) == 0])
    watched_s = np.where(follows, np.diff(at, prepend=at[:1]), 0.0)
    touched = part.anomalous if part.touched.all() else part.touched
    normal = ~touched[order]
    return Held(raw[order][normal], part.segments[order][normal], float(watched_s[normal].sum()) / _DAY_S)


def fit(held: Held, threshold: Threshold, scorer: Scorer) -> Calibrated:
    """Fit calibrations.

    Args:
        held: Held-out normal windows.
        threshold: What was asked for.
        scorer: Combines the stages' scores; its own calibrations are not looked at.

    Raises:
        ConfigError: the raw scores do not tell the threshold from what is ordinary.
    """
    found = [_fit_one(held.raw[:, voter], held, threshold) for voter in range(held.raw.shape[1])]
    stages = tuple(calibration for calibration, _ in found)
    # A classifier's threshold is its own, and a surprisal says how rare it is, whoever gave it.
    fixed = threshold.probability is not None or (threshold.adapt is not None and threshold.quantile is not None)
    if len(stages) == 1 or fixed:
        return Calibrated(stages, None, found[0][1])
    # Each stage meets the budget by itself; both together would give another rate than was asked for.
    together = scorer.merge(np.column_stack([c.apply(held.raw[:, voter]) for voter, c in enumerate(stages)]))
    combined, tail = _fit_one(together, held, msgspec.structs.replace(threshold, adapt=None))
    return Calibrated(stages, combined, tail)


def _fit_one(raw: Series, held: Held, threshold: Threshold) -> tuple[Calibration, Tail | None]:
    adaptation = fit_adaptation(raw, threshold.adapt) if threshold.adapt else None
    if adaptation:
        raw = adaptation.surprisal(raw)
    centre = float(np.median(raw))
    if threshold.probability is not None:
        limit = math.log(threshold.probability / (1 - threshold.probability))
        # A classifier that takes most normal windows for anomalous has its ordinary side still. It must be reported with the false
        # alarms that it gives, not fail to be.
        return Calibration(centre=centre if centre < limit else min(ORDINARY_LOG_ODDS, limit - 1), threshold=limit), None
    tail = None
    if threshold.alerts_per_day is not None:
        tail = fit_tail(raw, held, threshold.alerts_per_day)
        limit = tail.threshold
    elif adaptation:
        assert threshold.quantile is not None
        # By the meaning of a surprisal: few held-out windows would only blur it.
        centre, limit = math.log10(2), -threshold.margin * math.log10(1 - threshold.quantile)
    else:
        assert threshold.quantile is not None
        # From the least score: not every detector's scale begins at 0.
        least = float(raw.min())
        limit = least + threshold.margin * (float(np.quantile(raw, threshold.quantile)) - least)
    if not limit > centre:
        raise ConfigError(
            f"threshold: {limit:g} on {len(raw)} held-out normal windows is no more than their median, {centre:g}: "
            "choose a higher quantile or fewer alerts, or look whether the model tells windows apart at all"
        )
    if adaptation and limit >= adaptation.cap:
        raise ConfigError(f"threshold: a surprisal of {limit:.3g} is not under {adaptation.cap:g}, where they end: ask for less")
    return Calibration(centre=centre, threshold=limit, adaptation=adaptation), tail


def fit_adaptation(raw: Series, half_life: float) -> Adaptation:
    """The histogram of held-out normal windows' raw scores, with which a device begins.

    Args:
        raw: float64 `(n,)`, of whatever scale and sign.
        half_life: In windows.

    Raises:
        ConfigError: all of them are equal.
    """
    origin = float(np.quantile(raw, ORIGIN))
    # Where most windows are as ordinary as can be, the unit is a mean one of the others.
    unit = float(np.median(raw)) - origin or float(np.maximum(raw - origin, 0.0).mean())
    if not unit > 0:
        raise ConfigError(f"threshold: all {len(raw)} held-out normal windows score {origin:g}: there is nothing to adapt to")
    counts = np.bincount(places_of(raw, origin, unit).astype(np.intp), minlength=BINS)
    return Adaptation(origin=origin, unit=unit, seed=tuple((counts / len(raw)).tolist()), weight=float(len(raw)), half_life=half_life)


def fit_tail(raw: Series, held: Held, alerts_per_day: float) -> Tail:
    """Fit a score's upper tail and find the threshold that gives so many alerts.

    Args:
        raw: float64 `(n,)`, held-out normal windows' scores.
        held: Where they belong.
        alerts_per_day: Of one device.

    Raises:
        ConfigError: no time passes between the windows.
    """
    rule = Alerts().raise_
    raising = _raising(raw, held.segments, rule.m, rule.n)
    if not held.device_days > 0:
        raise ConfigError("threshold: alerts_per_day needs history whose readings follow each other in time: give a quantile")
    level = float(np.quantile(raising, 1 - PEAK_SHARE))
    peaks = _peaks(raising, held.segments, level, rule.n)
    budget = alerts_per_day * held.device_days
    scale, shape = 1.0, 0.0
    if len(peaks):
        scale, shape = _fit_pareto(peaks - level)
    if budget >= len(peaks):
        threshold = _empirical(raising, held.segments, rule.n, budget)
    else:
        rarity = len(peaks) / budget
        threshold = level + (scale * math.log(rarity) if shape == 0 else scale / shape * (rarity**shape - 1))
    return Tail(
        level=level,
        scale=scale,
        shape=shape,
        device_days=held.device_days,
        count=len(peaks),
        peaks=tuple(sorted(peaks.tolist())[-_KEPT_PEAKS:]),
        threshold=float(threshold),
    )


def _raising(raw: Series, segments: npt.NDArray[np.intp], m: int, n: int) -> Series:
    """For each window the highest threshold at which it would raise an alert: the m-th largest of its segment's last n scores."""
    last = np.full((n, len(raw)), -np.inf)
    for back in range(min(n, len(raw))):
        last[back, back:] = np.where(segments[back:] == segments[: len(raw) - back], raw[: len(raw) - back], -np.inf)
    raising: Series = np.sort(last, axis=0)[n - m]
    # The first windows of a segment cannot raise one yet.
    return np.where(np.isfinite(raising), raising, raw.min())


def _peaks(raising: Series, segments: npt.NDArray[np.intp], level: float, apart: int) -> Series:
    """Heights of the peaks over a level: of runs that at least `apart` windows under it divide."""
    over = np.flatnonzero(raising > level)
    if not len(over):
        return np.zeros(0)
    new = np.concatenate([[True], (np.diff(over) > apart) | (np.diff(segments[over]) != 0)])
    heights: Series = np.maximum.reduceat(raising[over], np.flatnonzero(new))
    return heights


def _empirical(raising: Series, segments: npt.NDArray[np.intp], apart: int, budget: float) -> float:
    """The lowest level that at most so many peaks pass, where history holds that many."""
    low, high = float(np.median(raising)), float(raising.max())
    for _ in range(40):
        middle = (low + high) / 2
        if len(_peaks(raising, segments, middle, apart)) > budget:
            low = middle
        else:
            high = middle
    return high


def _fit_pareto(excesses: Series) -> tuple[float, float]:
    """Scale and shape by maximum likelihood."""
    mean = float(excesses.mean())
    if len(excesses) < MIN_PEAKS or not mean > 0:
        return max(mean, 1e-12), 0.0
    # In units of the mean: the optimiser's steps are absolute.
    shape, _, scale = genpareto.fit(excesses / mean, 0.0, loc=0, scale=1, floc=0)
    if not abs(shape) <= MAX_SHAPE:
        shape = math.copysign(MAX_SHAPE, shape)
        _, _, scale = genpareto.fit(excesses / mean, f0=shape, floc=0, scale=1)
    return float(scale) * mean, float(shape) if abs(shape) > 1e-6 else 0.0
