from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.errors import HistoryError
from vedette.contract.features import Category, FeatureEncoder, Number
from vedette.contract.windows import WindowSpec
from vedette_training import dataset, history
from vedette_training.detectors.isolation_forest import IsolationForest
from vedette_training.history import History
from vedette_training.recipe import EveryNumber, Recipe, Split

TIME = Split(by="time", train=0.5, calibrate=0.25)


def numbered(devices: int, minutes: int) -> History:
    """Readings whose only value is their own position."""
    count = devices * minutes
    return History(
        devices=[f"d{i % devices}" for i in range(count)],
        times=[60.0 * (i // devices) for i in range(count)],
        values=[(float(i), "open") for i in range(count)],
        anomalous=np.zeros(count, dtype=np.bool_),
        sources=(),
    )


@given(
    st.sampled_from(["time", "device", "random"]),
    st.floats(0.05, 0.9),
    st.integers(3, 9),
    st.integers(1, 40),
    st.integers(0, 9),
)
def test_every_reading_is_in_exactly_one_part(by: str, train: float, devices: int, minutes: int, seed: int) -> None:
    split = msgspec.convert({"by": by, "train": train, "calibrate": (1 - train) / 2, "seed": seed}, Split)
    parts = dataset.divide(numbered(devices, minutes), split)
    assert (np.sum(list(parts.values()), axis=0) == 1).all()


@given(st.floats(0.05, 0.9), st.integers(3, 9), st.integers(0, 9))
def test_split_by_device_leaves_no_device_in_two_parts_and_none_without(train: float, devices: int, seed: int) -> None:
    read = numbered(devices, 5)
    parts = dataset.divide(read, Split(by="device", train=train, calibrate=(1 - train) / 2, seed=seed))
    names = [{read.devices[i] for i in np.flatnonzero(mask)} for mask in parts.values()]
    assert all(names)
    assert not any(one & other for one, other in combinations(names, 2))


def test_split_by_time_trains_on_nothing_later_than_it_tests_on() -> None:
    read = numbered(3, 40)
    times = np.array(read.times)
    parts = dataset.divide(read, TIME)
    assert times[parts["train"]].max() < times[parts["calibrate"]].min()
    assert times[parts["calibrate"]].max() < times[parts["test"]].min()


def test_no_window_straddles_two_parts(recipe: Recipe) -> None:
    read = numbered(3, 40)
    raw = msgspec.structs.replace(recipe, split=TIME)
    data = dataset.build(read, raw)
    number = data.features[0]
    assert isinstance(number, Number)
    parts = dataset.divide(read, TIME)
    for name in dataset.PARTS:
        windows = getattr(data, name).windows.gather()[:, :, 0] * number.scale + number.mean
        assert len(windows)
        assert set(np.round(windows).astype(int).ravel()) <= set(np.flatnonzero(parts[name]).tolist())


def test_two_devices_cannot_be_split_by_device() -> None:
    with pytest.raises(HistoryError, match="2 devices are too few for 3 parts"):
        dataset.divide(numbered(2, 5), Split(by="device", train=0.5, calibrate=0.25))


def test_label_of_a_window_is_that_of_its_last_reading(recipe: Recipe) -> None:
    read = numbered(3, 40)
    read.anomalous[15] = True  # d0, minute 5
    whole = msgspec.structs.replace(recipe, split=TIME)
    data = dataset.build(read, whole)
    number = data.features[0]
    assert isinstance(number, Number)
    last = np.round(data.train.windows[data.train.anomalous].gather()[:, -1, 0] * number.scale + number.mean)
    assert last.tolist() == [15.0]
    assert data.train.touched.sum() == 3
    assert data.train.readings[data.train.anomalous].tolist() == [15]


def test_features_are_fitted_on_the_training_part_alone(recipe: Recipe) -> None:
    read = numbered(3, 40)
    data = dataset.build(read, msgspec.structs.replace(recipe, split=TIME))
    number = data.features[0]
    assert isinstance(number, Number)
    assert number.mean == np.flatnonzero(dataset.divide(read, TIME)["train"]).mean()


def test_detector_that_learns_without_labels_takes_what_is_usual_from_normal_readings(recipe: Recipe) -> None:
    read = numbered(3, 40)
    read.anomalous[:6] = True
    unsupervised = msgspec.structs.replace(recipe, split=TIME, detector=IsolationForest())
    number = dataset.build(read, unsupervised).features[0]
    assert isinstance(number, Number)
    assert number.mean == np.flatnonzero(dataset.divide(read, TIME)["train"])[6:].mean()


def test_refitting_learns_from_what_calibrated_too_but_never_from_the_test(recipe: Recipe) -> None:
    read = numbered(3, 40)
    data = dataset.build(read, msgspec.structs.replace(recipe, split=TIME, refit=True))
    parts = dataset.divide(read, TIME)
    learnt = np.flatnonzero(parts["train"] | parts["calibrate"])
    number = data.features[0]
    assert isinstance(number, Number)
    assert number.mean == learnt.mean()
    assert set(data.refit.readings) <= set(learnt)
    assert len(data.refit.windows) > len(data.train.windows)
    assert data.last == max(read.times[i] for i in learnt)


def test_what_holds_for_every_number_gives_way_to_what_one_says(recipe: Recipe) -> None:
    numbers = (Number(name="a"), Number(name="b", clip=3), Category(name="c"))
    features = msgspec.structs.replace(recipe, features=numbers, every_number=EveryNumber(clip=5, averages=(2,))).complete_features
    assert features == (Number(name="a", clip=5, averages=(2,)), Number(name="b", clip=3, averages=(2,)), Category(name="c"))


def test_training_windows_may_be_sparse_while_the_others_are_the_gateways(recipe: Recipe, boilers: Path) -> None:
    read = history.read(recipe, [boilers])
    dense, sparse = dataset.build(read, recipe), dataset.build(read, msgspec.structs.replace(recipe, train_stride=10))
    assert len(dense.train.windows) == 4 * 58
    assert len(sparse.train.windows) == 4 * 6
    np.testing.assert_array_equal(dense.test.windows.gather(), sparse.test.windows.gather())


def test_windows_are_those_that_a_gateway_makes_of_the_same_readings(recipe: Recipe, boilers: Path) -> None:
    read = history.read(recipe, [boilers])
    data = dataset.build(read, recipe)
    encoder = FeatureEncoder(data.features)
    held = np.flatnonzero(dataset.divide(read, recipe.split)["test"])
    device = read.devices[held[0]]
    rows = encoder.transform(encoder.encode([read.values[i] for i in held if read.devices[i] == device]))
    first = data.test.windows[: len({read.devices[i] for i in held})].gather()
    assert any((window == rows[:3]).all() for window in first)


def test_history_too_short_for_a_window_says_so(recipe: Recipe, boilers: Path) -> None:
    long = msgspec.structs.replace(recipe, window=WindowSpec(steps=100))
    with pytest.raises(HistoryError, match="make no normal window of 100 steps: give more history"):
        dataset.build(history.read(long, [boilers]), long)
