"""Datasets: history divided into training, calibration and test windows.

Rules this module keeps: features are fitted on the training part alone; each part is windowed by itself, so no window
straddles two; a window's label is that of its last reading, because that is when the gateway would raise the alert.
"""

from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract import features
from vedette.contract.errors import HistoryError
from vedette.contract.features import FeatureEncoder, FeatureSpec, Rows
from vedette.contract.windows import Windower, WindowSpec
from vedette_training.history import History
from vedette_training.recipe import Recipe, Split

PartName = Literal["train", "calibrate", "test"]
PARTS: tuple[PartName, ...] = ("train", "calibrate", "test")


class Part(NamedTuple):
    """Windows float32 `(n, steps, columns)`, scaled, and whether each is anomalous, bool `(n,)`."""

    windows: Rows
    anomalous: npt.NDArray[np.bool_]

    @property
    def normal(self) -> Rows:
        """The windows that are not anomalous."""
        normal: Rows = self.windows[~self.anomalous]
        return normal


class Dataset(NamedTuple):
    """Three parts that share no reading.

    Attributes:
        features: The recipe's, fitted.
        first: Event time of the earliest training reading, epoch seconds; `last` of the latest.
    """

    features: FeatureSpec
    train: Part
    calibrate: Part
    test: Part
    first: float
    last: float


def build(history: History, recipe: Recipe) -> Dataset:
    """Divide, fit and window.

    Raises:
        HistoryError: there is too little history for a part.
    """
    parts = {name: np.flatnonzero(mask) for name, mask in divide(history, recipe.split).items()}
    fitted = features.fit(recipe.features, [history.values[i] for i in parts["train"]])
    encoder = FeatureEncoder(fitted)
    sparse = msgspec.structs.replace(recipe.window, stride=recipe.train_stride)
    train = _window(history, parts["train"], encoder, sparse)
    if recipe.split.by == "random":
        # A classifier watches the last training windows; drawn at random, they must not all be of the latest days.
        order = np.random.default_rng(recipe.split.seed).permutation(len(train.windows))
        train = Part(train.windows[order], train.anomalous[order])
    calibrate = _window(history, parts["calibrate"], encoder, recipe.window)
    test = _window(history, parts["test"], encoder, recipe.window)
    for name, part in zip(PARTS, (train, calibrate, test), strict=True):
        # Training and calibration stand on what is normal; a test of one class still counts what it can.
        if not len(part.windows if name == "test" else part.normal):
            raise HistoryError(
                f"{history.sources[0].name}: {len(parts[name])} readings for the {name} part make no "
                f"{'' if name == 'test' else 'normal '}window of {recipe.window.steps} steps: give more history"
            )
    times = [history.times[i] for i in parts["train"]]
    return Dataset(fitted, train, calibrate, test, min(times), max(times))


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


def _window(history: History, readings: npt.NDArray[np.intp], encoder: FeatureEncoder, spec: WindowSpec) -> Part:
    """Window some readings, by position, with the gateway's own windower."""
    devices = [history.devices[i] for i in readings]
    rows = encoder.transform(encoder.encode([history.values[i] for i in readings]))
    windower = Windower(spec, len(encoder.columns), max_devices=max(1, len(set(devices))))
    positions, windows = windower.push_batch(devices, [history.times[i] for i in readings], rows)
    return Part(windows, history.anomalous[readings[positions]])
