import numpy as np

from judges import Bench, Reading, told
from vedette.config import Alerts
from vedette.phrases import Rule

RULES = Alerts(raise_=Rule(3, 5), clear=Rule(5, 5))


def rounds(
    bench: Bench, scores: list[float], devices: int, start: float = 0.0, over: int | None = None
) -> list[tuple[str, str, str, float]]:
    """Every device reports once a minute; the first `over` with the score of that round, the others are well."""
    found = []
    for turn, score in enumerate(scores):
        found += bench.alerts(
            [
                Reading(f"d{k}", start + 60.0 * turn + k / 1000, score if over is None or k < over else 0.1, (float(turn), float(turn)))
                for k in range(devices)
            ]
        )
    return told(found)


def test_a_thousand_devices_that_drift_at_once_are_one_alert() -> None:
    bench = Bench(RULES)
    rounds(bench, [0.5] * 5, 1000)
    alerts = rounds(bench, [2.5] * 1000, 1000, start=300.0)
    ((type_, kind, device, time),) = alerts
    assert (type_, kind, device) == ("new", "drift", "")
    assert 420.0 < time < 520.0
    assert bench.judge.held == 1000
    assert bench.judge.open_alerts() == 1
    assert bench.judge.open_alert("d7") is None


def test_drift_of_a_stream_says_how_many_devices_and_which_is_how_far_over_its_share() -> None:
    bench = Bench(RULES)
    found = [f for turn in range(6) for f in bench.take([Reading(f"d{k}", 60.0 * turn + k, 3.0 if k < 8 else 0.1) for k in range(10)])]
    (finding,) = found
    assert (finding.alert.devices, finding.alert.names) == (8, ("d0", "d1", "d2", "d3", "d4"))
    assert (finding.alert.score, finding.alert.severity) == (1.6, "warning")
    assert finding.alert.windows > 20
    assert finding.window is not None


def test_it_ends_by_itself_and_then_devices_alert_again() -> None:
    bench = Bench(RULES)
    assert len(rounds(bench, [2.5] * 20, 10)) == 1
    alerts = rounds(bench, [0.3] * 20, 10, start=1200.0)
    assert [alert[:3] for alert in alerts] == [("end", "drift", "")]
    assert 1200.0 + 240.0 < alerts[0][3] < 1200.0 + 420.0
    assert [a[:3] for a in rounds(bench, [2.5] * 5, 10, start=2400.0, over=2)] == [("new", "anomaly", "d0"), ("new", "anomaly", "d1")]


def test_a_device_that_is_still_over_when_the_streams_drift_ends_is_told_then() -> None:
    bench = Bench(RULES)
    rounds(bench, [2.5] * 20, 10)
    alerts = rounds(bench, [2.5] * 20, 10, start=1200.0, over=1)
    assert [a[:3] for a in alerts] == [("end", "drift", ""), ("new", "anomaly", "d0")]


def test_alerts_of_devices_that_were_told_before_end_when_the_stream_drifts() -> None:
    bench = Bench(RULES)
    assert [a[:3] for a in rounds(bench, [2.5] * 5, 10, over=2)] == [("new", "anomaly", "d0"), ("new", "anomaly", "d1")]
    alerts = rounds(bench, [2.5] * 10, 10, start=300.0)
    assert [a[:3] for a in alerts] == [("new", "drift", ""), ("end", "anomaly", "d0"), ("end", "anomaly", "d1")]
    assert bench.judge.open_alerts() == 1


def test_what_all_devices_show_for_a_moment_is_told_of_none() -> None:
    bench = Bench(RULES)
    assert rounds(bench, [0.1, 2.5, 0.1, 2.5, 0.1, 0.1, 0.1], 20) == []
    assert bench.judge.held == 0


def test_less_than_half_of_the_devices_are_told_one_by_one() -> None:
    assert [a[2] for a in rounds(Bench(RULES), [2.5] * 8, 11, over=5)] == ["d0", "d1", "d2", "d3", "d4"]


def test_a_stream_of_few_devices_never_drifts_as_a_whole() -> None:
    assert [a[:2] for a in rounds(Bench(RULES), [2.5] * 50, 5)] == [("new", "anomaly")] * 5


def test_the_rule_can_be_turned_off() -> None:
    bench = Bench(Alerts(drift_share=None))
    assert [a[:2] for a in rounds(bench, [2.5] * 20, 10)] == [("new", "anomaly")] * 10


def test_one_device_that_reports_very_often_is_no_majority() -> None:
    bench = Bench(RULES)
    rounds(bench, [0.1], 10)
    chatty = bench.alerts([Reading("d3", 60.0 + k / 10, 3.0) for k in range(200)])
    assert told(chatty)[0][:3] == ("new", "anomaly", "d3")


def test_devices_that_are_not_heard_of_for_a_day_do_not_count() -> None:
    bench = Bench(RULES)
    rounds(bench, [0.1], 500)
    alerts = rounds(bench, [2.5] * 10, 8, start=2 * 86400.0)
    assert [a[:3] for a in alerts] == [("new", "drift", "")]


def test_devices_that_are_forgotten_do_not_count() -> None:
    bench = Bench(RULES, most=12)
    bench.take([Reading(f"gone{k}", 0.0, 2.5) for k in range(12)])
    assert rounds(bench, [0.1] * 3, 12, start=60.0) == []
    assert bench.judge._drift.devices == 12
    assert bench.judge._drift._devices_over == 0


def test_what_is_known_moves_with_the_devices_slots() -> None:
    bench, other = Bench(RULES), Bench(RULES)
    for one in (bench, other):
        rounds(one, [2.5] * 2, 10, over=3)
    to = np.roll(np.arange(10), 3)
    bench.judge.move(to)
    names = list(bench.devices.names)
    for slot, name in enumerate(names):
        bench.devices.names[to[slot]] = name
        bench.devices._slots[name] = int(to[slot])
    assert rounds(bench, [2.5] * 4, 10, start=120.0, over=3) == rounds(other, [2.5] * 4, 10, start=120.0, over=3) != []
