"""SIGHUP: the agent goes on with what its configuration says now; with a real broker."""

import json
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from agents import STREAM, Agent, Reader, Watcher, episode, service_manager, write_config
from brokers import Mosquitto, free_port
from bundles import install, make_bundle
from chaos.disk_faults import FullDisk, Unavailable
from vedette.contract.windows import WindowSpec

FRIDGE = "plant/a/fridge/{}/telemetry"
OVEN = "plant/a/oven/{}/telemetry"
OVENS = {**STREAM, "name": "ovens", "topic": OVEN.replace("/a/", "/+/").format("{device}")}
WARM = [4.0, 10.0, 10.0, 10.0]


def configured(folder: Path, broker: Mosquitto, /, **changes: Any) -> Path:
    return write_config(folder, broker.url, stats_every="200ms", **changes)


def hang_up(agent: Agent) -> None:
    agent.process.send_signal(signal.SIGHUP)


def test_streams_come_and_go_and_alerts_that_nothing_goes_on_with_end(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(window=WindowSpec(steps=2)))
    config = configured(tmp_path, broker)
    with Watcher(broker) as watcher, Agent(config) as agent:
        said = Reader(agent)
        watcher.wait_online()
        watcher.publish(FRIDGE.format("f-1"), *episode(WARM))
        watcher.wait(lambda: len(watcher.alerts()) == 1)
        configured(tmp_path, broker, streams=[STREAM, OVENS])
        hang_up(agent)
        said.wait("subscribed to plant/+/fridge/+/telemetry, plant/+/oven/+/telemetry")
        watcher.publish(OVEN.format("o-1"), *episode(WARM))
        watcher.wait(lambda: len(watcher.alerts()) == 2)
        configured(tmp_path, broker, streams=[OVENS])
        hang_up(agent)
        said.wait("ready: gateway gw-1, streams ovens")
        said.wait("connected", 3)
        watcher.wait(lambda: len(watcher.alerts()) == 3)
        watcher.publish(FRIDGE.format("f-1"), *episode(WARM))
        watcher.publish(OVEN.format("o-1"), *episode([10.0, *[4.0] * 8], start=1_790_000_240))
        watcher.wait(lambda: len(watcher.alerts()) == 4)
        told = [(alert["payload"]["stream"], alert["payload"]["type"]) for alert in watcher.alerts()]
        assert told == [("fridges", "new"), ("ovens", "new"), ("fridges", "end"), ("ovens", "end")]
        assert agent.stop() == 0
        watcher.wait(lambda: watcher.last("vedette/gw-1/status") == b"offline")
        stats = json.loads(watcher.last("vedette/gw-1/stats") or b"")
        assert list(stats["streams"]) == ["ovens"] and stats["unmatched"] == 0, "nobody listens to fridges any more"


def test_another_threshold_holds_at_once_with_the_windows_that_are_there(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(window=WindowSpec(steps=2)))
    config = configured(tmp_path, broker)
    with Watcher(broker) as watcher, Agent(config) as agent:
        said = Reader(agent)
        watcher.wait_online()
        watcher.publish(FRIDGE.format("f-1"), *episode(WARM))
        watcher.wait(lambda: len(watcher.alerts()) == 1)
        configured(tmp_path, broker, alerts={"threshold": 3.0})
        hang_up(agent)
        said.wait("its alert rules are others now: alerts begin anew")
        said.wait("connected", 2)
        watcher.publish(FRIDGE.format("f-1"), *episode([10.0] * 5, start=1_790_000_240))
        watcher.wait(lambda: watcher.counters().get("received") == 9)
        assert (watcher.counters()["scored"], watcher.counters()["waiting"]) == (8, 1), "no window began anew, and all counters went on"
        new, end = (alert["payload"] for alert in watcher.alerts())
        assert (new["type"], end["type"], end["id"]) == ("new", "end", new["id"])
        assert agent.stop() == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gatewy": 1}, 'agent.yaml: gatewy: unknown key; did you mean "gateway"?'),
        ({"streams": [{**STREAM, "model": "none"}]}, 'agent.yaml: streams[0].model: no model "none" in '),
        ({"gateway": "gw-2"}, 'agent.yaml: gateway: a reload cannot change it from "gw-1" to "gw-2"; restart the agent'),
        ({"broker": {"url": "mqtt://h", "username": "u", "password_file": "/none"}}, "agent.yaml: broker.password_file: /none: No such"),
    ],
)
def test_a_configuration_that_cannot_be_is_one_line_and_changes_nothing(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], reason: str
) -> None:
    install(tmp_path / "state", make_bundle())
    config = configured(tmp_path, broker)
    before = config.read_text()
    with service_manager(tmp_path, monkeypatch) as manager, Watcher(broker) as watcher, Agent(config) as agent:
        said = Reader(agent)
        watcher.wait_online()
        configured(tmp_path, broker, **changes)
        hang_up(agent)
        said.wait("reload refused")
        watcher.publish(FRIDGE.format("f-1"), *episode([4.0] * 3))
        watcher.wait(lambda: watcher.counters().get("received") == 3)
        assert json.loads((tmp_path / "state" / "status.json").read_text())["degraded"][0].startswith("the last reload was refused")
        config.write_text(before)
        hang_up(agent)
        said.wait("connected", 2)
        assert agent.stop() == 0
        (line,) = [line for line in said.lines() if line.startswith("ERROR")]
        assert reason in line
        told = []
        while "STOPPING=1" not in told:
            told.append(manager.recv(1000).decode())
    ready = [states.splitlines() for states in told if states.startswith(("READY", "RELOADING"))]
    assert [states[0] for states in ready] == ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]
    assert all(states[1].removeprefix("MONOTONIC_USEC=").isdecimal() for states in ready if states[0] == "RELOADING=1")
    assert any(states.startswith("STATUS=degraded: the last reload was refused") for states in told)


