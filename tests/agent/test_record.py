import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents import STREAM, Agent, Watcher, episode, vedette, write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from vedette.contract.recordings import read_messages

TOPIC = "plant/north/fridge/{}/telemetry"
WARM = [4.0] * 5 + [10.0] * 4 + [4.0] * 6


@contextmanager
def recorder(config: Path, output: Path, *options: str, **settings: Any) -> Iterator["subprocess.Popen[str]"]:
    """`vedette record` once it has subscribed."""
    command = [sys.executable, "-m", "vedette", "record", "-c", str(config), "-o", str(output), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings) as process:
        assert process.stderr
        try:
            said = ""
            while "subscribed to" not in said:
                assert process.poll() is None, said
                said += process.stderr.readline()
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_for(path: Path, count: int, timeout_s: float = 20.0) -> None:
    """Until so many messages are on the disk."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if path.exists() and path.stat().st_size and len(list(read_messages(path))) >= count:
            return
        time.sleep(0.1)
    pytest.fail(f"{path} does not get {count} messages")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_recording_replays_as_the_agent_saw_it_byte_for_byte(tmp_path: Path, broker: Mosquitto, suffix: str) -> None:
    install(tmp_path / "state", make_bundle())
    streams = [STREAM, {**STREAM, "name": "pumps", "topic": "plant/pump/{device}", "qos": 0}]
    config = write_config(tmp_path, broker.url, streams=streams, stats_every="200ms")
    day = tmp_path / f"day{suffix}"
    with Watcher(broker) as watcher, Agent(config, "--scores", tmp_path / "live.jsonl") as agent, recorder(config, day) as recording:
        watcher.wait_online()
        sent = 0
        for number, payloads in enumerate(zip(*(episode(WARM[k:] + WARM[:k] * 3) for k in (0, 2, 5)), strict=False)):
            for device, payload in enumerate(payloads):
                watcher.publish(TOPIC.format(f"f-{device}"), payload)
                watcher.publish(f"plant/pump/p {device}", {**payload, "note": "\u00e9\U0001f9ca", "n": number})
                sent += 1
            watcher.publish("plant/pump/bad", b"\xff\xfe", b"{", b"")
            watcher.publish(TOPIC.format("f-0"), json.dumps(payloads[0], indent=1).encode())  # late by then
        watcher.wait(lambda: watcher.counters("pumps").get("received", 0) == watcher.counters().get("received", 0) + sent * 2 // 3 > 0)
        wait_for(day, watcher.counters()["received"] + watcher.counters("pumps")["received"])
        recording.send_signal(signal.SIGINT)
        assert recording.wait(10) == 0
        assert agent.stop() == 0
        watcher.wait(lambda: watcher.last("vedette/gw-1/status") == b"offline")
        live = [(m.topic, bytes(m.payload)) for m in watcher.messages if "/alerts/" in m.topic]
        counters = {name: watcher.counters(name) for name in ("fridges", "pumps")}

    done = vedette("replay", "--json", "-c", config, "--scores", tmp_path / "replay.jsonl", day)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.encode().splitlines()
    records = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines(b"\n".join(lines))
    replayed = [(msgspec.json.decode(record["topic"], type=str), bytes(record["payload"])) for record in records]
    for topic in {topic for topic, _ in live + replayed}:
        assert [payload for t, payload in live if t == topic] == [payload for t, payload in replayed if t == topic]
    assert len(live) == len(replayed) >= 12
    assert json.loads(last)["streams"] == counters
    for stream in ("fridges", "pumps"):
        scores = [[line for line in (tmp_path / f"{run}.jsonl").read_text().splitlines() if stream in line] for run in ("live", "replay")]
        assert scores[0] == scores[1] != []


def test_what_a_broker_had_retained_is_marked(tmp_path: Path, broker: Mosquitto) -> None:
    config = write_config(tmp_path, broker.url)
    with Watcher(broker) as watcher:
        watcher.client.publish("plant/a", b"old", 1, retain=True).wait_for_publish(10)
        with recorder(config, tmp_path / "day.jsonl", "--topic", "plant/#", "--json") as recording:
            watcher.publish("plant/b", b"new")
            wait_for(tmp_path / "day.jsonl", 2)
            recording.terminate()
            out, _ = recording.communicate(timeout=10)
        assert not watcher.messages, "a recorder publishes nothing"
    old, new = read_messages(tmp_path / "day.jsonl")
    assert (old.topic, old.payload, old.retained) == ("plant/a", b"old", True)
    assert (new.topic, new.payload, new.retained) == ("plant/b", b"new", False)
    summary = json.loads(out)
    assert (summary["messages"], summary["topics"], summary["payload_bytes"], summary["dropped"]) == (2, 2, 6, 0)


def test_a_recorder_of_an_agent_with_a_client_id_of_its_own_does_not_throw_it_out(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url, broker={"url": broker.url, "client_id": "the-agent"})
    with Watcher(broker) as watcher, Agent(config) as agent:
        watcher.wait_online()
        with recorder(config, tmp_path / "day.jsonl", "--seconds", "0.5") as recording:
            assert recording.wait(10) == 0
        assert b"offline" not in [bytes(m.payload) for m in watcher.messages]
        assert agent.stop() == 0
        assert "lost" not in agent.said


def test_a_killed_recorder_leaves_what_it_had_a_second_ago(tmp_path: Path, broker: Mosquitto) -> None:
    day = tmp_path / "day.jsonl.gz"
    with Watcher(broker) as watcher, recorder(write_config(tmp_path, broker.url), day) as recording:
        watcher.publish(TOPIC.format("a"), *episode([4.0] * 500))
        wait_for(day, 500)
        recording.kill()
        recording.wait(10)
    assert len(list(read_messages(day))) == 500


def test_a_disk_that_is_full_is_one_clear_line_and_leaves_whole_lines(tmp_path: Path, broker: Mosquitto) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    day = tmp_path / "day.jsonl"
    with Watcher(broker) as watcher, recorder(write_config(tmp_path, broker.url), day, preexec_fn=small_files) as recording:
        watcher.publish(TOPIC.format("a"), *episode([4.0] * 1000))
        _, said = recording.communicate(timeout=20)
    assert recording.returncode == 1
    assert said == f"vedette: {day}: cannot be written: File too large\n"
    kept = list(read_messages(day))
    assert len(kept) < 1000
    assert not day.read_bytes() or day.read_bytes().endswith(b"\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "day.txt"], "day.txt: expected a name that ends in .jsonl or .jsonl.gz"),
        (["-o", "there.jsonl"], "there.jsonl: exists already"),
        (["-o", "no/day.jsonl"], "day.jsonl: cannot be written: No such file or directory"),
        (["-o", "day.jsonl", "--topic", "a/#/b"], '--topic: "#" must be the last level, got "a/#/b"'),
    ],
)
def test_what_cannot_be_recorded_is_one_line_and_exit_1(tmp_path: Path, broker: Mosquitto, options: list[str], message: str) -> None:
    (tmp_path / "there.jsonl").write_text("yesterday's\n")
    options[1] = str(tmp_path / options[1])
    done = vedette("record", "-c", write_config(tmp_path, broker.url), *options)
    assert done.returncode == 1
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert (tmp_path / "there.jsonl").read_text() == "yesterday's\n"


def test_a_broker_that_is_not_there_is_exit_1_and_leaves_no_file(tmp_path: Path) -> None:
    done = vedette("record", "-c", write_config(tmp_path, "mqtt://127.0.0.1:1"), "-o", tmp_path / "day.jsonl")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert not (tmp_path / "day.jsonl").exists()
    assert vedette("record", "-c", tmp_path / "agent.yaml", "-o", "x.jsonl", "--seconds", "-1").returncode == 2


def test_a_terminal_sees_how_much_was_recorded(tmp_path: Path, broker: Mosquitto, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    command = [sys.executable, "-m", "vedette", "record", "-c", str(write_config(tmp_path, broker.url)), "-o", str(tmp_path / "day.jsonl")]
    with subprocess.Popen([*command, "--seconds", "1"], stderr=theirs) as process:
        assert process.wait(20) == 0
    assert b"\r0 messages on 0 topics" in os.read(ours, 1 << 16)
