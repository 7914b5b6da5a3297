import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.windows import WindowSpec
from vedette_training import windows
from windowing import Windowing

SPECS = st.builds(WindowSpec, steps=st.integers(1, 4), stride=st.integers(1, 3), max_gap_s=st.sampled_from([1.0, 3.0]))
READINGS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12).map(float), st.floats(-9, 9, width=32)), max_size=40)
AVERAGES = st.sampled_from([(), ((1, 3.0),), ((1, 0.5), (2, 7.0))])


@given(SPECS, READINGS, AVERAGES)
def test_cutting_history_gives_what_the_gateway_gives_bit_for_bit(
    spec: WindowSpec, readings: list[tuple[str, float, float]], averages: tuple[tuple[int, float], ...]
) -> None:
    devices, times = [r[0] for r in readings], [r[1] for r in readings]
    rows = np.array([[r[2]] * 3 for r in readings], dtype=np.float32).reshape(-1, 3)
    anomalous = np.array([r[2] > 3 for r in readings], dtype=np.bool_)
    subject = Windowing(spec, 3, averages=averages, elapsed=(0,))
    found = subject.push(readings)
    positions = [position for position, _ in found]
    part = windows.cut(devices, times, rows, anomalous, spec, averages, (0,))
    assert part.readings.tolist() == positions
    np.testing.assert_array_equal(part.windows.gather(), np.array([window for _, window in found]).reshape(-1, spec.steps, 3))
    np.testing.assert_array_equal(part.anomalous, anomalous[positions])
    handed_on = list(part.batches(at_most=5))
    assert [bool(first) for b in handed_on for first in b.is_first] == subject.first
    names = {slot: devices[position] for b in handed_on for slot, position in zip(b.slots.tolist(), b.positions.tolist(), strict=True)}
    assert [names[slot] for b in handed_on for slot in b.slots.tolist()] == [devices[position] for position in positions]


@given(SPECS, READINGS)
def test_window_is_touched_if_any_of_its_readings_is_anomalous(spec: WindowSpec, readings: list[tuple[str, float, float]]) -> None:
    rows = np.array([[r[2]] for r in readings], dtype=np.float32).reshape(-1, 1)
    part = windows.cut([r[0] for r in readings], [r[1] for r in readings], rows, rows[:, 0] > 3, spec)
    assert part.touched.tolist() == (part.windows.gather() > 3).any(axis=(1, 2)).tolist()


def test_windows_are_views_until_they_are_gathered() -> None:
    rows = np.arange(1000, dtype=np.float32).reshape(-1, 1)
    part = windows.cut(["a"] * 1000, list(range(1000)), rows, np.zeros(1000, np.bool_), WindowSpec(steps=100))
    assert len(part.windows) == 901
    assert part.windows[part.windows.ends > 990].rows is part.windows.rows
    assert part.windows.flat(seed=1, at_most=10).shape == (10, 100)