def test_nothing_is_lost_or_told_twice_by_reloads_under_load(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(window=WindowSpec(steps=2)))
    config = configured(tmp_path, broker, alerts={"drift_share": None})  # all are warm at once
    devices = [f"f-{number}" for number in range(20)]
    payloads = episode([*WARM, *[10.0] * 8, *[4.0] * 8])
    with Watcher(broker) as watcher, Watcher(broker) as fleet, Agent(config) as agent:
        said = Reader(agent)
        watcher.wait_online()

        def send() -> None:
            for payload in payloads:
                for device in devices:
                    fleet.publish(FRIDGE.format(device), payload)

        sending = threading.Thread(target=send)
        sending.start()
        for times in range(2, 5):
            hang_up(agent)
            said.wait("connected", times)
        sending.join(60)
        watcher.wait(lambda: watcher.counters().get("received") == len(devices) * len(payloads))
        watcher.wait(lambda: len(watcher.alerts()) >= 2 * len(devices))
        assert agent.stop() == 0
        counters = watcher.counters()
        assert counters["scored"] == len(devices) * (len(payloads) - 1), "every window went on"
        told = sorted((alert["payload"]["device"], alert["payload"]["type"]) for alert in watcher.alerts())
        assert told == sorted((device, type_) for device in devices for type_ in ("new", "end"))


def test_reloads_while_one_is_under_way_or_the_agent_stops_do_no_harm(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = configured(tmp_path, broker)
    with Watcher(broker) as watcher, Agent(config) as agent:
        said = Reader(agent)
        watcher.wait_online()
        for _ in range(20):
            hang_up(agent)
        said.wait("connected", 2)
        hang_up(agent)
        assert agent.stop() == 0
        hang_up(agent)
        assert not said.count("Traceback")
    record = json.loads((tmp_path / "state" / "models" / "fridge" / "record.json").read_text())
    assert record["live"]["starts"] == 0 and record["live"]["version"] == "1.0.0"


def test_a_reload_begins_moves_and_ends_metrics(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    one, two = free_port(), free_port()
    config = configured(tmp_path, broker)
    with Watcher(broker) as watcher, Agent(config) as agent:
        said = Reader(agent)
        watcher.wait_online()
        for times, port in enumerate((one, one, two, None), start=2):
            configured(tmp_path, broker, **({"metrics": {"listen": f"127.0.0.1:{port}"}} if port else {}))
            hang_up(agent)
            said.wait("connected", times)
            assert {answers(one), answers(two)} == ({True, False} if port else {False})
            assert port is None or answers(port)
        assert agent.stop() == 0


def test_what_only_memory_holds_is_not_given_up_for_a_reload(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(window=WindowSpec(steps=2)))
    try:
        disk = FullDisk(tmp_path / "state")
    except Unavailable as error:
        pytest.skip(reason=str(error))
    config = configured(tmp_path, broker)
    with Watcher(broker) as watcher, Agent(config, prefix=disk.prefix) as agent:
        said = Reader(agent)
        watcher.wait_online()
        disk.begin(agent.process.pid)
        while not said.count("the disk is full"):
            watcher.publish(FRIDGE.format("f-1"), *episode([4.0]))
        broker.stop()
        hang_up(agent)
        said.wait("reload refused, and all goes on as before: what only memory holds would be lost")
        disk.end(agent.process.pid)
        said.wait("can be written again")
        hang_up(agent)
        said.wait("ready", 2)
        assert agent.stop() == 0


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
