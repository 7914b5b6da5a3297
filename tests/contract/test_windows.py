import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.windows import WindowSpec, elapsed_s
from windowing import Given, Windowing


def test_a_window_is_due_once_enough_readings_are_there() -> None:
    windows = Windowing(WindowSpec(steps=3)).one_by_one([("a", t, t) for t in range(5)])
    assert windows == [None, None, [0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_stride_skips_windows() -> None:
    windows = Windowing(WindowSpec(steps=2, stride=3)).one_by_one([("a", t, t) for t in range(8)])
    assert windows == [None, [0, 1], None, None, [3, 4], None, None, [6, 7]]


def test_a_gap_longer_than_the_limit_starts_a_new_window() -> None:
    subject = Windowing(WindowSpec(steps=2, max_gap_s=60))
    assert subject.one_by_one([("a", 0, 0), ("a", 61, 1), ("a", 121, 2)]) == [None, None, [1, 2]]
    assert subject.timeline.restarted == 1


def test_a_late_reading_is_dropped_and_counted() -> None:
    subject = Windowing(WindowSpec(steps=2, max_gap_s=60))
    assert subject.one_by_one([("a", 100, 0), ("a", 90, 1), ("a", 101, 2)]) == [None, None, [0, 2]]
    assert (subject.timeline.late, subject.windower.waiting, subject.windower.windows) == (1, 1, 1)


def test_a_clock_that_goes_far_back_starts_a_new_window() -> None:
    subject = Windowing(WindowSpec(steps=2, max_gap_s=60))
    assert subject.one_by_one([("a", 1000, 0), ("a", 10, 1), ("a", 11, 2)]) == [None, None, [1, 2]]
    assert subject.timeline.restarted == 1


def test_readings_of_the_same_second_all_count() -> None:
    assert Windowing(WindowSpec(steps=2)).one_by_one([("a", 5, 0), ("a", 5, 1), ("a", 5, 2)]) == [None, [0, 1], [1, 2]]


def test_past_the_cap_the_device_least_recently_heard_of_is_forgotten() -> None:
    subject = Windowing(WindowSpec(steps=2), most=2)
    windows = subject.one_by_one([("a", 0, 0), ("b", 0, 10), ("a", 1, 1), ("c", 1, 20), ("b", 2, 11), ("b", 3, 12)])
    assert windows == [None, None, [0, 1], None, None, [11, 12]]
    assert subject.devices.evicted == 2 and len(subject.devices) == 2


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"stride": 0}, {"max_gap_s": 0}, {"late_s": -1}, {"late_s": 9999}, {"period_s": 0}, {"period_s": 0.01}]
)
def test_impossible_specs_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        WindowSpec(**wrong)


READINGS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300).map(float), st.integers(0, 99)), max_size=60)
SPECS = st.builds(
    WindowSpec,
    steps=st.integers(1, 4),
    stride=st.integers(1, 3),
    max_gap_s=st.sampled_from([20.0, 100.0]),
    late_s=st.sampled_from([0.0, 0.0, 7.0, 20.0]),
    period_s=st.sampled_from([None, None, 1.0, 10.0]),
)


@given(SPECS, READINGS, st.booleans())
def test_interleaving_devices_changes_nothing(spec: WindowSpec, readings: list[Given], merges: bool) -> None:
    together = Windowing(spec, merges=merges).push(readings)
    for device in "abc":
        mine = [position for position, reading in enumerate(readings) if reading[0] == device]
        alone = Windowing(spec, merges=merges).push([readings[position] for position in mine])
        mixed = [(position, window.tolist()) for position, window in together if readings[position][0] == device]
        assert mixed == [(mine[position], window.tolist()) for position, window in alone]


