import json
import time
from pathlib import Path

import pytest

from agents import STREAM, Agent, Watcher, episode, service_manager, vedette, write_config
from brokers import Mosquitto, free_port
from bundles import install, make_bundle
from spools import opened_spool
from vedette.spool import Outgoing

TOPIC = "plant/north/fridge/f-1/telemetry"
WARM = [4.0] * 5 + [10.0] * 4 + [4.0] * 6


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_warm_fridge_is_one_alert_that_ends(tmp_path: Path, broker: Mosquitto, protocol: str) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url, broker={"url": broker.url, "protocol": 5 if protocol == "5" else protocol})
    with Watcher(broker, protocol) as watcher, Agent(config) as agent:
        watcher.wait_online()
        watcher.publish(TOPIC, *episode(WARM))
        watcher.wait(lambda: len(watcher.alerts()) == 2)
        new, end = watcher.alerts()
        assert new["topic"] == end["topic"] == "vedette/gw-1/alerts/fridges/f-1"
        assert (new["payload"]["type"], end["payload"]["type"]) == ("new", "end")
        assert new["payload"]["id"] == end["payload"]["id"]
        assert new["payload"]["explanation"] == [{"feature": "temperature", "share": 1.0, "observed": 10.0, "expected": 4.0}]
        assert new["payload"]["model"] == {"name": "fridge", "version": "1.0.0"}
        assert not any(m.retain for m in watcher.messages if "/alerts/" in m.topic)
        # An alert goes out before the state that it changes.
        watcher.wait(lambda: json.loads(watcher.last("vedette/gw-1/state/fridges/f-1") or b'{"alert": 0}')["alert"] is None)
        assert agent.stop() == 0
        watcher.wait(lambda: watcher.last("vedette/gw-1/status") == b"offline")


def test_a_device_that_falls_silent_is_told_though_nothing_arrives_any_more(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url, alerts={"silent": "1s"})) as agent:
        watcher.wait_online()
        watcher.publish(TOPIC, *episode([4.0]))
        watcher.wait(lambda: len(watcher.alerts()) == 1)
        (silent,) = (alert["payload"] for alert in watcher.alerts())
        assert (silent["type"], silent["kind"], silent["device"], silent["explanation"]) == ("new", "silent", "f-1", [])
        watcher.publish(TOPIC, *episode([4.0]))
        watcher.wait(lambda: len(watcher.alerts()) >= 2)
        assert (watcher.alerts()[1]["payload"]["type"], watcher.alerts()[1]["payload"]["id"]) == ("end", silent["id"])
        assert agent.stop() == 0


def test_a_killed_agent_is_offline_by_its_last_will(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url)) as agent:
        watcher.wait_online()
        agent.process.kill()
        watcher.wait(lambda: watcher.last("vedette/gw-1/status") == b"offline")


def test_two_agents_of_one_name_push_each_other_out_and_say_so(tmp_path: Path, broker: Mosquitto) -> None:
    configs = []
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        install(tmp_path / name / "state", make_bundle())
        configs.append(write_config(tmp_path / name, broker.url))
    with Watcher(broker) as watcher, Agent(configs[0]) as one, Agent(configs[1]) as another:
        watcher.wait(lambda: [m.payload for m in watcher.messages if m.topic == "vedette/gw-1/status"].count(b"online") >= 12, 60)
        for agent in (one, another):
            assert agent.stop() == 0
            told = [line for line in agent.said.splitlines() if "give each agent a gateway name" in line]
            assert len(told) == 1 and "is another client connected as vedette-gw-1?" in told[0], agent.said
            assert agent.said.count("connected to ") <= 4, "and not at every turn"


def test_every_message_is_accounted_for(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url, stats_every="200ms")) as agent:
        watcher.wait_online()
        good = episode([4.0] * 1000)
        bad = [b"", b"{", b'{"ts": 1, "temperature": "4"}', b'{"temperature": 4}', b'{"ts": 99999999999}', b"x" * 70_000, b"\xff"]
        watcher.publish(TOPIC, *good, *bad, good[0])
        watcher.wait(lambda: watcher.counters().get("received") == 1008)
        assert agent.stop() == 0
        counters = watcher.counters()
        rejected = {name: count for name, count in counters.items() if name.startswith("rejected.")}
        assert rejected == {
            "rejected.malformed": 3,
            "rejected.type": 1,
            "rejected.time": 1,
            "rejected.future": 1,
            "rejected.too_long": 1,
        }
        assert counters["received"] == counters["readings"] + sum(rejected.values())
        lost = counters["late"] + counters["repeated"] + counters["failed"]
        assert counters["readings"] == counters["scored"] + counters["waiting"] + lost == 1001
        # A reading far behind the newest is a clock that went back.
        assert counters["scored"] == 1001 and counters["restarted"] == 1
        assert "payload" not in agent.said and "x" * 100 not in agent.said


