import math

from judges import Bench, Reading, told
from vedette.config import Alerts
from vedette.contract.durations import Duration

RULES = Alerts(stuck=Duration(100))


def readings(temperatures: list[float], device: str = "d", start: float = 0.0, power: float | None = None) -> list[Reading]:
    """One every 10 s; the power varies unless it is given."""
    return [
        Reading(device, start + 10.0 * k, values=(value, 80.0 + k % 3 if power is None else power)) for k, value in enumerate(temperatures)
    ]


def test_a_value_that_stays_the_very_same_is_stuck_until_it_changes() -> None:
    new, end = Bench(RULES).alerts(readings([3.0, *[5.0] * 13, 5.1]))
    assert told([new, end]) == [("new", "stuck", "d", 110.0), ("end", "stuck", "d", 140.0)]
    assert (new.id, new.score, end.score, new.started.timestamp()) == (end.id, 1.0, 1.3, 10.0)
    (cause,) = new.explanation
    assert (cause.feature, cause.share, cause.observed, cause.expected) == ("temperature", 1.0, 5.0, 4.0)
    assert end.explanation == ()


def test_few_equal_values_are_not_stuck_however_long_they_last() -> None:
    rare = [Reading("d", 40.0 * k, values=(5.0, float(k))) for k in range(9)]
    assert Bench(RULES).alerts(rare) == []


def test_a_value_that_is_missing_is_neither_a_change_nor_the_same() -> None:
    alerts = Bench(RULES).alerts(readings([5.0, math.nan] * 9 + [math.nan] * 3 + [5.0, math.nan, 4.0]))
    assert told(alerts) == [("new", "stuck", "d", 210.0), ("end", "stuck", "d", 230.0)]


def test_two_sensors_that_are_stuck_are_one_alert() -> None:
    bench = Bench(RULES)
    new, update = bench.alerts(readings([5.0] * 5, power=1.0)[:2] + readings([5.0] * 14, start=20.0, power=7.0))
    assert told([new, update]) == [("new", "stuck", "d", 100.0), ("update", "stuck", "d", 120.0)]
    assert [(c.feature, c.share) for c in update.explanation] == [("temperature", 0.5), ("power", 0.5)]
    assert bench.alerts([Reading("d", 160.0, values=(5.0, 8.0))]) == []
    assert told(bench.alerts([Reading("d", 170.0, values=(5.5, 8.0))])) == [("end", "stuck", "d", 170.0)]


def test_only_the_features_that_are_named_are_looked_at() -> None:
    rules = Alerts(stuck=Duration(100), stuck_features=("temperature",))
    assert Bench(rules).alerts(readings([float(k) for k in range(20)], power=7.0)) == []


def test_a_device_that_is_forgotten_gets_its_end_and_its_slot_begins_anew() -> None:
    bench = Bench(RULES, most=1)
    bench.take(readings([5.0] * 11))
    assert told(bench.alerts(readings([5.0] * 3, "e", start=200.0))) == [("end", "stuck", "d", 100.0)]
    assert bench.judge.open_alerts() == 0
