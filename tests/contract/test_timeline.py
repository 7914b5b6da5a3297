import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.timeline import Arranged, Timeline
from vedette.contract.windows import WindowSpec
from windowing import Windowing

NAN = math.nan


def arrange(timeline: Timeline, *readings: tuple[float, float], slot: int = 0) -> Arranged:
    slots = np.full(len(readings), slot, dtype=np.intp)
    return timeline.arrange(
        slots, np.array([t for t, _ in readings], dtype=np.float64), np.array([[value] for _, value in readings]).reshape(-1, 1)
    )


def rows(arranged: Arranged) -> list[tuple[float, float]]:
    return list(zip(arranged.times.tolist(), arranged.raw[:, 0].tolist(), strict=True))


def test_a_point_of_the_grid_gets_the_last_value_at_or_before_it_as_soon_as_that_is_known() -> None:
    timeline = Timeline(WindowSpec(period_s=10, max_gap_s=100), 1)
    assert rows(arrange(timeline, (3, 1.0), (8, 2.0))) == []
    assert rows(arrange(timeline, (12, 3.0))) == [(10, 2.0)]
    assert rows(arrange(timeline, (20, 4.0))) == [(20, 4.0)]
    assert rows(arrange(timeline, (45, 5.0))) == [(30, 4.0), (40, 4.0)]


def test_a_row_says_which_reading_brought_it_about_and_where_its_values_are_from() -> None:
    arranged = arrange(Timeline(WindowSpec(period_s=10, max_gap_s=100), 1), (3, 1.0), (8, 2.0), (25, 3.0), (30, 4.0))
    assert rows(arranged) == [(10, 2.0), (20, 2.0), (30, 4.0)]
    assert (arranged.positions.tolist(), arranged.sources.tolist()) == ([2, 2, 3], [1, 1, 3])
    assert arranged.since_s.tolist() == [math.inf, 10, 10]


def test_no_point_of_the_grid_is_filled_across_a_gap() -> None:
    timeline = Timeline(WindowSpec(period_s=10, max_gap_s=30), 1)
    arranged = arrange(timeline, (5, 1.0), (15, 2.0), (99, 3.0), (101, 4.0))
    assert rows(arranged) == [(10, 1.0), (100, 3.0)]
    assert arranged.since_s.tolist() == [math.inf, math.inf]
    assert arrange(timeline, (111, 4.0)).since_s.tolist() == [10]


def test_a_clock_feature_on_the_grid_is_the_points_own_time() -> None:
    timeline = Timeline(WindowSpec(period_s=10, max_gap_s=100), 1, clocks=[0])
    assert rows(arrange(timeline, (8, 8.0), (21, 21.0))) == [(10, 10.0), (20, 20.0)]


def test_a_late_reading_finds_its_place_if_it_is_not_too_late() -> None:
    timeline = Timeline(WindowSpec(late_s=10, max_gap_s=100), 1)
    assert rows(arrange(timeline, (100, 1.0), (105, 2.0), (103, 3.0), (98, 0.0))) == []
    assert rows(arrange(timeline, (115, 4.0))) == [(98, 0.0), (100, 1.0), (103, 3.0), (105, 2.0)]
    assert rows(arrange(timeline, (104, 9.0))) == []
    assert (timeline.late, timeline.waiting) == (1, 1)


def test_what_a_partial_payload_leaves_out_is_what_the_device_sent_before() -> None:
    timeline = Timeline(WindowSpec(max_gap_s=100), 2, merges=True)
    slots, times = np.array([0, 1, 0, 1]), np.array([0.0, 0, 1, 1])
    first = timeline.arrange(slots, times, np.array([[1, NAN], [NAN, 8], [NAN, 2], [7, NAN]]))
    np.testing.assert_array_equal(first.raw, [[1, NAN], [NAN, 8], [1, 2], [7, 8]])
    second = timeline.arrange(np.array([0, 0]), np.array([2.0, 200]), np.array([[NAN, NAN], [NAN, 3]]))
    np.testing.assert_array_equal(second.raw, [[1, 2], [NAN, 3]])


def test_without_merging_what_is_missing_stays_missing() -> None:
    assert math.isnan(rows(arrange(Timeline(WindowSpec(), 1), (0, 1.0), (1, NAN)))[1][1])


def drop(spec: WindowSpec | None = None, features: int = 1, *, merges: bool = False) -> Timeline:
    return Timeline(spec or WindowSpec(max_gap_s=100), features, merges=merges, drops_repeats=True)


def test_a_reading_that_comes_again_is_dropped_and_counted() -> None:
    timeline = drop()
    assert rows(arrange(timeline, (1, 5.0), (1, 5.0), (2, 5.0))) == [(1, 5.0), (2, 5.0)]
    arranged = arrange(timeline, (2, 5.0), (3, 6.0), (3, 6.0))
    assert rows(arranged) == [(3, 6.0)]
    assert (arranged.repeated.tolist(), arranged.late.tolist(), timeline.repeated, timeline.late) == ([0, 2], [], 3, 0)


