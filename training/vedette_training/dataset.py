"""Datasets: history divided into training, calibration and test windows.

Rules this module keeps: features are fitted on the training part's normal readings alone; each part is windowed by itself, so no window
straddles two; averages run on from one to the next, as on a gateway that has long been running.
"""

from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract import features
from vedette.contract.errors import HistoryError
from vedette.contract.features import FeatureEncoder, FeatureSpec, Rows
from vedette.contract.windows import WindowSpec
from vedette_training import windows
from vedette_training.history import History
from vedette_training.recipe import Recipe, Split
from vedette_training.windows import Part

PartName = Literal["train", "calibrate", "test"]
PARTS: tuple[PartName, ...] = ("train", "calibrate", "test")


class Dataset(NamedTuple):
    """Three parts that share no reading.

    Attributes:
        features: The recipe's, fitted.
        refit: Training and calibration part together, for recipes that learn again from both; else the training part.
        first: Event time of the earliest reading that is learnt from, epoch seconds; `last` of the latest.
    """

    features: FeatureSpec
    train: Part
    calibrate: Part
    test: Part
    refit: Part
    first: float
    last: float


def build(history: History, recipe: Recipe) -> Dataset:
    """Divide, fit and window.

    Raises:
        HistoryError: there is too little history for a part.
    """
    parts = {name: np.flatnonzero(mask) for name, mask in divide(history, recipe.split).items()}
    # What is usual is what the normal readings say; a classifier must know the values that only anomalous ones have.
    learnt = np.sort(np.concatenate([parts["train"], parts["calibrate"]])) if recipe.refit else parts["train"]
    usual = learnt if recipe.detector.learns_from_labels else learnt[~history.anomalous[learnt]]
    fitted = features.fit(recipe.complete_features, [history.values[i] for i in usual])
    encoder = FeatureEncoder(fitted)
    sparse = msgspec.structs.replace(recipe.window, stride=recipe.train_stride)
    rows = _encode(history, encoder, recipe.window.max_gap_s)
    train = _window(history, rows, parts["train"], encoder, sparse)
    if recipe.split.by == "random":
        # A classifier watches the last training windows; drawn at random, they must not all be of the latest days.
        train = train.only(np.random.default_rng(recipe.split.seed).permutation(len(train.windows)))
    calibrate = _window(history, rows, parts["calibrate"], encoder, recipe.window)
    test = _window(history, rows, parts["test"], encoder, recipe.window)
    for name, part in zip(PARTS, (train, calibrate, test), strict=True):
        # Training and calibration stand on what is normal; a test of one class still counts what it can.
        if not len(part.windows if name == "test" else part.windows[~part.anomalous]):
            raise HistoryError(
                f"{history.sources[0].name}: {len(parts[name])} readings for the {name} part make no "
                f"{'' if name == 'test' else 'normal '}window of {recipe.window.steps} steps: give more history"
            )
    refit = _window(history, rows, learnt, encoder, sparse) if recipe.refit else train
    times = [history.times[i] for i in learnt]
    return Dataset(fitted, train, calibrate, test, refit, min(times), max(times))


def divide(history: History, split: Split) -> dict[PartName, npt.NDArray[np.bool_]]:
    """Which readings, bool `(n,)`, are in each part.

    Raises:
        HistoryError: there are fewer than three devices to divide.
    """
    rng = np.random.default_rng(split.seed)
    if split.by == "device":
        place = _device_places(history.devices, split, rng)
    elif split.by == "time":
        times = np.array(history.times)
        ends = np.quantile(times, [split.train, split.train + split.calibrate])
        # Readings of one instant stay together.
        place = np.searchsorted(ends, times, side="right")
    else:
        ends = np.array([split.train, split.train + split.calibrate]) * len(history.times)
        place = np.searchsorted(ends, rng.permutation(len(history.times)), side="right")
    return {name: place == index for index, name in enumerate(PARTS)}


def _device_places(devices: list[str], split: Split, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """For each reading the index of its device's part; every part gets a device."""
    names = sorted(set(devices))
    if len(names) < len(PARTS):
        raise HistoryError(f"split by device: {len(names)} devices are too few for {len(PARTS)} parts: split by time")
    train = min(max(1, round(split.train * len(names))), len(names) - 2)
    calibrate = min(max(1, round(split.calibrate * len(names))), len(names) - train - 1)
    order = rng.permutation(len(names))
    place = {names[device]: int(rank >= train) + int(rank >= train + calibrate) for rank, device in enumerate(order)}
    return np.array([place[device] for device in devices], dtype=np.intp)


def _encode(history: History, encoder: FeatureEncoder, max_gap_s: float) -> Rows:
    """Every reading's columns, float32 `(n, columns)`, averages included."""
    rows = encoder.transform(encoder.encode(history.values))
    if encoder.averages:
        # Begun anew with each part, they would be unsteady at first, and where history is short that is what the threshold would be of.
        whole = windows.cut(history.devices, history.times, rows, history.anomalous, WindowSpec(max_gap_s=max_gap_s), encoder.averages)
        rows[whole.readings] = whole.windows.rows[whole.windows.ends]
    return rows


def _window(history: History, rows: Rows, readings: npt.NDArray[np.intp], encoder: FeatureEncoder, spec: WindowSpec) -> Part:
    """Window some readings, by position."""
    devices = [history.devices[i] for i in readings]
    times = [history.times[i] for i in readings]
    part = windows.cut(devices, times, rows[readings], history.anomalous[readings], spec, elapsed=encoder.elapsed)
    return part._replace(readings=readings[part.readings])
