"""`vedette simulate login-events` writes two files and speaks to a real broker."""

import hashlib
import json
import threading
import time
from datetime import datetime
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from brokers import Mosquitto
from vedette.contract.errors import ConfigError, VedetteError
from vedette.simulate.command import simulate
from vedette.simulate.logins.attacks import KINDS

COMMON = ["login-events", "--users", "12", "--duration", "3d"]
TRAVEL = "impossible_travel:user-003:60h:40m"


def read(folder: Path) -> list[dict[str, object]]:
    return [row for name in ("train_logs.json", "test_logs.json") for row in json.loads((folder / name).read_bytes())]


def test_same_arguments_write_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", "1"), ("two", "1"), ("other", "2")):
        assert simulate([*COMMON, "--seed", seed, "-o", str(tmp_path / name)]) == 0
    for file in ("train_logs.json", "test_logs.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
        assert (tmp_path / "one" / file).read_bytes() != (tmp_path / "other" / file).read_bytes()


def test_json_summary_counts_rows_and_names_attacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate([*COMMON, "--attack-rate", "0", "--attack", TRAVEL, "--json", "-o", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert captured.err == "", "quiet where nobody looks"
    rows = read(tmp_path)
    assert summary["readings"] == len(rows) == summary["train"]["readings"] + summary["test"]["readings"]
    assert summary["anomalous"] == sum(row["label"] == 1 for row in rows) == summary["test"]["anomalous"] > 0
    assert summary["attacks"] == [
        {"kind": "impossible_travel", "user": "user-003", "start": "2026-01-07T12:00:00Z", "end": "2026-01-07T12:40:00Z"}
    ]


def test_train_share_divides_the_period(tmp_path: Path) -> None:
    assert simulate([*COMMON, "--train-share", "0.5", "-o", str(tmp_path)]) == 0
    train, test = (json.loads((tmp_path / name).read_bytes()) for name in ("train_logs.json", "test_logs.json"))
    assert train[-1]["timestamp"] < "2026-01-06T12:00:00.000+00:00" <= test[0]["timestamp"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["login-events"],
        ["login-events", "-o", "-"],
        ["login-events", "-o", "logs", "--users", "0"],
        ["login-events", "-o", "logs", "--devices", "3"],
        ["login-events", "-o", "logs", "--train-share", "1"],
        ["login-events", "-o", "logs", "--attack-rate", "nan"],
        ["login-events", "-o", "logs", "--topic", "idp/events"],
        ["login-events", "--broker", "mqtt://localhost", "--topic", "idp/+/events"],
    ],
)
def test_misuse_exits_with_two_and_writes_nothing(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        simulate(arguments)
    assert caught.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VedetteError, match="when the simulation of 259200 s is over"):
        simulate([*COMMON, "--attack", "impossible_travel:user-003:80h:40m", "-o", str(tmp_path)])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        simulate([*COMMON, "-o", str(tmp_path / "file")])


def test_broker_gets_the_rows_of_the_file_without_their_labels(
    broker: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    received: list[tuple[str, bytes | bytearray]] = []
    subscribed = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda connected, *_: connected.subscribe("idp/+/events", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _c, _u, message: received.append((message.topic, message.payload))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert subscribed.wait(10)
    common = ["login-events", "--users", "8", "--duration", "14h", "--start", "2026-01-05T00:00:00Z"]
    common += ["--attack-rate", "0", "--attack", "credential_stuffing:user-002:9h:20m"]
    assert simulate([*common, "-o", str(tmp_path)]) == 0
    assert simulate([*common, "--broker", broker.url, "--speed", "inf"]) == 0
    rows = read(tmp_path)
    deadline = time.monotonic() + 10
    while len(received) < len(rows) and time.monotonic() < deadline:
        time.sleep(0.01)
    client.disconnect()
    client.loop_stop()
    assert len(received) == len(rows) > 100
    for row, (topic, body) in zip(rows, received, strict=True):
        assert topic == f"idp/{row['realmId']}/events"
        assert json.loads(body) == {key: value for key, value in row.items() if key not in ("label", "attack")}
    said = capsys.readouterr().err
    assert "2026-01-05T09:00:00Z user-002: credential_stuffing starts" in said
    assert "2026-01-05T09:20:00Z user-002: credential_stuffing ends" in said


def test_log_of_any_start_and_length_begins_and_ends_there(tmp_path: Path) -> None:
    common = ["login-events", "--users", "30", "--duration", "5h", "--start", "2026-03-01T22:30:00+01:00"]
    assert simulate([*common, "-o", str(tmp_path)]) == 0
    times = [datetime.fromisoformat(str(row["timestamp"])) for row in read(tmp_path)]
    assert len(times) > 10
    assert datetime.fromisoformat("2026-03-01T22:30:00+01:00") <= min(times)
    assert max(times) < datetime.fromisoformat("2026-03-02T03:30:00+01:00")


def test_a_seed_gives_the_same_files_on_every_machine(tmp_path: Path) -> None:
    arguments = ["login-events", "--users", "25", "--duration", "8d", "--seed", "3", "-o", str(tmp_path)]
    for number, kind in enumerate(KINDS, start=1):
        arguments += ["--attack", f"{kind}:user-{number:03d}:{20 * number}h:1h"]
    assert simulate(arguments) == 0
    digest = hashlib.sha256((tmp_path / "train_logs.json").read_bytes() + (tmp_path / "test_logs.json").read_bytes()).hexdigest()
    # A change of the scenario changes it: write the new one here, and train anew what was trained on the old one.
    assert digest == "c4d8aae06cfd0eadf0d8a3390797462378dd4984f34b7c5850cc66c39ebbfa0c"