@given(SPECS, READINGS, st.integers(0, 60), st.booleans(), st.booleans())
def test_a_batch_gives_what_single_readings_give(
    spec: WindowSpec, readings: list[Given], cut: int, merges: bool, drops_repeats: bool
) -> None:
    # Of few times and values, so that some come again.
    readings = [(d, t // 10, v // 30) for d, t, v in readings] if drops_repeats else readings
    averages, readings = ((1, 2.0),), [(d, t, np.nan if v < 30 else v) for d, t, v in readings] if merges else readings
    single, batched = (Windowing(spec, 2, 2, averages, merges=merges, drops_repeats=drops_repeats) for _ in range(2))
    expected = [(number, window.tolist()) for number, reading in enumerate(readings) for _, window in single.push([reading])]
    found = [(p, w.tolist()) for p, w in batched.push(readings[:cut])] + [(p + cut, w.tolist()) for p, w in batched.push(readings[cut:])]
    assert str(found) == str(expected)  # NaN is NaN
    assert batched.first == single.first
    assert (batched.timeline.late, batched.timeline.restarted) == (single.timeline.late, single.timeline.restarted)
    assert batched.timeline.repeated == single.timeline.repeated


@given(SPECS, READINGS, st.booleans())
def test_every_reading_is_counted_once(spec: WindowSpec, readings: list[Given], drops_repeats: bool) -> None:
    subject = Windowing(msgspec.structs.replace(spec, period_s=None), drops_repeats=drops_repeats)
    subject.push(readings)
    timeline = subject.timeline
    counted = subject.windower.windows + subject.windower.waiting + timeline.late + timeline.repeated + timeline.waiting
    assert counted == len(readings)


@given(SPECS, READINGS, st.lists(st.integers(0, 60), max_size=20), st.booleans())
def test_readings_that_are_sent_again_change_no_window(spec: WindowSpec, readings: list[Given], again: list[int], merges: bool) -> None:
    """Times differ here, and nothing else is late: what comes again is a repeat of the newest, or of one that waits, or too
    late; what is older than the longest gap would be a clock that goes back.
    """
    times = iter(np.cumsum([1.0 + time % 7 for _, time, _ in readings]).tolist())
    once = [(device, next(times), value) for device, _, value in readings]
    twice = []
    for place, reading in enumerate(once):
        before = [once[p] for p in again if p <= place and reading[1] - once[p][1] <= spec.max_gap_s]
        twice += [reading, *before]
    plain, repeating = (Windowing(spec, merges=merges, drops_repeats=True) for _ in range(2))
    assert [w.tolist() for _, w in repeating.push(twice)] == [w.tolist() for _, w in plain.push(once)]


def test_an_average_moves_half_way_in_its_half_life_and_begins_anew_after_a_gap() -> None:
    subject = Windowing(WindowSpec(max_gap_s=10), 2, averages=((1, 1.0),))
    found = subject.push([("d", 0, 8), ("d", 1, 0), ("d", 2, 0), ("d", 1.5, 99), ("d", 100, 6)])
    assert [(position, float(window[-1, 1])) for position, window in found] == [(0, 8.0), (1, 4.0), (2, 2.0), (4, 6.0)]


def test_a_forgotten_devices_average_is_not_the_next_ones() -> None:
    subject = Windowing(WindowSpec(), most=1, averages=((0, 9.0),))
    assert subject.one_by_one([("a", 0, 100), ("b", 0, 1)]) == [[100.0], [1.0]]


def test_time_since_the_previous_reading_is_a_column_between_0_and_1() -> None:
    found = Windowing(WindowSpec(max_gap_s=100), elapsed=(0,)).push([("d", time, 0) for time in (0.0, 10.0, 10.0, 500.0)])
    assert [round(elapsed_s(float(window[-1, 0]), 100), 3) for _, window in found] == [100.0, 10.0, 0.0, 100.0]


def test_a_gap_and_an_eviction_make_a_device_first_again() -> None:
    subject = Windowing(WindowSpec(max_gap_s=10), most=1)
    subject.push([("a", 0, 0), ("a", 1, 0), ("a", 100, 0), ("b", 0, 0), ("a", 101, 0)])
    assert subject.first == [True, False, True, True, True]