def test_the_agent_starts_and_goes_on_without_its_broker(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    port = free_port()
    with Agent(write_config(tmp_path, f"mqtt://127.0.0.1:{port}")) as agent:
        time.sleep(1.5)
        assert agent.process.poll() is None
        with Mosquitto(tmp_path, port) as broker:
            with Watcher(broker) as watcher:
                watcher.wait_online()
            broker.stop()
            time.sleep(0.5)
            broker.start()
            with Watcher(broker) as watcher:
                watcher.wait_online()
                watcher.publish(TOPIC, *episode(WARM))
                watcher.wait(lambda: len(watcher.alerts()) == 2)
        assert agent.stop() == 0
    lines = agent.said.splitlines()
    assert sum("cannot be reached" in line for line in lines) <= 2, "a broker that is away is said once, not at every retry"
    assert sum("connected to" in line for line in lines) == 2


def test_alerts_that_the_broker_never_got_are_delivered_after_a_restart(tmp_path: Path) -> None:
    """The broker dies with alerts on their way, then the agent is killed; both come back and the alerts are delivered."""
    install(tmp_path / "state", make_bundle())
    with opened_spool(tmp_path / "state") as spool:
        spool.keep([Outgoing("vedette/gw-1/alerts/fridges/f-9", b'{"id": "kept"}', "kept", "new")], time.time())
    with Mosquitto(tmp_path) as broker, Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url)) as agent:
        watcher.wait(lambda: watcher.alerts() == [{"topic": "vedette/gw-1/alerts/fridges/f-9", "payload": {"id": "kept"}}])
        assert agent.stop() == 0
    with opened_spool(tmp_path / "state") as spool:
        assert len(spool) == 0


def test_systemd_is_told_when_the_agent_is_ready_and_when_it_stops(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "state", make_bundle())
    with service_manager(tmp_path, monkeypatch) as manager, Agent(write_config(tmp_path, broker.url)) as agent:
        assert manager.recv(1000).startswith(b"READY=1")
        assert agent.stop() == 0
        said = b""
        while said != b"STOPPING=1":
            said = manager.recv(1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gatewy": "x"}, 'vedette: agent.yaml: gatewy: unknown key; did you mean "gateway"?'),
        ({"gateway": 7}, "vedette: agent.yaml: gateway: expected str, got int"),
        ({"streams": [{**STREAM, "topic": "a/#/b"}]}, 'vedette: agent.yaml: streams[0].topic: "#" must be the last level, got "a/#/b"'),
        ({"streams": [{**STREAM, "model": "none"}]}, 'vedette: agent.yaml: streams[0].model: no model "none" in '),
        (
            {"streams": [{**STREAM, "payload": {"fields": {"x": "y"}}}]},
            'vedette: agent.yaml: streams[0].payload.fields: "x" is not a feature of the model; its features are temperature',
        ),
        (
            {"broker": {"url": "mqtt://h", "username": "u", "password_file": "/none"}},
            "vedette: agent.yaml: broker.password_file: /none: No such",
        ),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_broken_config_is_one_clear_line_and_exit_1(tmp_path: Path, changes: dict[str, object], message: str, command: str) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, "mqtt://127.0.0.1:1", **changes)
    done = vedette(command, "-c", config)
    assert done.returncode == 1
    if command == "run":
        (line,) = done.stderr.splitlines()
        assert line.startswith(message)
    else:
        assert message.removeprefix("vedette: agent.yaml: ") in done.stderr + done.stdout


def test_a_backlog_of_alerts_drains_at_the_brokers_pace(tmp_path: Path, broker: Mosquitto) -> None:
    """Not at the pace of the agent's idle turns: each acknowledgement makes room for the next alert at once."""
    install(tmp_path / "state", make_bundle())
    topic = "vedette/gw-1/alerts/fridges/f-9"
    with opened_spool(tmp_path / "state") as spool:
        spool.keep([Outgoing(topic, b'{"number": %d}' % number, f"e-{number}", "new") for number in range(3000)], time.time())
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url)) as agent:
        watcher.wait_online()
        watcher.wait(lambda: sum("/alerts/" in message.topic for message in watcher.messages) >= 3000, timeout_s=10)
        assert [alert["payload"]["number"] for alert in watcher.alerts()] == list(range(3000))
        assert agent.stop() == 0
