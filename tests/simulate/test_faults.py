"""Each fault leaves its signature where it should, and nowhere else."""

from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.contract.errors import VedetteError
from vedette.simulate.cold_chain import Floats
from vedette.simulate.faults import KINDS, RECOVERY_CAP_S, Fault, FaultError, Kind, parse_fault, plan_faults
from vedette.simulate.fleet import ColdChain, Sample, device_name

MONDAY = 1767571200.0
START, END = MONDAY + 2 * 3600, MONDAY + 5 * 3600
DEVICES = 10
NAMES = tuple(device_name(number) for number in range(1, DEVICES + 1))


def history(faults: list[Fault], intervals: int = 600) -> dict[str, list[Sample]]:
    fleet = ColdChain(devices=DEVICES, seed=11, start=MONDAY, faults=faults)
    samples: dict[str, list[Sample]] = {name: [] for name in NAMES}
    for _ in range(intervals):
        for sample in fleet.step():
            samples[sample.device].append(sample)
    return samples


@cache
def everywhere(kind: Kind) -> dict[str, list[Sample]]:
    return history([Fault(kind=kind, device=name, start=START, end=END) for name in NAMES])


@cache
def untouched() -> dict[str, list[Sample]]:
    return history([])


def during(samples: list[Sample], start: float = START, end: float = END) -> list[Sample]:
    return [sample for sample in samples if start <= sample.time < end]


def column(samples: list[Sample], name: str) -> Floats:
    return np.array([float(sample.values[name]) for sample in samples])


@pytest.mark.parametrize("kind", KINDS)
def test_fault_on_one_device_leaves_all_others_and_its_own_past_as_they_were(kind: Kind) -> None:
    struck = history([Fault(kind=kind, device="fridge-04", start=START, end=END)], 400)
    for name in NAMES:
        healthy = untouched()[name][:400]
        if name == "fridge-04":
            assert during(struck[name], 0, START) == during(healthy, 0, START)
            assert during(struck[name]) != during(healthy)
        else:
            assert struck[name] == healthy


@pytest.mark.parametrize("kind", KINDS)
def test_every_reading_of_the_device_is_labelled_from_start_to_end(kind: Kind) -> None:
    for samples in everywhere(kind).values():
        assert {sample.fault for sample in during(samples)} == {kind}
        assert {sample.fault for sample in during(samples, 0, START)} == {None}
        assert samples[-1].fault is None


def test_door_left_open_shows_as_open_and_makes_the_fridge_work_or_warm() -> None:
    struck = everywhere("door_left_open")
    for name, samples in struck.items():
        assert {sample.values["door"] for sample in during(samples)} == {"open"}
        assert column(during(samples), "power").mean() > 1.3 * column(during(untouched()[name]), "power").mean()


def test_failed_compressor_lets_the_fridge_warm_for_as_long_as_it_lasts() -> None:
    for name, samples in everywhere("compressor_failure").items():
        assert column(during(samples, END - 1800, END), "temperature").min() > 7.0
        late = column(during(samples, END - 3600, END), "temperature").mean()
        early = column(during(samples, START, START + 3600), "temperature").mean()
        assert late > early + 1.0
        assert column(during(samples, START, START + 300), "temperature").max() < (column(untouched()[name], "temperature").max() + 0.5), (
            "nothing to see in the first minutes"
        )


def test_failed_compressors_stand_still_or_hum_below_their_power() -> None:
    idle = 0.0
    for name, samples in everywhere("compressor_failure").items():
        draw = np.median(column(during(samples, END - 3600, END), "power"))
        assert draw < 0.95 * np.percentile(column(untouched()[name], "power"), 95)
        idle += draw < 20
    assert 0 < idle < DEVICES


def test_warm_fridge_keeps_its_label_until_it_has_recovered() -> None:
    recovery_s = []
    for samples in everywhere("compressor_failure").values():
        last = max(sample.time for sample in samples if sample.fault is not None)
        recovery_s.append(last - END)
        assert column(during(samples, last + 60, last + 3600), "temperature").max() < 12.0
    assert min(recovery_s) > 60
    assert np.median(recovery_s) > 600
    assert max(recovery_s) < RECOVERY_CAP_S


def test_fridge_that_cannot_recover_loses_its_label_at_the_cap() -> None:
    week = Fault(kind="compressor_failure", device="fridge-01", start=START, end=START + 36 * 3600)
    samples = history([week], 60 * (2 + 36 + 7))["fridge-01"]
    labelled = [sample.time for sample in samples if sample.fault is not None]
    assert week.end + RECOVERY_CAP_S - 3600 < labelled[-1] < week.end + RECOVERY_CAP_S


def test_stuck_sensor_repeats_its_last_value_while_the_fridge_goes_on() -> None:
    for name, samples in everywhere("sensor_stuck").items():
        stuck = column(during(samples), "temperature")
        assert len(set(stuck)) == 1
        assert abs(stuck[0] - column(during(untouched()[name]), "temperature")[0]) < 0.01
        np.testing.assert_array_equal(column(during(samples), "power"), column(during(untouched()[name]), "power"))


def test_drifting_sensor_departs_by_one_to_two_kelvin_an_hour_either_way() -> None:
    signs = set()
    for name, samples in everywhere("sensor_drift").items():
        error = column(during(samples), "temperature") - column(during(untouched()[name]), "temperature")
        hours = (END - START) / 3600
        assert abs(error[0]) < 0.1
        assert 0.9 * hours < abs(error[-1]) < 2.05 * hours
        assert column(during(samples, END, END + 600), "temperature") == pytest.approx(
            column(during(untouched()[name], END, END + 600), "temperature")
        )
        signs.add(error[-1] > 0)
    assert signs == {True, False}


