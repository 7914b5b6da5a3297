"""The gate that every exported model passes: on a gateway it scores as the original does.

Rules this module keeps: the exported bytes are run by the gateway's own runtime and scorer; held-out windows and
extremes alike, because conversions have gone wrong on extremes alone; the bytes pass as a whole or there is no bundle.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.contract.errors import BundleError
from vedette.contract.features import FeatureEncoder, FeatureSpec, Number, Rows
from vedette.contract.scores import Calibration, Scorer, Scores

MIN_WINDOWS = 500
"""A check on 8 windows once missed an error on one in six; hundreds see it."""

TOLERANCE = 1e-4
"""Largest difference of scores, relative to max(1, score): the same as the gateway's self-test allows."""

BATCH_SIZES = (1, 2, 7, 32)

_SIZED_WINDOWS = 512
_NOISE = 0.05

Raw = npt.NDArray[np.float32]


class Parity(NamedTuple):
    """What the gate measured: on how many windows, and the largest relative difference of scores. `batch_sizes` gave
    equal bits.
    """

    windows: int
    largest_difference: float
    batch_sizes: tuple[int, ...]


def enough_windows(held_out: Rows, rng: np.random.Generator) -> Rows:
    """Held-out windows, at least MIN_WINDOWS: where there are fewer, some again with a little noise. Float32 `(n,
    steps, columns)`.
    """
    lacking = MIN_WINDOWS - len(held_out)
    if lacking <= 0:
        return held_out
    again = held_out[rng.integers(len(held_out), size=lacking)]
    return np.concatenate([held_out, again + rng.normal(0, _NOISE, again.shape)]).astype(np.float32)


def extremes(features: FeatureSpec, shape: tuple[int, ...], rng: np.random.Generator) -> Rows:
    """Windows that history does not hold but a gateway may meet, float32 `(n, steps, columns)`.

    All zero (every number at its mean), nothing sent at all, constant and alternating at +-1, +-3 and +-10 standard
    deviations, one such reading at the window's end, each column alone, and noise of every such size.
    """
    steps, columns = shape
    encoder = FeatureEncoder(features)
    nothing = encoder.transform(encoder.encode([[np.nan if isinstance(f, Number) else None for f in features]]))[0]
    found = [np.zeros(shape), np.broadcast_to(nothing, shape)]
    for size in (-10.0, -3.0, -1.0, 1.0, 3.0, 10.0):
        constant = np.full(shape, size)
        alternating = constant * np.where(np.arange(steps) % 2, -1.0, 1.0)[:, None]
        spike = np.zeros(shape)
        spike[-1] = size
        found += [constant, alternating, spike]
        for column in range(columns):
            alone = np.zeros(shape)
            alone[:, column] = size
            found.append(alone)
        found += list(rng.normal(0, abs(size), (20, *shape)))
    return np.stack(found).astype(np.float32)


def check(windows: Rows, original: Raw, calibration: Calibration, scorer: Scorer) -> tuple[Parity, Scores]:
    """Compare the original with the exported model.

    Args:
        windows: float32 `(n, steps, columns)`.
        original: The original model's raw outputs for them, float32 `(n,)`.
        calibration: Of the stage.
        scorer: The gateway's, over the exported bytes.

    Returns:
        The figures, and the exported model's scores, float32 `(n,)`.

    Raises:
        BundleError: they differ, or the batch's size changes a score.
        ScoreError: the runtime refuses a batch, or gives what is not a finite number.
    """
    expected, scores = calibration.apply(original), scorer.score(windows)
    difference = np.abs(scores - expected) / np.maximum(1.0, np.abs(expected))
    largest = float(difference.max())
    # `not <=`, so that an original which gave NaN fails too.
    if not largest <= TOLERANCE:
        worst = int(np.nanargmax(difference)) if not np.isnan(difference).all() else 0
        raise BundleError(
            f"parity: {int((~(difference <= TOLERANCE)).sum())} of {len(windows)} windows score differently after "
            f"conversion, by up to {largest:.2g} (allowed {TOLERANCE:g}): "
            f"{expected[worst]:.6f} became {scores[worst]:.6f}; no bundle was made"
        )
    # Within the tolerance of the threshold a verdict is the rounding's; anywhere else it must stand.
    flipped = ((scores >= 1.0) != (expected >= 1.0)) & (np.abs(expected - 1.0) > TOLERANCE)
    if flipped.any():
        raise BundleError(f"parity: {int(flipped.sum())} of {len(windows)} verdicts flip after conversion; no bundle was made")
    check_batches(windows[:_SIZED_WINDOWS], scores[:_SIZED_WINDOWS], scorer.score)
    return Parity(len(windows), largest, BATCH_SIZES), scores


def check_batches(windows: Rows, scores: Scores, score: Callable[[Rows], Scores]) -> None:
    """Make sure that the batch's size never changes a bit of a score: a replay in large batches must equal what went
    live one by one.

    Raises:
        BundleError: it does.
    """
    ends = np.cumsum(BATCH_SIZES)
    plans = {f"of {size}": np.arange(size, len(windows), size) for size in BATCH_SIZES}
    plans["of unequal sizes"] = ends[ends < len(windows)]
    for name, cuts in plans.items():
        parts = np.concatenate([score(part) for part in np.split(windows, cuts)])
        if changed := int((parts != scores).sum()):
            raise BundleError(f"parity: {changed} of {len(windows)} scores change in batches {name}; no bundle was made")
