import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agents import STREAM, episode, vedette, write_config
from brokers import Mosquitto
from bundles import install, make_bundle

WARM = [4.0] * 5 + [10.0] * 4 + [4.0] * 6


def record(path: Path, payloads: list[dict[str, object]]) -> Path:
    topic = "plant/north/fridge/f-1/telemetry"
    path.write_text("".join(json.dumps({"time": p["ts"], "topic": topic, "payload": p}) + "\n" for p in payloads))
    return path


def test_check_says_ok_line_by_line(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    done = vedette("check", "-c", write_config(tmp_path, broker.url))
    assert done.returncode == 0, done.stdout
    expected = ["config", "credentials", "models", "state", "disk", "clock", "broker", "running"]
    said = [line.split()[:2] for line in done.stdout.splitlines()]
    assert [what for _, what in said if what != "clock"] == [what for what in expected if what != "clock"]
    assert all(level == "ok" for level, what in said if what != "clock"), "a machine whose clock nothing sets has a note on it"


def test_check_names_every_fault_and_exits_1(tmp_path: Path) -> None:
    done = vedette("check", "--json", "-c", write_config(tmp_path, "mqtt://127.0.0.1:1"))
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert not findings["models"]["ok"] and "vedette model install" in findings["models"]["detail"]
    assert not findings["state"]["ok"] and "make it" in findings["state"]["detail"]
    assert not findings["broker"]["ok"] and "cannot be reached" in findings["broker"]["detail"]


def test_check_says_what_an_access_list_refuses(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read other/#\n")
    install(tmp_path / "state", make_bundle())
    with Mosquitto(tmp_path, settings="allow_anonymous false") as closed:
        done = vedette("check", "-c", write_config(tmp_path, closed.url))
        assert "refuses the connection: Not authorized; check broker.username" in done.stdout
        assert done.returncode == 1


def test_replay_prints_what_would_have_fired(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, "mqtt://nobody")
    done = vedette("replay", "-c", config, record(tmp_path / "day.jsonl", episode(WARM)))
    assert done.returncode == 0, done.stderr
    new, end = done.stdout.splitlines()
    assert new == "2026-09-21 14:20:20 new    warning  fridges/f-1 score 1.50 peak 1.50  temperature 10 (usual 4)"
    assert end.split()[2] == "end"
    assert "scored 15" in done.stderr


def test_a_table_replays_as_the_messages_that_its_rows_stand_for(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, "mqtt://nobody")
    table = tmp_path / "day.csv"
    table.write_text("\ufeffts,name,temperature\n" + "".join(f"{p['ts']},f-1,{p['temperature']}\n" for p in episode(WARM)))
    from_table = vedette("replay", "--json", "-c", config, "--device", "name", table)
    from_recording = vedette("replay", "--json", "-c", config, record(tmp_path / "day.jsonl", episode(WARM)))
    assert from_table.returncode == 0, from_table.stderr
    assert from_table.stdout == from_recording.stdout


def test_packed_files_replay_as_they_are_unpacked(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, "mqtt://nobody")
    table = tmp_path / "f-1.csv"
    table.write_text("ts,temperature\n" + "".join(f"{p['ts']},{p['temperature']}\n" for p in episode(WARM)))
    for plain in (table, record(tmp_path / "day.jsonl", episode(WARM))):
        packed = plain.with_name(f"{plain.name}.gz")
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        one, two = (vedette("replay", "--json", "-c", config, path) for path in (plain, packed))
        assert one.returncode == two.returncode == 0, two.stderr
        assert one.stdout == two.stdout != ""


def test_a_terminal_sees_how_far_a_replay_is_and_a_pipe_does_not(tmp_path: Path, terminal: tuple[int, int]) -> None:
    install(tmp_path / "state", make_bundle())
    config, day = write_config(tmp_path, "mqtt://nobody"), record(tmp_path / "day.jsonl", episode([4.0] * 20_000))
    ours, theirs = terminal
    command = [sys.executable, "-m", "vedette", "replay", "-c", str(config), str(day)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=False, timeout=60)
    seen = os.read(ours, 1 << 16)
    assert done.returncode == 0
    assert re.search(rb"\rreplay +\d+% of 2\.\d MB", seen)
    assert "%" not in vedette("replay", "-c", config, day).stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", "{}\n", "x.jsonl: line 1: Object missing required field `topic`"),
        ("x.jsonl", '{"topic": "a", "payload": 1}\n', "x.jsonl: line 1: expected time (epoch seconds) or receivedTimestamp"),
        ("x.csv", "a,b\n1\n", "x.csv: row 2: 1 cells, but the header names 2 columns"),
        ("x.csv", "ts,device\n1,a/b\n", 'x.csv: row 2: device "a/b" cannot stand in the topic'),
        ("x.txt", "", "x.txt: expected a recording (.jsonl) or a table (.csv)"),
    ],
)
def test_a_file_that_cannot_be_replayed_says_where(tmp_path: Path, name: str, content: str, message: str) -> None:
    install(tmp_path / "state", make_bundle())
    (tmp_path / name).write_text(content)
    done = vedette("replay", "-c", write_config(tmp_path, "mqtt://nobody"), tmp_path / name)
    assert done.returncode == 1
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_lab_capture_replays_as_it_was_captured(tmp_path: Path) -> None:
    capture = Path(__file__).parents[3] / "shared" / "data" / "mqtt" / "lab_capture.jsonl"
    if not capture.exists():
        pytest.skip(reason="the lab's capture is not here (../shared/data/mqtt)")
    install(tmp_path / "state", make_bundle())
    stream = {**STREAM, "topic": "temp-hum-readings", "device": {"field": "node-id"}, "payload": {"fields": {"temperature": "temp-C"}}}
    config = write_config(tmp_path, "mqtt://nobody", streams=[stream])
    done = vedette("replay", "--json", "-c", config, capture)
    assert done.returncode == 0, done.stderr
    counters = json.loads(done.stdout.splitlines()[-1])
    received = counters["streams"]["fridges"]["received"]
    assert counters["unmatched"] + received == len(capture.read_text().splitlines())
    assert received == counters["streams"]["fridges"]["scored"] == 22


