"""A fleet live through mosquitto, recorded beside the agent, and replayed: the same scores and the same alerts, byte for byte."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import msgspec

from agents import Agent, Watcher, vedette, write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from vedette.contract.recordings import read_messages
from vedette.demo.command import BUNDLE

TOPIC = "plant/+/fridge/{device}/telemetry"
STREAMS = [
    {"name": "fridges", "topic": TOPIC, "model": "cold-chain", "payload": {"time": {"field": "ts"}}},
    {"name": "temperatures", "topic": TOPIC, "model": "fridge", "payload": {"time": {"field": "ts"}}},
]
FAULTS = ("door_left_open:fridge-01:90m:1h", "compressor_failure:fridge-02:2h:2h", "spoofed_readings:fridge-04:2h:1h")


def by_topic(alerts: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    found = defaultdict(list)
    for topic, payload in alerts:
        found[topic].append(payload)
    return dict(found)


def replayed(output: str) -> dict[str, list[bytes]]:
    lines = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines(output.encode())[:-1]
    return by_topic([(msgspec.json.decode(line["topic"], type=str), bytes(line["payload"])) for line in lines])


def by_stream(scores: Path) -> dict[str, list[str]]:
    found = defaultdict(list)
    for line in scores.read_text().splitlines():
        found[json.loads(line)["stream"]].append(line)
    return dict(found)


def test_a_fleets_recording_replays_as_it_was_live_byte_for_byte(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", BUNDLE.read_bytes())
    install(tmp_path / "state", make_bundle(threshold=4.0))
    config = write_config(tmp_path, broker.url, streams=STREAMS, stats_every="200ms")
    fleet, day = tmp_path / "fleet.jsonl.gz", tmp_path / "day.jsonl"
    asked = ["--devices", "5", "--duration", "6h", *(part for fault in FAULTS for part in ("--fault", fault))]
    assert vedette("simulate", "cold-chain", *asked, "-o", fleet).returncode == 0
    messages = list(read_messages(fleet))

    record = [sys.executable, "-m", "vedette", "record", "-c", str(config), "-o", str(day)]
    with Watcher(broker) as watcher, Agent(config, "--scores", tmp_path / "live.jsonl") as agent:
        watcher.wait_online()
        with subprocess.Popen(record, stderr=subprocess.PIPE, text=True) as recorder:
            assert recorder.stderr
            while "subscribed to" not in recorder.stderr.readline():
                assert recorder.poll() is None
            sent = [watcher.client.publish(message.topic, message.payload, 1) for message in messages]
            sent[-1].wait_for_publish(60)
            watcher.wait(lambda: all(watcher.counters(s).get("received") == len(messages) for s in ("fridges", "temperatures")), 60)
            watcher.wait(lambda: day.stat().st_size and sum(1 for _ in read_messages(day)) == len(messages), 20)
            recorder.terminate()
            assert recorder.wait(10) == 0
        assert agent.stop() == 0
        watcher.wait(lambda: watcher.last("vedette/gw-1/status") == b"offline")
        live = by_topic([(m.topic, bytes(m.payload)) for m in watcher.messages if "/alerts/" in m.topic])
        counters = {name: watcher.counters(name) for name in ("fridges", "temperatures")}

    assert [(m.topic, m.payload) for m in read_messages(day)] == [(m.topic, m.payload) for m in messages]
    for recording in (day, fleet):
        done = vedette("replay", "--json", "-c", config, "--scores", tmp_path / "replay.jsonl", recording)
        assert done.returncode == 0, done.stderr
        assert replayed(done.stdout) == live
        assert by_stream(tmp_path / "replay.jsonl") == by_stream(tmp_path / "live.jsonl")
        assert json.loads(done.stdout.splitlines()[-1])["streams"] == counters
    assert {topic.rsplit("/", 1)[1] for topic in live if "/fridges/" in topic} >= {"fridge-01", "fridge-02", "fridge-04"}
    assert {topic.split("/")[3] for topic in live} == {"fridges", "temperatures"}
