"""Healthy fridges behave like fridges, and a seed decides everything."""

from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from vedette.simulate.cold_chain import Floats
from vedette.simulate.fleet import ColdChain, Sample
from vedette.simulate.surroundings import day_swing, opening_rate

MONDAY = 1767571200.0
DAY_S = 86400.0


def run(fleet: ColdChain, intervals: int) -> list[Sample]:
    return [sample for _ in range(intervals) for sample in fleet.step()]


def by_device(samples: list[Sample]) -> dict[str, list[Sample]]:
    devices: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        devices[sample.device].append(sample)
    return devices


def column(samples: list[Sample], name: str) -> Floats:
    return np.array([float(sample.values[name]) for sample in samples])


@cache
def two_days() -> dict[str, list[Sample]]:
    return by_device(run(ColdChain(devices=8, seed=7, start=MONDAY), 2 * 1440))


def at_night(samples: list[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.time % DAY_S < 5 * 3600]


def running(samples: list[Sample]) -> np.typing.NDArray[np.bool_]:
    return column(samples, "power") > 45.0


def test_healthy_temperatures_stay_in_the_band_of_a_used_fridge() -> None:
    for samples in two_days().values():
        temperature = column(samples, "temperature")
        assert 2.0 < np.median(temperature) < 6.0
        assert -0.5 < np.percentile(temperature, 1) < np.percentile(temperature, 99) < 11.5
        assert temperature.min() > -2.0
        assert temperature.max() < 15.0


def test_compressor_runs_a_fair_share_of_the_time() -> None:
    for samples in two_days().values():
        assert 0.15 < running(samples).mean() < 0.65


def test_undisturbed_cycles_last_twenty_to_fifty_minutes() -> None:
    for samples in two_days().values():
        on = running(samples).astype(int)
        night = np.array([sample.time % DAY_S < 5 * 3600 for sample in samples[1:]])
        starts = np.flatnonzero((np.diff(on) == 1) & night)
        cycles_min = np.diff(starts)
        assert 20 <= np.median(cycles_min[cycles_min < 300]) <= 55


def test_working_hours_make_the_compressor_run_more() -> None:
    for samples in two_days().values():
        day = [sample for sample in samples if 11 * 3600 <= sample.time % DAY_S < 18 * 3600]
        assert running(day).mean() > running(at_night(samples)).mean()


def test_doors_open_more_often_by_day_and_on_working_days() -> None:
    hours = [opening_rate(MONDAY + hour * 3600) for hour in range(24)]
    assert max(hours[0:6]) < min(hours[8:18])
    assert opening_rate(MONDAY + 6 * DAY_S + 12 * 3600) < opening_rate(MONDAY + 12 * 3600)


def test_room_is_coldest_before_dawn_and_warmest_in_the_afternoon() -> None:
    assert day_swing(MONDAY + 3 * 3600) == -1.0
    assert day_swing(MONDAY + 15 * 3600) == 1.0


def test_defrost_comes_three_times_a_day_and_warms_the_air() -> None:
    bumps = []
    for samples in two_days().values():
        # A heater draws evenly for ten minutes and more at a power that the compressor does not reach.
        power, temperature = column(samples, "power"), column(samples, "temperature")
        compressor_w = np.percentile(power[running(samples)], 40)
        heating = (power > 1.25 * compressor_w) & (np.abs(np.gradient(power)) < 0.05 * power)
        starts = [start for start in np.flatnonzero(np.diff(heating.astype(int)) == 1) if heating[start + 1 : start + 7].all()]
        if len(starts) < 4:
            continue  # this fridge's heater draws no more than its compressor
        assert 4 <= len(starts) <= 9
        bumps += [temperature[start : start + 40].max() - temperature[start] for start in starts]
    assert len(bumps) >= 10
    assert 1.0 < np.median(bumps) < 6.0


def test_readings_come_once_an_interval_in_order_of_time_on_whole_seconds() -> None:
    fleet = ColdChain(devices=5, seed=3, start=MONDAY, interval_s=30)
    for tick in range(200):
        samples = fleet.step()
        times = [sample.time for sample in samples]
        assert sorted(sample.device for sample in samples) == list(fleet.device_names)
        assert times == sorted(times)
        assert all(MONDAY + 30 * tick <= time < MONDAY + 30 * (tick + 1) for time in times)
        assert all(time == int(time) for time in times)


def test_values_are_rounded_as_a_device_would() -> None:
    for sample in run(ColdChain(devices=3, seed=3, start=MONDAY), 60):
        assert list(sample.values) == ["temperature", "power", "door"]
        assert sample.values["temperature"] == round(float(sample.values["temperature"]), 2)
        assert sample.values["power"] == round(float(sample.values["power"]), 1)
        assert sample.values["door"] in ("open", "closed")
        assert sample.fault is None


def test_same_seed_gives_the_same_readings_and_another_seed_does_not() -> None:
    first = run(ColdChain(devices=4, seed=1, start=MONDAY), 180)
    assert run(ColdChain(devices=4, seed=1, start=MONDAY), 180) == first
    assert run(ColdChain(devices=4, seed=2, start=MONDAY), 180) != first


def test_a_device_is_the_same_in_a_small_and_in_a_large_fleet() -> None:
    small = by_device(run(ColdChain(devices=2, seed=1, start=MONDAY), 300))
    large = by_device(run(ColdChain(devices=9, seed=1, start=MONDAY), 300))
    assert all(large[device] == samples for device, samples in small.items())


def test_devices_differ_from_each_other() -> None:
    medians = [np.median(column(samples, "temperature")) for samples in two_days().values()]
    assert np.ptp(medians) > 0.5


@pytest.mark.parametrize("interval_s", [7, 300, 2 * 3600])
def test_other_intervals_keep_the_physics(interval_s: int) -> None:
    samples = run(ColdChain(devices=3, seed=5, start=MONDAY, interval_s=interval_s), 86400 // interval_s // 2)
    for readings in by_device(samples).values():
        assert 1.5 < np.mean(column(readings, "temperature")) < 7.0
        assert 15.0 < np.mean(column(readings, "power")) < 110.0


@pytest.mark.parametrize(("wrong", "interval_s", "devices"), [("interval", 1.0, 1), ("interval", 2.5, 1), ("devices", 60.0, 0)])
def test_numbers_out_of_range_are_refused(wrong: str, interval_s: float, devices: int) -> None:
    with pytest.raises(ValueError, match=wrong):
        ColdChain(devices=devices, seed=1, start=MONDAY, interval_s=interval_s)
