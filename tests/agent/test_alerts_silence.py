import math

import pytest

from judges import Bench, Reading, told
from vedette.config import Alerts
from vedette.contract.durations import Duration

RULES = Alerts(silent=Duration(60))


def test_a_device_not_heard_of_for_longer_than_allowed_is_silent_until_it_is_heard_again() -> None:
    bench = Bench(RULES)
    assert bench.alerts([Reading("a", 0.0), Reading("b", 1.0)]) == []
    (new,) = bench.alerts([Reading("b", 50.0), Reading("b", 61.0)])
    assert told([new]) == [("new", "silent", "a", 60.0)]
    assert (new.score, new.windows, new.explanation, new.started.timestamp()) == (1.0, 0, (), 0.0)
    assert bench.judge.open_alert("a") == new.id
    (end,) = bench.alerts([Reading("a", 90.0)])
    assert told([end]) == [("end", "silent", "a", 90.0)]
    assert (end.id, end.score) == (new.id, 1.5)
    assert bench.judge.open_alerts() == 0


def test_exactly_as_long_as_allowed_is_not_too_long() -> None:
    bench = Bench(RULES)
    assert bench.alerts([Reading("a", 0.0), Reading("a", 60.0)]) == []
    assert bench.judge.tick(120.0) == []
    assert told([f.alert for f in bench.judge.tick(120.1)]) == [("new", "silent", "a", 120.0)]


def test_silence_that_begins_and_ends_within_a_batch_is_told() -> None:
    alerts = Bench(RULES).alerts([Reading("a", 0.0), Reading("a", 100.0), Reading("a", 300.0)])
    assert told(alerts) == [
        ("new", "silent", "a", 60.0), ("end", "silent", "a", 100.0), ("new", "silent", "a", 160.0), ("end", "silent", "a", 300.0),
    ]  # fmt: skip
    assert len({a.id for a in alerts}) == 2


def test_the_time_of_arrival_counts_not_the_devices_own_clock() -> None:
    bench = Bench(RULES)
    assert bench.alerts([Reading("a", 5000.0, arrived=0.0), Reading("a", 4.0, arrived=50.0), Reading("b", 0.0, arrived=100.0)]) == []
    assert told(bench.alerts([Reading("b", 0.0, arrived=111.0)])) == [("new", "silent", "a", 110.0)]


def test_rows_of_tables_are_heard_when_they_were_measured() -> None:
    rows = [Reading("a", 0.0, arrived=math.inf), Reading("b", 59.0, arrived=math.inf), Reading("b", 70.0, arrived=math.inf)]
    assert told(Bench(RULES).alerts(rows)) == [("new", "silent", "a", 60.0)]


def test_a_table_that_holds_one_device_after_the_other_makes_nobody_silent_who_was_not() -> None:
    rows = [Reading(device, float(time), arrived=math.inf) for device in "ab" for time in range(0, 600, 50)]
    assert Bench(RULES).alerts(rows) == []


def test_a_device_that_says_it_goes_is_silent_at_once() -> None:
    bench = Bench(RULES)
    bench.take([Reading("a", 0.0)])
    (new,) = bench.judge.depart("a", 5.0)
    assert told([new.alert]) == [("new", "silent", "a", 5.0)]
    assert bench.judge.depart("a", 6.0) == bench.judge.depart("unknown", 6.0) == bench.judge.tick(1000.0) == []
    assert told(bench.alerts([Reading("a", 7.0)])) == [("end", "silent", "a", 7.0)]


def test_without_the_rule_nobody_is_silent() -> None:
    bench = Bench(Alerts())
    bench.take([Reading("a", 0.0), Reading("a", 1e6)])
    assert bench.judge.depart("a", 1e6) == bench.judge.tick(1e9) == []


def test_a_silent_device_that_is_forgotten_gets_its_end_and_its_slot_begins_anew() -> None:
    bench = Bench(RULES, most=1)
    bench.take([Reading("a", 0.0)])
    bench.judge.tick(100.0)
    assert told(bench.alerts([Reading("b", 200.0)])) == [("end", "silent", "a", 200.0)]
    assert told([f.alert for f in bench.judge.tick(300.0)]) == [("new", "silent", "b", 260.0)]


def test_an_anomaly_and_silence_of_one_device_have_ids_of_their_own() -> None:
    bench = Bench(RULES)
    alerts = bench.alerts([Reading("a", 10.0 * k, score=3.0) for k in range(3)]) + [f.alert for f in bench.judge.tick(200.0)]
    assert [(a.type, a.kind) for a in alerts] == [("new", "anomaly"), ("new", "silent")]
    assert alerts[0].id != alerts[1].id
    assert (bench.judge.open_alert("a"), bench.judge.open_alerts()) == (alerts[0].id, 2)


@pytest.mark.parametrize("ticks", [False, True])
def test_a_batch_of_readings_that_all_come_in_time_costs_no_look_at_the_devices(ticks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(RULES)
    assert bench.judge._silence is not None
    bench.take([Reading(str(k), 0.0) for k in range(100)])
    monkeypatch.setattr(bench.judge._silence, "_find", None)
    for time in range(1, 59):
        bench.take([Reading(str(k), float(time)) for k in range(100)])
        if ticks:
            bench.judge.tick(float(time))


def test_a_device_that_says_it_goes_after_it_was_missed_fell_silent_when_it_was_missed() -> None:
    bench = Bench(RULES)
    bench.alerts([Reading("b", 0.0), Reading("a", 0.0)])
    assert told([finding.alert for finding in bench.judge.depart("b", 100.0)]) == [
        ("new", "silent", "a", 60.0), ("new", "silent", "b", 60.0),
    ]  # fmt: skip
