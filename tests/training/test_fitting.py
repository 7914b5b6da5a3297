"""From history to a calibrated detector that scores as the gateway will."""

import numpy as np
import pytest

from vedette.contract.features import Number
from vedette.contract.manifest import Source
from vedette.contract.windows import WindowSpec
from vedette_training import dataset, fitting
from vedette_training.detectors import Workshop
from vedette_training.detectors.pca import Pca
from vedette_training.history import History
from vedette_training.recipe import Device, EventTime, Recipe, Split, Threshold
from vedette_training.recipe import History as HistorySpec

ROWS = 3000


def history(shift: float = 0.0) -> History:
    """A device's two noisy numbers, the first of which shifts for good in the middle of the test part."""
    values = np.random.default_rng(0).normal(size=(ROWS, 2))
    values[int(0.75 * ROWS) :, 0] += shift
    rows = [tuple(row) for row in values.tolist()]
    return History(
        ["d"] * ROWS, [60.0 * i for i in range(ROWS)], rows, np.zeros(ROWS, np.bool_), (Source(name="h", sha256="0" * 64, rows=ROWS),)
    )


def recipe(threshold: Threshold) -> Recipe:
    return Recipe(
        name="r",
        detector=Pca(components=0),
        history=HistorySpec(device=Device(column="d"), time=EventTime(field="t")),
        features=(Number(name="x"), Number(name="y")),
        window=WindowSpec(),
        split=Split(by="time", train=0.3, calibrate=0.2),
        threshold=threshold,
        refit=True,
    )


def scores(threshold: Threshold, shift: float) -> np.ndarray:
    asked, read = recipe(threshold), history(shift)
    return fitting.fit(read, asked, dataset.build(read, asked), Workshop(0)).scores


@pytest.mark.parametrize("adapt", [None, 100.0])
def test_normal_history_is_flagged_as_rarely_as_was_asked_for(adapt: float | None) -> None:
    assert (scores(Threshold(quantile=0.99, adapt=adapt), 0.0) >= 1).mean() < 0.025


def test_a_shift_for_good_sets_a_fixed_threshold_off_for_ever_and_an_adapting_one_at_its_beginning() -> None:
    fixed, adapting = (scores(Threshold(quantile=0.99, adapt=adapt), 6.0) for adapt in (None, 100.0))
    half = len(fixed) // 2
    assert (fixed[half:] >= 1).mean() > 0.9
    assert (adapting[half : half + 2] >= 1).all()
    assert (adapting[half + 300 :] >= 1).mean() < 0.03
