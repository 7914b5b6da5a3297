import pytest

from judges import Bench, Reading
from vedette.alerts import Alert
from vedette.config import Alerts
from vedette.contract.durations import Duration
from vedette.phrases import Crowd, Rule

RULES = Alerts(raise_=Rule(1, 1), clear=Rule(2, 2), drift_share=None, silent=Duration(60), group=Crowd.parse("4 within 30s"))


def play(bench: Bench, steps: list[tuple[str, float, float]]) -> list[Alert]:
    return bench.alerts([Reading(*step) for step in steps])


def short(alerts: list[Alert]) -> list[tuple[str, str, str]]:
    return [(alert.type, alert.kind, alert.device) for alert in alerts]


def test_the_alert_that_makes_it_a_group_is_told_as_one_and_takes_the_earlier_ones_over() -> None:
    bench = Bench(RULES)
    alerts = play(bench, [(device, float(k), 1.5 + k) for k, device in enumerate("abcdef")])
    assert short(alerts) == [
        ("new", "anomaly", "a"), ("new", "anomaly", "b"), ("new", "anomaly", "c"),
        ("new", "anomaly", ""), ("end", "anomaly", "a"), ("end", "anomaly", "b"), ("end", "anomaly", "c"),
    ]  # fmt: skip
    group = alerts[3]
    assert (group.devices, group.names, group.severity, group.peak) == (4, ("a", "b", "c", "d"), "critical", 4.5)
    assert {bench.judge.open_alert(device) for device in "abcdef"} == {group.id}
    assert bench.judge.open_alerts() == 1
    assert all(end.time == group.time for end in alerts[4:])


def test_a_group_ends_with_the_last_of_its_devices() -> None:
    bench = Bench(RULES)
    group = play(bench, [(device, float(k), 1.5) for k, device in enumerate("abcdef")])[3]
    assert play(bench, [(device, 10.0 + k, 0.1) for k in range(2) for device in "abcde"]) == []
    (end,) = play(bench, [("f", 12.0, 0.1), ("f", 13.0, 0.1)])
    assert (end.type, end.id, end.devices, end.time.timestamp()) == ("end", group.id, 6, 13.0)
    assert bench.judge.open_alerts() == 0
    assert bench.judge.open_alert("a") is None


def test_a_group_is_told_again_when_it_has_twice_the_devices_or_is_worse() -> None:
    bench = Bench(RULES)
    play(bench, [(device, 0.0, 1.5) for device in "abcd"])
    assert [(a.type, a.devices) for a in play(bench, [(device, 1.0, 1.5) for device in "efghijk"])] == [("update", 8)]
    assert [(a.type, a.severity) for a in play(bench, [("a", 2.0, 2.5), ("b", 2.0, 2.5)])] == [("update", "critical")]


def test_alerts_that_are_far_apart_are_told_one_by_one() -> None:
    bench = Bench(RULES)
    alerts = [alert for k, device in enumerate("abcdefgh") for alert in play(bench, [(device, 20.0 * k, 1.5)])]
    assert [alert.device for alert in alerts if alert.kind == "anomaly"] == list("abcdefgh")


def test_a_later_alert_is_its_devices_own_though_the_group_is_open() -> None:
    bench = Bench(RULES)
    play(bench, [(device, 0.0, 1.5) for device in "abcd"])
    later = play(bench, [("a", 50.0, 1.5), ("z", 50.0, 1.5)])
    assert short(later) == [("new", "anomaly", "z")]
    assert bench.judge.open_alert("z") == later[0].id
    assert bench.judge.open_alerts() == 2


def test_one_device_that_flaps_is_no_group() -> None:
    bench = Bench(Alerts(raise_=Rule(1, 1), clear=Rule(1, 1), cooldown=Duration(0), group=Crowd.parse("3 within 1h")))
    alerts = play(bench, [("a", float(k), score) for k, score in enumerate([1.5, 0.1] * 10)])
    assert {alert.device for alert in alerts} == {"a"}


def test_devices_behind_a_switch_that_fails_are_one_silence() -> None:
    bench = Bench(RULES)
    bench.take([Reading(f"d{k}", k / 10) for k in range(50)])
    alerts = [f.alert for time in range(55, 80) for f in bench.judge.tick(float(time))]
    news = [a for a in alerts if a.type == "new"]
    assert [a.device for a in news] == ["d0", "d1", "d2", ""]
    assert [a.devices for a in alerts if a.device == ""] == [4, 8, 16, 32]
    assert bench.judge.open_alerts() == 1
    back = bench.alerts([Reading(f"d{k}", 100.0 + k / 10) for k in range(50)])
    assert [(a.type, a.device, a.devices, a.id) for a in back] == [("end", "", 50, news[3].id)]
    assert bench.judge.open_alerts() == 0


def test_a_share_is_of_the_devices_that_have_windows_and_never_fewer_than_three() -> None:
    bench = Bench(Alerts(raise_=Rule(1, 1), drift_share=None, group=Crowd.parse("10% within 30s")))
    play(bench, [(f"d{k}", 0.0, 0.1) for k in range(50)])
    alerts = play(bench, [(f"d{k}", 1.0, 1.5) for k in range(10)])
    assert [a.device for a in alerts if a.type == "new"] == ["d0", "d1", "d2", "d3", ""]
    assert Crowd.parse("10% within 30s").of(5, 3) == 3


def test_what_is_silent_does_not_make_a_group_with_what_is_strange() -> None:
    bench = Bench(RULES)
    play(bench, [("a", 0.0, 0.1), ("b", 0.0, 0.1), ("c", 50.0, 1.5), ("d", 50.0, 1.5)])
    alerts = play(bench, [("e", 61.0, 1.5)])
    assert short(alerts) == [("new", "silent", "a"), ("new", "silent", "b"), ("new", "anomaly", "e")]


@pytest.mark.parametrize("text", ["ten within 60s", "1 within 60s", "0% within 60s", "101% within 60s", "10 within soon", "10", 10, None])
def test_a_group_rule_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        Crowd.parse(text)
