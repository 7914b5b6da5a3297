"""What a judge is given and what it gives."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.alerts.alert import Alert
from vedette.contract.devices import Slots
from vedette.contract.features import Raw
from vedette.contract.scores import Scores


class Judged(NamedTuple):
    """What a batch of n readings came to, m of which completed a window.

    Attributes:
        slots: Of their devices, int `(n,)`.
        times: Event times, epoch seconds, float64 `(n,)`.
        arrived: When each arrived, epoch seconds, float64 `(n,)`; infinite for rows of tables.
        raw: Their values, encoded, float64 `(n, features)`; NaN where nothing was sent.
        positions: Which reading completed each window, int `(m,)`, never going back.
        window_times: Event time of each window's last row, epoch seconds, float64 `(m,)`.
        scores: Of the windows, float32 `(m,)`.
        evicted: Slots that changed hands: each is another device's from its first reading of the batch on.
        forgotten: Whose they were.
    """

    slots: Slots
    times: npt.NDArray[np.float64]
    arrived: npt.NDArray[np.float64]
    raw: Raw
    positions: npt.NDArray[np.intp]
    window_times: npt.NDArray[np.float64]
    scores: Scores
    evicted: Slots = np.zeros(0, dtype=np.intp)
    forgotten: Sequence[str] = ()


class Finding(NamedTuple):
    """An alert that is to be published.

    Attributes:
        at: The time of arrival that called for it: findings are published in its order, wherever batches end.
        window: Index among the batch's windows of the one that called for it, and explains it; None where there is none.
        alert: The message.
    """

    at: float
    window: int | None
    alert: Alert


class Rank(IntEnum):
    """What comes first of what has to do with one reading."""

    DUE = 0  # silence that somebody was in before it
    EVICTED = 1  # what its device's slot held before
    HEARD = 2  # the end of its own device's silence
    STUCK = 3
    WINDOW = 4


class Proposal(NamedTuple):
    """A finding, and where among the batch's readings it belongs."""

    position: int
    rank: Rank
    finding: Finding
