import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.features import Category, FeatureEncoder, FeatureSpec, Number, TimeOfDay, Value
from vedette.contract.timeline import Timeline
from vedette.contract.windows import WindowSpec
from vedette_training import arranging

SPEC: FeatureSpec = (Number(name="t"), Category(name="door", values=("closed", "open")), TimeOfDay())
WINDOWS = st.builds(WindowSpec, max_gap_s=st.just(50.0), late_s=st.sampled_from([0.0, 7.0]), period_s=st.sampled_from([None, 1.0, 10.0]))
READINGS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(0, 120).map(float),
        st.sampled_from([math.nan, 1.0, 2.5]),
        st.sampled_from([None, "open", "closed"]),
    ),
    max_size=30,
)


@given(WINDOWS, READINGS, st.booleans())
def test_history_is_arranged_as_the_gateway_arranges_what_it_encodes(
    window: WindowSpec, readings: list[tuple[str, float, float, str | None]], merges: bool
) -> None:
    devices, times = [r[0] for r in readings], [r[1] for r in readings]
    values: list[tuple[Value, ...]] = [(number, door, time) for _, time, number, door in readings]
    sources, at, filled = arranging.arrange(devices, times, values, SPEC, window, merges=merges)
    encoder = FeatureEncoder(SPEC)
    slots = np.array([" ab".index(device) for device in devices], dtype=np.intp)
    gateway = Timeline(window, len(SPEC), clocks=[2], merges=merges).arrange(
        slots, np.array(times, dtype=np.float64), encoder.encode(values)
    )
    assert at == gateway.times.tolist()
    assert [" ab".index(devices[source]) for source in sources.tolist()] == gateway.slots.tolist()
    np.testing.assert_array_equal(encoder.encode(filled), gateway.raw)


@given(WINDOWS, READINGS, st.booleans())
def test_what_a_gateway_takes_for_repeats_is_left_out_of_history(
    window: WindowSpec, readings: list[tuple[str, float, float, str | None]], merges: bool
) -> None:
    readings = [(device, time // 30, number, door) for device, time, number, door in readings]
    devices, times = [r[0] for r in readings], [r[1] for r in readings]
    values: list[tuple[Value, ...]] = [(number, door, time) for _, time, number, door in readings]
    new = arranging.find_new(devices, times, values, SPEC, window)
    some = [readings[place] for place in new.tolist()]
    _, at, filled = arranging.arrange(
        [r[0] for r in some], [r[1] for r in some], [values[p] for p in new.tolist()], SPEC, window, merges=merges
    )
    encoder = FeatureEncoder(SPEC)
    slots = np.array([" ab".index(device) for device in devices], dtype=np.intp)
    timeline = Timeline(window, len(SPEC), clocks=[2], merges=merges, drops_repeats=True)
    gateway = timeline.arrange(slots, np.array(times, dtype=np.float64), encoder.encode(values))
    assert len(new) == len(readings) - timeline.repeated
    assert at == gateway.times.tolist()
    np.testing.assert_array_equal(encoder.encode(filled), gateway.raw)


@given(READINGS)
def test_what_is_arranged_once_stays_as_it_is(readings: list[tuple[str, float, float, str | None]]) -> None:
    readings = sorted(readings, key=lambda reading: reading[1])
    window = WindowSpec(max_gap_s=50.0, period_s=10.0)
    values: list[tuple[Value, ...]] = [(number, door, time) for _, time, number, door in readings]
    sources, at, filled = arranging.arrange([r[0] for r in readings], [r[1] for r in readings], values, SPEC, window, merges=True)
    devices = [readings[source][0] for source in sources.tolist()]
    _, again, values_again = arranging.arrange(devices, at, filled, SPEC, window, merges=True)
    assert again == at
    assert str(values_again) == str(filled)  # NaN is NaN
