import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.features import Rows
from vedette.contract.windows import Windower, WindowSpec, elapsed_s


def row(value: float) -> Rows:
    return np.array([value], dtype=np.float32)


def push_all(windower: Windower, *readings: tuple[str, float, float]) -> list[list[float] | None]:
    windows = []
    for device, time, value in readings:
        window = windower.push(device, time, row(value))
        windows.append(None if window is None else window[:, 0].tolist())
    return windows


def test_a_window_is_due_once_enough_readings_are_there() -> None:
    windows = push_all(Windower(WindowSpec(steps=3), 1), *(("a", t, t) for t in range(5)))
    assert windows == [None, None, [0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_stride_skips_windows() -> None:
    windows = push_all(Windower(WindowSpec(steps=2, stride=3), 1), *(("a", t, t) for t in range(8)))
    assert windows == [None, [0, 1], None, None, [3, 4], None, None, [6, 7]]


def test_a_gap_longer_than_the_limit_starts_a_new_window() -> None:
    windower = Windower(WindowSpec(steps=2, max_gap_s=60), 1)
    assert push_all(windower, ("a", 0, 0), ("a", 61, 1), ("a", 121, 2)) == [None, None, [1, 2]]
    assert windower.restarted == 1


def test_a_late_reading_is_dropped_and_counted() -> None:
    windower = Windower(WindowSpec(steps=2, max_gap_s=60), 1)
    assert push_all(windower, ("a", 100, 0), ("a", 90, 1), ("a", 101, 2)) == [None, None, [0, 2]]
    assert (windower.late, windower.waiting, windower.windows) == (1, 1, 1)


def test_a_clock_that_goes_far_back_starts_a_new_window() -> None:
    windower = Windower(WindowSpec(steps=2, max_gap_s=60), 1)
    assert push_all(windower, ("a", 1000, 0), ("a", 10, 1), ("a", 11, 2)) == [None, None, [1, 2]]
    assert windower.restarted == 1


def test_readings_of_the_same_second_all_count() -> None:
    assert push_all(Windower(WindowSpec(steps=2), 1), ("a", 5, 0), ("a", 5, 1), ("a", 5, 2)) == [None, [0, 1], [1, 2]]


def test_past_the_cap_the_device_least_recently_heard_of_is_forgotten() -> None:
    windower = Windower(WindowSpec(steps=2), 1, max_devices=2)
    windows = push_all(windower, ("a", 0, 0), ("b", 0, 10), ("a", 1, 1), ("c", 1, 20), ("b", 2, 11), ("b", 3, 12))
    assert windows == [None, None, [0, 1], None, None, [11, 12]]
    assert windower.evicted == 2 and len(windower) == 2


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"stride": 0}, {"max_gap_s": 0}])
def test_impossible_specs_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        WindowSpec(**wrong)


READINGS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300).map(float), st.integers(0, 99)), max_size=60)
SPECS = st.builds(WindowSpec, steps=st.integers(1, 4), stride=st.integers(1, 3), max_gap_s=st.sampled_from([20.0, 100.0]))


@given(SPECS, READINGS)
def test_interleaving_devices_changes_nothing(spec: WindowSpec, readings: list[tuple[str, float, float]]) -> None:
    together = Windower(spec, 1)
    mixed: dict[str, list[object]] = {"a": [], "b": [], "c": []}
    for reading in readings:
        mixed[reading[0]] += push_all(together, reading)
    for device, windows in mixed.items():
        assert windows == push_all(Windower(spec, 1), *(r for r in readings if r[0] == device))


@given(SPECS, READINGS, st.integers(0, 60))
def test_a_batch_gives_what_single_pushes_give(spec: WindowSpec, readings: list[tuple[str, float, float]], cut: int) -> None:
    single, batched = Windower(spec, 1), Windower(spec, 1)
    expected = [w for w in push_all(single, *readings) if w is not None]
    found = []
    for part in (readings[:cut], readings[cut:]):
        rows = np.array([[r[2]] for r in part], dtype=np.float32).reshape(-1, 1)
        positions, windows, *_ = batched.push_batch([r[0] for r in part], [r[1] for r in part], rows)
        assert len(positions) == len(windows)
        assert all(windows[i, -1, 0] == part[p][2] for i, p in enumerate(positions))
        found += windows[:, :, 0].tolist()
    assert found == expected


