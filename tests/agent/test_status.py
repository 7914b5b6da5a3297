"""`vedette status` of a real agent, with and without its broker."""

import json
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

from agents import STREAM, Agent, Reader, Watcher, episode, vedette, write_config
from brokers import Mosquitto, free_port
from bundles import install, make_bundle

TOPIC = "plant/north/fridge/f-1/telemetry"


def told(config: Path) -> dict[str, Any]:
    done = vedette("status", "--json", "-c", config)
    assert done.returncode == (not json.loads(done.stdout)["running"]), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def wait_told(config: Path, condition: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while not condition(found := told(config)):
        assert time.monotonic() < deadline, found
    return found


def test_a_running_agent_is_one_page(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url, stats_every="200ms")
    with Watcher(broker) as watcher, Agent(config) as agent:
        watcher.wait_online()
        watcher.publish(TOPIC, *episode([4.0] * 5 + [10.0] * 4), b"{")
        wait_told(config, lambda found: found["report"]["stats"]["streams"]["fridges"].get("open.anomaly") == 1)
        done = vedette("status", "-c", config)
        lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
        assert done.returncode == 0 and "\033" not in done.stdout and "DEGRADED" not in done.stdout
        assert f"gw-1, vedette 0.1.0, process {agent.process.pid}, up " in lines["agent"]
        assert "connected since" in lines["broker"] and "fridge 1.0.0, live since" in lines["model"]
        assert "1 messages delivered, none waiting" in lines["alerts"]
        assert lines["fridges"].split()[2:] == ["10", "9", "1", "1", "anomaly", "1", "malformed"]
        assert stat.S_IMODE((tmp_path / "state" / "status.json").stat().st_mode) == 0o644, "it holds no secret, and asking needs no right"
        assert agent.stop() == 0
    assert not (tmp_path / "state" / "status.json").exists()
    done = vedette("status", "-c", config)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "vedette: not running")


def test_what_is_degraded_comes_first_though_the_broker_is_away_and_the_configuration_broken(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, f"mqtt://127.0.0.1:{free_port()}", stats_every="1h")
    with Agent(config) as agent:
        wait_told(config, lambda found: found["running"] and found["report"]["degraded"])
        config.write_text(config.read_text() + "gatewy: 1\n")
        first, second, *_ = vedette("status", "-c", config).stdout.splitlines()
        assert first.startswith(
            "FAULT    the configuration cannot be read any more, and a restart would fail: agent.yaml: gatewy: unknown key"
        )
        assert second.startswith("DEGRADED no broker since ") and "cannot be reached" in second and "vedette check" in second
        assert agent.stop() == 0


def test_an_agent_that_was_killed_or_stands_still_is_not_taken_for_one_that_runs(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url, stats_every="100ms")
    with Watcher(broker) as watcher, Agent(config) as agent:
        watcher.wait_online()
        wait_told(config, lambda found: found["running"])
        agent.process.send_signal(signal.SIGSTOP)
        found = wait_told(config, lambda found: not found["running"])
        assert (
            found["answer"].startswith("does not answer since ")
            and f"process {agent.process.pid} is there, but stands still" in found["answer"]
        )
        agent.process.send_signal(signal.SIGCONT)
        wait_told(config, lambda found: found["running"])
        agent.process.kill()
        agent.process.wait()
        assert told(config)["answer"].startswith(f"not running: process {agent.process.pid} ended without a word")


def test_under_systemd_the_report_is_in_memory_and_found_there(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    (tmp_path / "run").mkdir()
    config = write_config(tmp_path, broker.url, stats_every="1h")
    with Watcher(broker) as watcher, Agent(config, env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path / "run")}) as agent:
        watcher.wait_online()
        path = tmp_path / "run" / "status.json"
        watcher.wait(lambda: path.exists() and json.loads(path.read_text())["stats"]["broker"]["connected"])
        assert not (tmp_path / "state" / "status.json").exists()
        assert agent.stop() == 0
    assert list((tmp_path / "run").iterdir()) == []


def test_a_stream_that_was_never_heard_of_is_a_line_of_noughts(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(
        tmp_path, broker.url, stats_every="100ms", streams=[STREAM, {**STREAM, "name": "a-longer-name", "topic": "x/{device}"}]
    )
    with Watcher(broker) as watcher, Agent(config):
        watcher.wait_online()
        wait_told(config, lambda found: found["running"])
        (head, *rows) = [
            line for line in vedette("status", "-c", config).stdout.splitlines() if line.startswith(("stream ", "fridges", "a-longer"))
        ]
        assert {row.index("none") for row in rows} == {head.index("open alerts")}, "the columns stand below one another"


def test_readings_that_find_no_room_are_degraded_while_it_lasts(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url, stats_every="200ms", limits={"queue": 1})
    with Watcher(broker) as watcher, Agent(config) as agent:
        said = Reader(agent)
        watcher.wait_online()
        deadline = time.monotonic() + 60
        while not said.count("readings are dropped: more arrive than can be scored"):
            watcher.publish(TOPIC, *episode([4.0] * 2000), qos=0)
            assert time.monotonic() < deadline
        said.wait("readings are no longer dropped")
        assert agent.stop() == 0
        stats = json.loads(watcher.last("vedette/gw-1/stats") or b"")
        assert stats["dropped"] > 0