def test_a_burst_that_comes_again_is_late_but_for_the_newest_reading() -> None:
    timeline = drop()
    arrange(timeline, (1, 5.0), (2, 6.0), (3, 7.0))
    arranged = arrange(timeline, (1, 5.0), (2, 6.0), (3, 7.0), (4, 8.0))
    assert rows(arranged) == [(4, 8.0)]
    assert (arranged.late.tolist(), arranged.repeated.tolist()) == ([0, 1], [2])


def test_another_value_at_the_same_time_is_no_repeat_and_nor_is_another_device() -> None:
    timeline = drop()
    assert len(rows(arrange(timeline, (1, 5.0), (1, 6.0), (1, 5.0)))) == 3
    assert len(rows(arrange(timeline, (1, 5.0), slot=1))) == 1
    assert timeline.repeated == 0


def test_missing_is_equal_to_missing_and_to_nothing_else() -> None:
    timeline = drop(features=2)
    raw = np.array([[1, NAN], [1, NAN], [1, 2], [NAN, 2], [NAN, 2]])
    assert timeline.arrange(np.zeros(5, dtype=np.intp), np.ones(5), raw).repeated.tolist() == [1, 4]


def test_a_repeat_is_what_was_sent_again_not_what_was_made_of_it() -> None:
    timeline = drop(features=2, merges=True)
    slots = np.zeros(1, dtype=np.intp)
    timeline.arrange(slots, np.ones(1), np.array([[1, 8.0]]))
    assert timeline.arrange(slots, np.ones(1), np.array([[1, NAN]])).repeated.tolist() == []
    assert timeline.arrange(slots, np.ones(1), np.array([[1, NAN]])).repeated.tolist() == [0]


def test_what_equals_a_reading_that_waits_is_a_repeat() -> None:
    timeline = drop(WindowSpec(late_s=10, max_gap_s=100))
    assert arrange(timeline, (100, 1.0), (105, 2.0), (105, 3.0), (100, 1.0), (105, 2.0), (100, 9.0)).repeated.tolist() == [3, 4]
    assert rows(arrange(timeline, (115, 4.0))) == [(100, 1.0), (100, 9.0), (105, 2.0), (105, 3.0)]
    assert rows(arrange(timeline, (105, 3.0), (115, 4.0))) == []
    assert (timeline.repeated, timeline.waiting) == (4, 1)


def test_a_time_of_arrival_makes_no_repeat() -> None:
    for spec in (WindowSpec(max_gap_s=100), WindowSpec(late_s=10, max_gap_s=100)):
        timeline = drop(spec)
        slots, times, raw = np.zeros(4, dtype=np.intp), np.ones(4), np.full((4, 1), 5.0)
        timeline.arrange(slots, times, raw, np.array([True, False, False, True]))
        assert timeline.repeated == 1


TIMES = st.lists(st.tuples(st.integers(0, 120).map(float), st.integers(0, 9).map(float)), max_size=30)


@given(TIMES, st.sampled_from([1.0, 7.0, 10.0]))
def test_the_grid_is_what_looking_up_each_point_gives(readings: list[tuple[float, float]], period: float) -> None:
    """Without gaps: the value at each point is that of the last reading at or before it; of one time, the first, which brought it about."""
    readings = sorted(readings, key=lambda reading: reading[0])
    found = rows(arrange(Timeline(WindowSpec(period_s=period, max_gap_s=1000), 1), *readings))
    expected = []
    if readings:
        first, last = math.ceil(readings[0][0] / period), math.floor(readings[-1][0] / period)
        for point in [number * period for number in range(first, last + 1)]:
            exactly = [value for time, value in readings if time == point]
            before = [value for time, value in readings if time < point]
            expected.append((point, exactly[0] if exactly else before[-1]))
    assert found == expected


@given(TIMES)
def test_what_is_sorted_by_waiting_is_sorted_and_whole(readings: list[tuple[float, float]]) -> None:
    timeline = Timeline(WindowSpec(late_s=1000, max_gap_s=1000), 1)
    arrange(timeline, *readings)
    found = rows(arrange(timeline, (1120, 0.0), (2120, 0.0)))
    assert found == [*sorted(readings, key=lambda reading: reading[0]), (1120, 0.0)]
    assert timeline.late == 0


def test_an_evicted_device_leaves_nothing_on_the_timeline() -> None:
    subject = Windowing(WindowSpec(period_s=10, late_s=5, max_gap_s=100), most=1, merges=True)
    assert subject.one_by_one([("a", 3, 1.0), ("b", 12, NAN), ("b", 22, NAN), ("b", 30, NAN)])[:2] == [None, None]
    assert subject.timeline.waiting <= 2
