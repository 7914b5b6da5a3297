"""What one device may send, and what spoofed names may push out."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract import saved
from vedette.contract.admission import QUIET_S, Admission, AdmissionLimits
from vedette.contract.devices import Devices


def taken(devices: Devices, names: list[str], arrived: list[float], messages: tuple[int, ...] = ()) -> list[str]:
    """Why each reading was refused, or an empty text; the slots that the others were given are theirs."""
    verdicts: list[str] = []
    for part in devices.place(names, np.array(arrived), messages):
        verdict = dict(part.refused)
        some = names[part.readings]
        verdicts += [verdict.get(position, "") for position in range(len(some))]
        kept = range(len(some)) if part.kept is None else part.kept.tolist()
        assert [devices.names[slot] for slot in part.slots.tolist()] == [some[position] for position in kept]
        assert sorted([*kept, *verdict]) == list(range(len(some)))
    return verdicts


def test_a_device_may_send_a_burst_and_then_only_so_many_a_second() -> None:
    devices = Devices(10, Admission(AdmissionLimits(rate=10, burst=5), 10))
    assert taken(devices, ["a"] * 8 + ["b"], [100.0] * 9) == [""] * 5 + ["flood"] * 3 + [""]
    assert taken(devices, ["a"] * 7, [101.9] * 7) == [""] * 5 + ["flood"] * 2
    steady = [102.0 + 0.2 * n for n in range(100)]
    assert taken(devices, ["a"] * 100, steady) == [""] * 100
    assert taken(devices, ["a"] * 5, [200.0] * 5) == [""] * 5


@pytest.mark.parametrize("rate", [None, 0])
def test_without_a_rate_nothing_is_too_much(rate: float | None) -> None:
    devices = Devices(2, Admission(AdmissionLimits(rate=rate), 2))
    assert set(taken(devices, ["a"] * 1000, [100.0] * 1000)) == {""}


def test_a_tables_rows_have_no_rate() -> None:
    devices = Devices(2, Admission(AdmissionLimits(rate=1, burst=1), 2))
    assert set(taken(devices, ["a", "b", "c"] * 100, [math.inf] * 300)) == {""}
    assert taken(devices, ["c"], [100.0]) == [""]


def test_a_clock_that_goes_back_shuts_nobody_out() -> None:
    devices = Devices(2, Admission(AdmissionLimits(rate=10, burst=5), 2))
    taken(devices, ["a"] * 20 + ["b"], [1e9] * 21)
    assert taken(devices, ["a"], [5e8]) == ["flood"], "it has none left, and gets more from the next second on"
    assert taken(devices, ["a"] * 6, [5e8 + 1.0] * 6) == [""] * 5 + ["flood"]
    assert taken(devices, ["c"], [5e8 + 1.0]) == [""], "b was last heard of in a time that is not to come for long"


def test_readings_of_one_message_count_once() -> None:
    devices = Devices(10, Admission(AdmissionLimits(rate=1, burst=2), 10))
    names, messages = ["a", "a", "b", "a", "a"], (0, 0, 0, 1, 2)
    assert taken(devices, names, [100.0] * 5, messages) == ["", "", "", "", "flood"]
    assert taken(devices, ["a", "a"], [100.0] * 2, (0, 0)) == ["flood"] * 2


@given(
    st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from([0.0, 0.0, 0.01, 0.5, 30.0, 100.0, 2000.0, -50.0])), max_size=60),
    st.integers(1, 4),
    st.integers(1, 60),
    st.sampled_from([0.3, 2, None]),
)
def test_where_batches_end_changes_nothing_and_what_is_saved_goes_on(
    steps: list[tuple[str, float]], most: int, size: int, rate: float | None
) -> None:
    names = [name for name, _ in steps]
    arrived = list(itertools.accumulate((step for _, step in steps), initial=1000.0))[1:]

    def make() -> Admission:
        return Admission(AdmissionLimits(rate=rate, burst=3), most)

    whole = Devices(most, make())
    expected = taken(whole, names, arrived)
    apart = Devices(most, make())
    found: list[str] = []
    for start in range(0, len(names), size):
        found += taken(apart, names[start : start + size], arrived[start : start + size])
        kept = saved.encode(apart.saved())
        apart = Devices(most, make())
        apart.restore(saved.decode(kept))
    assert (found, apart.names, apart.evicted) == (expected, whole.names, whole.evicted)


def test_ten_thousand_honest_devices_stay_whatever_a_hundred_thousand_spoofed_names_do() -> None:
    """A reading every 10 s of each, and 1,000 spoofed names in every second of half an hour: the table is full of honest ones."""
    most = 10_000
    devices = Devices(most, Admission(AdmissionLimits(rate=100, burst=10_000), most))
    honest = [f"honest-{n}" for n in range(most)]
    assert set(taken(devices, honest, [0.0] * most)) == {""}
    rng = np.random.default_rng(5)
    refused = 0
    for second in range(1800):
        due = honest[second % 10 :: 10]
        spoofed = [f"spoofed-{n}" for n in rng.integers(0, 100_000, 1000).tolist()]
        verdicts = taken(devices, [name for pair in zip(due, spoofed, strict=True) for name in pair], [1.0 + second] * 2000)
        assert set(verdicts[::2]) == {""}
        refused += verdicts[1::2].count("newcomer")
    assert (refused, devices.evicted, set(devices.names)) == (1_800_000, 0, set(honest))


def test_devices_that_fell_silent_give_way_but_only_so_fast() -> None:
    most = 1000
    devices = Devices(most, Admission(AdmissionLimits(), most))
    taken(devices, [f"old-{n}" for n in range(most)], [0.0] * most)
    assert taken(devices, ["early"], [QUIET_S - 1]) == ["newcomer"]
    names = [f"new-{n}" for n in range(most)]
    assert taken(devices, names, [QUIET_S + 1] * most) == [""] * 100 + ["newcomer"] * 900
    assert taken(devices, names[100:], [QUIET_S + 37.0] * 900).count("") == 10
    assert devices.evicted == 110


def test_devices_that_move_keep_what_they_have_sent() -> None:
    admission = Admission(AdmissionLimits(rate=1, burst=2), 3)
    now = np.full(4, 100.0)
    admission.refused(np.array([0, 1, 1, 2]), now)
    admission.move(np.array([2, 0, 1]), 2)
    assert admission.refused(np.array([0, 1, 1, 1]), now).tolist() == [0, 2, 3]
