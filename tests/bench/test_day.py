import json
from pathlib import Path

from bench.day import Episode, Fault, match, read_episodes, read_faults
from vedette.contract.readings import Message
from vedette.contract.recordings import RecordingWriter


def test_faults_are_the_runs_of_a_devices_labels(tmp_path: Path) -> None:
    labels = {"a": ["", "sensor_stuck", "sensor_stuck", "", "sensor_drift"], "b": ["", "", "door_left_open", "door_left_open", ""]}
    with RecordingWriter(tmp_path / "day.jsonl.gz") as writer:
        for number in range(5):
            for device, faults in labels.items():
                writer.write(Message(f"plant/x/{device}/telemetry", b"{}", 60.0 * number), label=1, fault=faults[number])
    assert read_faults(tmp_path / "day.jsonl.gz") == [
        Fault("sensor_stuck", "a", 60.0, 120.0),
        Fault("door_left_open", "b", 120.0, 180.0),
        Fault("sensor_drift", "a", 240.0, 240.0),
    ]


def alert(kind: str, type_: str, id_: str, second: int, *features: str) -> str:
    causes = [{"feature": feature} for feature in features]
    time = f"2026-01-12T00:00:{second:02}Z"
    return json.dumps({"payload": {"id": id_, "kind": kind, "type": type_, "device": "a", "time": time, "explanation": causes}})


def test_an_alert_lasts_from_new_to_end_and_drift_is_none_of_its_own() -> None:
    lines = [
        alert("anomaly", "new", "1", 10, "door", "power"),
        alert("anomaly", "update", "1", 15, "power"),
        alert("anomaly", "end", "1", 20),
        alert("drift", "new", "2", 20),
        alert("anomaly", "new", "3", 30),
    ]
    start = 1768176000.0
    assert read_episodes(lines) == [Episode("a", start + 10, start + 20, "door"), Episode("a", start + 30, float("inf"), None)]


def test_an_alert_belongs_to_the_fault_that_it_overlaps_or_soon_follows() -> None:
    faults = [
        Fault("door_left_open", "a", 100.0, 200.0),
        Fault("sensor_stuck", "b", 100.0, 200.0),
        Fault("sensor_drift", "c", 100.0, 200.0),
    ]
    episodes = [
        Episode("a", 130.0, 140.0, "door"),
        Episode("a", 150.0, 160.0, "power"),  # the same fault again: neither false nor another
        Episode("a", 900.0, 950.0, "door"),
        Episode("b", 90.0, 110.0, "temperature"),  # open when the fault began: no delay, and not explained by it
        Episode("c", 240.0, 260.0, "power"),  # within the window's length after
        Episode("d", 150.0, 160.0, "door"),
    ]
    result = match(faults, episodes, grace_s=60.0, replay_s=1.0)
    assert result.delays == [30.0, 0.0, 140.0]
    assert result.tops == [True, False]
    assert (result.alerts, result.false_alerts) == (6, 2)
    assert match(faults, episodes, grace_s=30.0, replay_s=1.0).delays == [30.0, 0.0, None]
