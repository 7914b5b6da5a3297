import hashlib

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.alerts import Alert, Model, ScoreJudge
from vedette.config import Alerts
from vedette.contract.durations import Duration
from vedette.phrases import Rule

RULES = Alerts(raise_=Rule(2, 3), clear=Rule(2, 2), cooldown=Duration(100), update=Duration(30), critical=2.0)


def judge(rules: Alerts = RULES, max_devices: int = 100) -> ScoreJudge:
    return ScoreJudge(rules, Model(name="fridge", version="1.0.0"), max_devices, "gw", "fridges")


def play(scores: list[float], subject: ScoreJudge | None = None, device: str = "d", start: float = 0.0) -> list[Alert]:
    subject = subject or judge()
    return subject.judge([device] * len(scores), start + 10.0 * np.arange(len(scores)), scores)


def told(alerts: list[Alert]) -> list[tuple[str, float]]:
    return [(alert.type, alert.time.timestamp()) for alert in alerts]


def test_m_of_n_windows_raise_an_alert() -> None:
    assert told(play([0.5, 1.2, 0.5, 1.1])) == [("new", 30.0)]
    assert told(play([1.2, 0.5, 0.5, 1.1])) == []


def test_exactly_the_threshold_counts() -> None:
    assert told(play([1.0, 1.0])) == [("new", 10.0)]


def test_an_alert_ends_after_enough_windows_well_under_the_threshold() -> None:
    assert told(play([1.5, 1.5, 0.95, 0.95, 0.8, 0.95, 0.8, 0.8])) == [("new", 10.0), ("end", 70.0)]


def test_new_update_and_end_share_an_id_and_carry_the_peak() -> None:
    new, update, end = play([1.5, 1.5, 2.5, 0.1, 0.1])
    assert new.id == update.id == end.id
    assert [a.type for a in (new, update, end)] == ["new", "update", "end"]
    assert (new.peak, update.peak, end.peak) == (1.5, 2.5, 2.5)
    assert (new.severity, update.severity) == ("warning", "critical")
    assert (new.ended, end.ended, end.started) == (None, end.time, new.started)
    assert (new.windows, end.windows) == (2, 3)


def test_updates_come_only_with_a_higher_peak_and_not_too_often() -> None:
    assert told(play([1.5, 1.5, 1.6, 1.7, 1.8, 1.8, 1.8, 1.8, 1.9])) == [("new", 10.0), ("update", 40.0)]


def test_the_peak_forgets_what_was_before_the_episode() -> None:
    (new,) = play([1.9, 0.1, 0.1, 0.1, 1.2, 1.3])
    assert new.peak == 1.3


def test_after_an_end_there_is_a_pause() -> None:
    alerts = play([1.5, 1.5, 0.1, 0.1, *[1.5] * 11])
    assert told(alerts) == [("new", 10.0), ("end", 30.0), ("new", 130.0)]
    assert alerts[0].id != alerts[2].id


def test_an_alert_that_does_not_end_is_told_once_as_drift_and_then_no_more() -> None:
    rules = msgspec.structs.replace(RULES, drift_after=Duration(100))
    alerts = play([1.5] * 500 + [0.1] * 2, judge(rules))
    assert [(a.type, a.kind, a.time.timestamp()) for a in alerts] == [
        ("new", "anomaly", 10.0), ("end", "anomaly", 110.0), ("new", "drift", 110.0), ("end", "drift", 5010.0),
    ]  # fmt: skip
    assert len({a.id for a in alerts}) == 2
    assert alerts[2].severity == "warning"


def test_an_alert_that_only_failed_to_clear_is_no_drift() -> None:
    rules = msgspec.structs.replace(RULES, drift_after=Duration(100))
    assert told(play([1.5, 1.5, *[0.95] * 50], judge(rules))) == [("new", 10.0)]


def test_a_clock_that_goes_back_does_not_prolong_the_pause() -> None:
    subject = judge()
    play([1.5, 1.5, 0.1, 0.1], subject, start=10_000.0)
    assert told(play([1.5, 1.5], subject, start=0.0)) == [("new", 10.0)]


def test_ids_are_what_they_always_were() -> None:
    """Subscribers drop duplicates by them, across versions too."""
    digest = hashlib.sha256(b"gw\0fridges\0d\0fridge\x001.0.0\x0010.0").hexdigest()
    assert play([1.5, 1.5])[0].id == digest[:32]


def test_a_higher_threshold_takes_the_rules_that_hang_on_it_along() -> None:
    rules = msgspec.structs.replace(RULES, threshold=2.0)
    assert told(play([1.9, 1.9, 1.9], judge(rules))) == []
    assert told(play([2.0, 2.0, 1.7, 1.7], judge(rules))) == [("new", 10.0), ("end", 30.0)]
    assert [a.severity for a in play([2.0, 3.9, 3.9, 4.0], judge(rules))] == ["warning", "critical"]


def test_the_same_episode_has_the_same_id_in_a_replay() -> None:
    assert [a.id for a in play([1.5, 1.5])] == [a.id for a in play([1.5, 1.5])]
    assert play([1.5, 1.5])[0].id != play([1.5, 1.5], device="e")[0].id


def test_a_device_that_is_well_takes_no_memory() -> None:
    subject = judge(max_devices=2000)
    for device in range(1000):
        play([0.5, 0.9, 1.2, 0.1, 0.1, 0.1], subject, str(device))
    assert len(subject._judge._episodes) == 0
    play([1.5, 1.5, 0.1, 0.1, *[0.1] * 10], subject)
    assert len(subject._judge._episodes) == 0


def test_a_device_that_is_forgotten_at_the_cap_gets_its_end() -> None:
    subject = judge(max_devices=1)
    (new,) = play([1.5, 1.5], subject, "a")
    (end,) = play([1.5], subject, "b")
    assert (end.type, end.id, end.device) == ("end", new.id, "a")
    assert subject.open_alert("a") is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.2, 0.95, 1.1, 2.5])), max_size=80))
def test_an_episode_is_new_then_updates_then_end_whatever_comes(steps: list[tuple[str, float]]) -> None:
    subject = judge()
    open_: dict[str, str] = {}
    for step, (device, score) in enumerate(steps):
        for alert in subject.judge([device], [10.0 * step], [score]):
            assert (alert.type == "new") == (device not in open_)
            assert open_.setdefault(device, alert.id) == alert.id
            if alert.type == "end":
                del open_[device]
        assert subject.open_alert(device) == open_.get(device)
    assert subject.open_alerts() == len(open_)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.2, 0.95, 1.1, 2.5])), max_size=80))
def test_interleaving_devices_changes_nothing(steps: list[tuple[str, float]]) -> None:
    together, timed = judge(), [(device, 10.0 * i, score) for i, (device, score) in enumerate(steps)]
    mixed = [alert for device, time, score in timed for alert in together.judge([device], [time], [score])]
    for name in "ab":
        mine = [(time, score) for device, time, score in timed if device == name]
        assert [a for a in mixed if a.device == name] == judge().judge([name] * len(mine), [t for t, _ in mine], [s for _, s in mine])
