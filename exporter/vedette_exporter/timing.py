"""What scoring takes, on this machine."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from vedette.contract.features import Rows
from vedette.contract.scores import Scorer

SIZES = (1, 32, 256)
"""Windows a call: a reading that arrives alone, a few, and a replay."""

_TURNS, _RUNS = 10, 3


def us_per_window(scorers: Sequence[Scorer], windows: Rows) -> list[Mapping[int, float]]:
    """Take the time of calls of every one of SIZES, all scorers in turn, so that what else the machine does falls on each alike.

    In a turn the first call is not counted: it finds the caches full of the scorer before.

    Args:
        scorers: Over loaded models.
        windows: float32 `(n, steps, columns)`, n at least 1; repeated where a call needs more.

    Returns:
        For each scorer microseconds a window by windows a call, the median of 30 calls.
    """
    found: list[dict[int, float]] = [{} for _ in scorers]
    for size in SIZES:
        given = np.resize(windows, (size, *windows.shape[1:]))
        took_s = np.array([[[_time_s(scorer, given) for _ in range(1 + _RUNS)][1:] for scorer in scorers] for _ in range(_TURNS)])
        for figures, median_s in zip(found, np.median(took_s, axis=(0, 2)).tolist(), strict=True):
            figures[size] = median_s / size * 1e6
    return list(found)


def _time_s(scorer: Scorer, windows: Rows) -> float:
    started = time.perf_counter()
    scorer.score(windows)
    return time.perf_counter() - started