@given(SPECS, READINGS)
def test_every_reading_is_counted_once(spec: WindowSpec, readings: list[tuple[str, float, float]]) -> None:
    windower = Windower(spec, 1, max_devices=2)
    push_all(windower, *readings)
    assert windower.windows + windower.waiting + windower.late == len(readings)


def test_an_average_moves_half_way_in_its_half_life_and_begins_anew_after_a_gap() -> None:
    windower = Windower(WindowSpec(max_gap_s=10), 2, averages=((1, 1.0),))
    seen = [windower.push("d", time, np.array([x, x], dtype=np.float32)) for time, x in [(0, 8), (1, 0), (2, 0), (100, 6)]]
    assert [None if w is None else w[-1].tolist() for w in seen] == [[6.0, 6.0]] * 4  # one view: the last push shows through it
    values = []
    windower = Windower(WindowSpec(max_gap_s=10), 2, averages=((1, 1.0),))
    for time, x in [(0, 8), (1, 0), (2, 0), (1.5, 99), (100, 6)]:
        window = windower.push("d", time, np.array([x, x], dtype=np.float32))
        values.append(None if window is None else float(window[-1, 1]))
    assert values == [8.0, 4.0, 2.0, None, 6.0]


def test_a_forgotten_devices_average_is_not_the_next_ones() -> None:
    windower = Windower(WindowSpec(), 1, max_devices=1, averages=((0, 9.0),))
    windower.push("a", 0, np.array([100], dtype=np.float32))
    window = windower.push("b", 0, np.array([1], dtype=np.float32))
    assert window is not None
    assert window[-1, 0] == 1.0


def test_time_since_the_previous_reading_is_a_column_between_0_and_1() -> None:
    windower = Windower(WindowSpec(max_gap_s=100), 1, elapsed=(0,))
    seen = []
    for time in (0.0, 10.0, 10.0, 500.0):
        window = windower.push("d", time, np.zeros(1, dtype=np.float32))
        assert window is not None
        seen.append(round(elapsed_s(float(window[-1, 0]), 100), 3))
    assert seen == [100.0, 10.0, 0.0, 100.0]


def test_a_gap_makes_a_device_first_again_and_only_an_eviction_makes_it_new() -> None:
    windower = Windower(WindowSpec(max_gap_s=10), 1, max_devices=1)
    batch = windower.push_batch(["a", "a", "a", "b", "a"], [0, 1, 100, 0, 101], np.zeros((5, 1), dtype=np.float32))
    assert batch.is_first.tolist() == [True, False, True, True, True]
    assert batch.is_new.tolist() == [True, False, False, True, True]


@given(st.data())
def test_windows_taken_over_go_on_as_if_nothing_had_happened(data: st.DataObject) -> None:
    spec = WindowSpec(steps=3, stride=data.draw(st.integers(1, 2)), max_gap_s=100.0)
    pushes = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1000), st.floats(-5, 5)), max_size=40))
    cut, late = sorted((data.draw(st.integers(0, len(pushes))), data.draw(st.integers(0, len(pushes)))))
    whole, before, after = (Windower(spec, 2, 10, averages=((1, 2.0),)) for _ in range(3))
    found, expected = [], []
    for number, (device, time, value) in enumerate(pushes):
        row = np.array([value, value], dtype=np.float32)
        expected.append((w := whole.push(device, time, row)) is not None and w.copy())
        if number == late:
            after.take_over(before)
        if number < late:
            w = before.push(device, time, row)
            if number >= cut:
                after.push(device, time, row)  # on trial it sees what the live one sees
        else:
            w = after.push(device, time, row)
        found.append(w is not None and w.copy())
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)
