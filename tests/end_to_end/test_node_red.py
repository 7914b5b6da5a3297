"""The flow beside docs/subscriber.md: wired sensibly, and, where npm has put Node-RED into build/peers, run by it."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from agents import Watcher
from bench import peers
from brokers import Mosquitto, free_port
from conftest import REPOSITORY
from told import alert

FLOW = REPOSITORY / "docs" / "node-red-alerts.json"
SETTINGS = (
    'module.exports = {uiHost: "127.0.0.1", uiPort: %d, flowFile: "%s", credentialSecret: false, httpAdminRoot: false, '
    "telemetry: {enabled: false, updateNotification: false}}"
)


def flow() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = json.loads(FLOW.read_text())
    return nodes


def test_every_wire_leads_to_a_node_and_every_node_is_led_to() -> None:
    nodes = {node["id"]: node for node in flow()}
    led_to = {target for node in nodes.values() for way in node.get("wires", []) for target in way}
    assert led_to <= set(nodes)
    for node in nodes.values():
        assert node["type"] in {"tab", "mqtt-broker"} or node["z"] in nodes
        assert node["type"] in {"tab", "mqtt-broker", "mqtt in"} or node["id"] in led_to, f"{node['name']}: nothing comes to it"
        assert node["type"] != "mqtt in" or (nodes[node["broker"]]["type"], node["qos"]) == ("mqtt-broker", "1")
        assert node["type"] != "function" or len(node["wires"]) == node["outputs"]


def test_it_calls_once_for_what_is_new_or_critical_and_for_a_gateway_that_stays_away(tmp_path: Path, broker: Mosquitto) -> None:
    red, node = peers.FOLDER / "node_modules" / "node-red" / "red.js", shutil.which("node")
    if node is None or not red.exists():
        pytest.skip(reason="Node-RED is not here: make bench-peers has npm install it")
    nodes = flow()
    for each in nodes:
        if each["type"] == "debug":  # what a person would see leaves on a topic
            each.update(type="mqtt out", topic=f"vedette/heard/{each['id']}", qos="1", retain="false", broker="vedette-broker")
        elif each["type"] == "mqtt-broker":
            each.update(broker="127.0.0.1", port=broker.port)
        elif each["type"] == "trigger":
            each.update(duration="300", units="ms")
    (tmp_path / "flow.json").write_text(json.dumps(nodes))
    (tmp_path / "settings.js").write_text(SETTINGS % (free_port(), tmp_path / "flow.json"))
    command = [node, str(red), "-u", str(tmp_path), "-s", str(tmp_path / "settings.js")]
    alerts = [alert("a", "new", 0), alert("a", "new", 0), alert("a", "update", 20)]
    alerts += [alert("a", "update", minute, severity="critical") for minute in (21, 40)]
    alerts += [alert("a", "end", 59, severity="critical")]

    def heard(what: str) -> list[Any]:
        return [json.loads(m.payload) for m in watcher.messages if m.topic == f"vedette/heard/vedette-{what}"]

    with (
        Watcher(broker) as watcher,
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(tmp_path)}
        ) as running,
    ):
        try:
            # It has subscribed once an alert of its own comes through.
            deadline = time.monotonic() + 60
            while not heard("call") and time.monotonic() < deadline:
                watcher.publish("vedette/gw-1/alerts/fridges/fridge-0", alert("first", "new", 0))
                time.sleep(0.3)
            watcher.publish("vedette/gw-1/alerts/fridges/check", b"")  # as `vedette check` does
            watcher.publish("vedette/gw-1/alerts/fridges/fridge-1", *alerts)
            watcher.publish("vedette/gw-1/status", b"offline")
            watcher.wait(lambda: len(heard("note")) == 3 and [m for m in watcher.messages if m.topic == "vedette/heard/vedette-lost"], 60)
            first, a = alert("first", "new", 0)["id"], alert("a", "new", 0)["id"]
            called = [(told["id"], told["type"], told["severity"]) for told in heard("call")]
            assert called == [(first, "new", "warning"), (a, "new", "warning"), (a, "update", "critical")]
            assert [told["type"] for told in heard("note")] == ["update", "update", "end"]
        finally:
            running.terminate()