def test_models_are_installed_listed_verified_and_taken_back(tmp_path: Path) -> None:
    def model(*arguments: str | Path, code: int = 0) -> str:
        done = vedette("model", *arguments, "--state-dir", tmp_path / "state")
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    for version in ("1.0.0", "1.1.0"):
        path = tmp_path / f"fridge-{version}.vedette"
        path.write_bytes(make_bundle(version=version))
        assert model("install", path) == f"fridge {version} (isolation_forest) verified, proved on this machine and live\n"
    assert model("install", path) == "fridge 1.1.0 is here already, as live\n"
    assert model("list") == "fridge 1.1.0  live\nfridge 1.0.0  kept to go back to\n"
    assert "fridge 1.1.0 (isolation_forest): whole\n32 golden windows score here as where they were made" in model("verify", "fridge")
    assert json.loads(model("verify", path, "--json"))["version"] == "1.1.0"
    assert model("rollback", "fridge") == "fridge 1.0.0 is live again; 1.1.0 is refused until somebody asks for it by hand\n"
    (listed,) = json.loads(model("list", "--json"))
    assert (listed["live"]["version"], listed["previous"]["version"], listed["candidate"]) == ("1.0.0", "1.1.0", None)
    assert "fridge 1.1.0  refused" in model("list")
    assert "rolled back by hand" in model("rollback", "fridge", code=1)
    assert model("activate", "fridge", "1.1.0") == "fridge 1.1.0 is live\n"
    assert "2.0.0 is not kept here (kept: 1.1.0, 1.0.0)" in model("activate", "fridge", "2.0.0", code=1)
    assert "no model of that name" in model("verify", "pump", code=1)
    path.write_bytes(path.read_bytes()[:-9])
    assert "not a vedette bundle, or cut short" in model("install", path, code=1)


def test_a_second_version_goes_on_trial_and_must_fit_the_streams(tmp_path: Path) -> None:
    config = write_config(tmp_path, "mqtt://nobody")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        (tmp_path / f"{version}.vedette").write_bytes(make_bundle(version=version))
    assert vedette("model", "install", tmp_path / "1.0.0.vedette", "-c", config).stdout.endswith("and live\n")
    tried = vedette("model", "install", tmp_path / "1.1.0.vedette", "-c", config).stdout
    assert tried.endswith("the agent tries it for 10 min beside the one that is live (at once: --now)\n")
    assert vedette("model", "list", "-c", config).stdout == "fridge 1.0.0  live\nfridge 1.1.0  on trial\n"
    assert vedette("model", "install", tmp_path / "1.2.0.vedette", "--now", "-c", config).stdout.endswith("and live\n")
    wrong = write_config(tmp_path, "mqtt://nobody", streams=[{**STREAM, "payload": {"fields": {"humidity": "h"}}}])
    done = vedette("model", "install", tmp_path / "1.1.0.vedette", "-c", wrong)
    assert (done.returncode, done.stdout) == (1, "")
    assert "streams[0].payload.fields" in done.stderr


def test_usage_is_exit_2_and_help_is_exit_0() -> None:
    assert vedette().returncode == 2
    assert vedette("nonsense").returncode == 2
    assert vedette("run", "--nonsense").returncode == 2
    overview = vedette("--help")
    assert overview.returncode == 0
    assert all(command in overview.stdout for command in ("run", "check", "replay", "simulate", "demo", "train", "export", "model"))


@pytest.mark.parametrize("time", ["-1", "1790000000000"])
def test_a_recording_with_an_impossible_time_of_arrival_says_where(tmp_path: Path, time: str) -> None:
    install(tmp_path / "state", make_bundle())
    (tmp_path / "x.jsonl").write_text(f'{{"topic": "a", "time": {time}, "payload": 1}}\n')
    done = vedette("replay", "-c", write_config(tmp_path, "mqtt://nobody"), tmp_path / "x.jsonl")
    assert done.returncode == 1
    assert "x.jsonl: line 1: time: expected epoch seconds" in done.stderr


def test_a_config_that_is_wrong_does_not_empty_the_score_file(tmp_path: Path) -> None:
    scores = tmp_path / "scores.jsonl"
    scores.write_text("yesterday's\n")
    assert vedette("run", "-c", write_config(tmp_path, "mqtt://nobody", gatewy=1), "--scores", scores).returncode == 1
    assert scores.read_text() == "yesterday's\n"
