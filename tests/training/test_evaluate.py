from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from vedette.alerts import Alert, Kind, Model
from vedette.contract.windows import WindowSpec
from vedette_training import evaluate
from vedette_training.judging import Judged
from vedette_training.run import Labelled


def floats(numbers: list[float]) -> npt.NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)


def test_metrics_are_those_worked_out_by_hand() -> None:
    metrics = evaluate.measure(floats([0.1, 1.0, 2.0, 0.2, 1.5]), np.array([False, False, True, True, True]))
    assert metrics == pytest.approx(
        {
            "windows": 5,
            "anomalous_windows": 3,
            "flagged_windows": 3,
            "roc_auc": 5 / 6,
            "average_precision": (1 + 1 + 3 / 4) / 3,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "f1": 2 / 3,
            "missed_alarm_rate": 1 / 3,
            "false_alarm_rate": 1 / 2,
        }
    )


def test_metric_that_one_class_cannot_measure_is_absent() -> None:
    scores = floats([0.1, 1.2])
    assert set(evaluate.measure(scores, np.array([False, False]))) == {
        "windows", "anomalous_windows", "flagged_windows", "false_alarm_rate",
    }  # fmt: skip
    assert set(evaluate.measure(scores, np.array([True, True]))) == {
        "windows", "anomalous_windows", "flagged_windows", "precision", "recall", "f1", "missed_alarm_rate",
    }  # fmt: skip


def test_precision_is_absent_where_nothing_was_flagged() -> None:
    assert "precision" not in evaluate.measure(floats([0.1, 0.2]), np.array([False, True]))


def alert(type_: Literal["new", "end"], device: str, started: int, time: int, kind: Kind = "anomaly") -> Alert:
    return Alert(
        id=f"{device}{started}{kind}",
        type=type_,
        gateway="g",
        stream="s",
        device=device,
        kind=kind,
        score=1.0,
        peak=1.0,
        severity="warning",
        started=datetime.fromtimestamp(started, UTC),
        time=datetime.fromtimestamp(time, UTC),
        ended=None,
        windows=1,
        model=Model(name="m", version="1.0.0"),
    )


def judged(labelled: Labelled, alerts: list[Alert], scores: npt.NDArray[np.float32] | None = None) -> Judged:
    count = len(labelled.times)
    return Judged(
        devices=labelled.devices,
        times=np.array(labelled.times),
        scores=np.zeros(count, np.float32) if scores is None else scores,
        anomalous=np.array(labelled.anomalous),
        positions=np.arange(count),
        alerts=alerts,
        kept=np.zeros(0, np.intp),
        windows=np.zeros((0, 1, 1), np.float32),
    )


def day(anomalous: list[tuple[str, int, int]]) -> Labelled:
    """Devices a and b, a reading every 100 s for a day."""
    devices, times, labels = [], [], []
    for time in range(0, 86400, 100):
        for device in "ab":
            devices.append(device)
            times.append(float(time))
            labels.append(any(device == d and start <= time <= end for d, start, end in anomalous))
    return Labelled(devices, times, [(0.0,)] * len(devices), labels)


def test_an_episode_is_detected_by_an_alert_of_its_device_in_its_time() -> None:
    labelled = day([("a", 1000, 5000), ("a", 40_000, 41_000), ("b", 1000, 5000)])
    alerts = [
        alert("new", "a", 1600, 1600), alert("end", "a", 1600, 5200),
        alert("new", "a", 41_200, 41_200), alert("end", "a", 41_200, 41_500),  # its windows still hold the episode's readings
        alert("new", "b", 60_000, 60_000), alert("end", "b", 60_000, 60_500),
    ]  # fmt: skip
    found = evaluate.count_episodes(judged(labelled, alerts), labelled, WindowSpec(steps=3))
    assert (found.labelled, found.detected, found.alerts, found.false_alerts) == (3, 2, 3, 1)
    assert found.delays_s == (600.0, 1200.0)
    assert found.device_days == pytest.approx(2, abs=0.01)
    assert found.false_alerts_per_day == pytest.approx(0.5, abs=0.01)


def test_an_alert_that_was_open_already_detects_without_delay_and_one_that_never_ended_lasts() -> None:
    labelled = day([("a", 50_000, 60_000)])
    found = evaluate.count_episodes(judged(labelled, [alert("new", "a", 100, 100)]), labelled, WindowSpec())
    assert (found.detected, found.delays_s, found.false_alerts) == (1, (0.0,), 0)


def test_drift_is_no_alarm_of_its_own_but_goes_on_with_the_anomaly() -> None:
    labelled = day([("a", 40_000, 41_000)])
    alerts = [alert("new", "a", 100, 100), alert("end", "a", 100, 9000), alert("new", "a", 9000, 9000, "drift")]
    found = evaluate.count_episodes(judged(labelled, alerts), labelled, WindowSpec())
    assert (found.alerts, found.detected, found.delays_s) == (1, 1, (0.0,))


def test_normal_windows_that_are_flagged_at_the_end_are_told_as_drift() -> None:
    labelled = day([])
    scores = np.where(np.array(labelled.times) > 60_000, 3, 0).astype(np.float32)
    scores[np.array(labelled.devices) == "b"] = 0
    drift = evaluate.find_drift(judged(labelled, [], scores))
    assert drift.devices == ("a",)
    assert drift.verdict is not None
    assert "50%" in drift.verdict
    assert evaluate.find_drift(judged(labelled, [], np.zeros_like(scores))).verdict is None