def test_spoofed_series_alternates_between_the_true_and_a_plausible_forged_reading() -> None:
    for name, samples in everywhere("spoofed_readings").items():
        times = [sample.time for sample in samples]
        assert times == sorted(set(times))
        true_times = {sample.time for sample in untouched()[name]}
        forged = [sample for sample in samples if sample.time not in true_times]
        assert [sample for sample in samples if sample.fault is None or sample not in forged] == [
            sample if not START <= sample.time < END else sample._replace(fault="spoofed_readings") for sample in untouched()[name]
        ]
        pattern = [sample in forged for sample in during(samples)]
        assert pattern.count(True) in range(178, 182)
        assert all(one != other for one, other in pairwise(pattern))
        assert column(forged, "temperature").min() > 0.0
        assert column(forged, "temperature").max() < 9.0


@pytest.mark.parametrize("kind", ["door_left_open", "sensor_stuck", "sensor_drift", "spoofed_readings"])
def test_most_readings_of_a_fault_lie_within_what_healthy_fridges_show(kind: Kind) -> None:
    healthy = np.concatenate([column(samples, "temperature") for samples in untouched().values()])
    faulty = np.concatenate([column(during(samples, START, START + 3600), "temperature") for samples in everywhere(kind).values()])
    assert ((faulty >= healthy.min()) & (faulty <= healthy.max())).mean() > 0.6


def test_fault_is_read_from_text() -> None:
    fault = parse_fault("door_left_open:fridge-03:2h:45m", devices=NAMES, start=MONDAY)
    assert fault == Fault(kind="door_left_open", device="fridge-03", start=MONDAY + 7200, end=MONDAY + 7200 + 2700)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("door_left_open:fridge-03:2h", "KIND:DEVICE:START:DURATION"),
        ("door_ajar:fridge-03:2h:45m", r'door_left_open, .*spoofed_readings, got "door_ajar"'),
        ("door_left_open:fridge-77:2h:45m", r'fridge-01 to fridge-10, got "fridge-77"'),
        ("door_left_open:fridge-03:soon:45m", r'start: .*"soon"'),
        ("door_left_open:fridge-03:2h:long", r'duration: .*"long"'),
        ("door_left_open:fridge-03:2h:0", r"duration: expected more than 0"),
    ],
)
def test_error_in_a_written_fault_names_the_part_and_the_choices(text: str, named: str) -> None:
    with pytest.raises(FaultError, match=named) as caught:
        parse_fault(text, devices=NAMES, start=MONDAY)
    assert text in str(caught.value)
    assert isinstance(caught.value, VedetteError)


@pytest.mark.parametrize(
    ("device", "start", "end", "named"),
    [
        ("fridge-02", START + 60, END, "overlap|one fault at a time"),
        ("fridge-99", START, END, "fridge-99"),
        ("fridge-01", END, START, "not after"),
    ],
)
def test_fleet_refuses_faults_that_it_cannot_label(device: str, start: float, end: float, named: str) -> None:
    faults = [
        Fault(kind="sensor_stuck", device="fridge-02", start=START, end=END),
        Fault(kind="sensor_drift", device=device, start=start, end=end),
    ]
    with pytest.raises(FaultError, match=named):
        ColdChain(devices=3, seed=1, start=MONDAY, faults=faults)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    days=st.floats(0.1, 20),
    rate=st.floats(0, 6),
    devices=st.integers(1, 30),
)
def test_plan_leaves_every_device_time_to_recover(seed: int, days: float, rate: float, devices: int) -> None:
    names = [f"fridge-{number:02d}" for number in range(1, devices + 1)]
    faults = plan_faults(names, MONDAY, days * 86400, np.random.default_rng(seed), rate)
    assert len(faults) <= round(rate * devices * days)
    assert faults == sorted(faults, key=lambda fault: fault.start)
    for name in names:
        own = [fault for fault in faults if fault.device == name]
        for fault, after in pairwise(own):
            assert after.start - fault.end >= RECOVERY_CAP_S + 2 * 3600 - 1
        assert all(fault.start >= MONDAY + 2 * 3600 - 1 for fault in own)
        assert all(fault.end <= MONDAY + days * 86400 for fault in own)
        assert all(30 * 60 <= fault.end - fault.start <= 6 * 3600 for fault in own)


def test_plan_deals_kinds_and_devices_evenly() -> None:
    faults = plan_faults(NAMES, MONDAY, 7 * 86400, np.random.default_rng(1), 0.5)
    assert len(faults) == 35
    assert set(Counter(fault.kind for fault in faults).values()) == {7}
    assert set(Counter(fault.device for fault in faults).values()) <= {3, 4}


def test_plan_depends_on_the_generator_alone() -> None:
    first = plan_faults(NAMES, MONDAY, 7 * 86400, np.random.default_rng(1), 0.5)
    assert plan_faults(NAMES, MONDAY, 7 * 86400, np.random.default_rng(1), 0.5) == first
    assert plan_faults(NAMES, MONDAY, 7 * 86400, np.random.default_rng(2), 0.5) != first


def test_plan_gives_fewer_faults_rather_than_crowded_ones() -> None:
    faults = plan_faults(NAMES, MONDAY, 86400, np.random.default_rng(1), 50)
    assert DEVICES <= len(faults) <= 3 * DEVICES
