"""What the retained states show, whatever becomes of devices, broker and agent."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agents import STREAM, Agent, Watcher, episode, write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from vedette.database import Database
from vedette.retained import Left, Retained

TOPIC = "plant/north/fridge/{}/telemetry"
WARM = [4.0] * 5 + [10.0] * 4


def shown(watcher: Watcher, device: str = "f-1", stream: str = "fridges") -> dict[str, Any] | None:
    """The state that was published last; None for none, or for one that was removed."""
    payload = watcher.last(f"vedette/gw-1/state/{stream}" + (f"/{device}" if device else ""))
    state: dict[str, Any] | None = json.loads(payload) if payload else None
    return state


def alert_of(watcher: Watcher, device: str = "f-1") -> str | None:
    """The alert that a device's state shows."""
    state = shown(watcher, device)
    return str(state["alert"]) if state and state["alert"] else None


def test_a_state_says_what_its_alert_is_about(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url)) as agent:
        watcher.wait_online()
        watcher.publish(TOPIC.format("f-1"), *episode(WARM))
        watcher.wait(lambda: alert_of(watcher))
        (told,) = (alert["payload"] for alert in watcher.alerts())
        state = shown(watcher)
        assert state == {
            "score": state and state["score"],
            "time": state and state["time"],
            "alert": told["id"],
            **{key: told[key] for key in ("kind", "severity", "started", "explanation")},
        }
        assert agent.stop() == 0


def test_silence_is_shown_though_its_device_has_no_score(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url, alerts={"silent": "1s"}, state_every="1h")
    with Watcher(broker) as watcher, Agent(config) as agent:
        watcher.wait_online()
        watcher.publish(TOPIC.format("f-1"), *episode([4.0]))
        watcher.wait(lambda: alert_of(watcher))
        state = shown(watcher) or {}
        assert (state["kind"], state["time"]) == ("silent", 1_790_000_000.0)
        watcher.publish(TOPIC.format("f-1"), *episode([4.0], start=1_790_000_060))
        watcher.wait(lambda: alert_of(watcher) is None)
        assert agent.stop() == 0


def test_a_group_that_is_silent_is_shown_by_the_stream_and_by_each_device(tmp_path: Path, broker: Mosquitto) -> None:
    """Though no message names all of them."""
    install(tmp_path / "state", make_bundle())
    devices = [f"f-{number}" for number in range(12)]
    config = write_config(tmp_path, broker.url, alerts={"silent": "1s", "group": "3 within 60s"}, state_every="1h")
    with Watcher(broker) as watcher, Agent(config) as agent:
        watcher.wait_online()
        for device in devices:
            watcher.publish(TOPIC.format(device), *episode([4.0]))
        watcher.wait(lambda: (shown(watcher, "") or {}).get("alert"))
        group = (shown(watcher, "") or {})["alert"]
        watcher.wait(lambda: {alert_of(watcher, device) for device in devices} == {group})
        assert (shown(watcher, "") or {})["kind"] == "silent"
        for device in devices:
            watcher.publish(TOPIC.format(device), *episode([4.0], start=1_790_000_060))
        watcher.wait(lambda: {alert_of(watcher, device) for device in ["", *devices]} == {None})
        assert agent.stop() == 0


@pytest.mark.parametrize("durability", ["full", "memory"])
def test_an_alert_that_is_over_when_the_agent_comes_back_is_no_longer_shown(tmp_path: Path, broker: Mosquitto, durability: str) -> None:
    """The rules are others after the kill, so nothing goes on with it; the device sends nothing."""
    install(tmp_path / "state", make_bundle())
    with Watcher(broker) as watcher:
        with Agent(write_config(tmp_path, broker.url, durability=durability)) as agent:
            watcher.wait_online()
            watcher.publish(TOPIC.format("f-1"), *episode(WARM))
            watcher.wait(lambda: alert_of(watcher))
            agent.process.kill()
            agent.process.wait()
        with Agent(write_config(tmp_path, broker.url, durability=durability, alerts={"raise": "9 of 9"})) as agent:
            watcher.wait(lambda: [alert["payload"]["type"] for alert in watcher.alerts()] == ["new", "end"])
            watcher.wait(lambda: alert_of(watcher) is None)
            assert shown(watcher) == {"score": None, "time": None, "alert": None}
            assert agent.stop() == 0


def test_an_alert_that_goes_on_after_a_kill_is_shown_again_to_a_broker_that_forgot_it(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    with Mosquitto(tmp_path) as broker:
        with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url)) as agent:
            watcher.wait_online()
            watcher.publish(TOPIC.format("f-1"), *episode(WARM))
            watcher.wait(lambda: alert_of(watcher))
            before = shown(watcher) or {}
            agent.process.kill()
        broker.stop()
        broker.start()
        with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url)) as agent:
            watcher.wait(lambda: alert_of(watcher))
            assert {**(shown(watcher) or {}), "score": before["score"], "time": before["time"]} == before
            assert agent.stop() == 0


@pytest.mark.parametrize("changes", [{"streams": [{**STREAM, "name": "freezers"}]}, {"gateway": "gw-2"}, {"state_every": 0}], ids=str)
def test_a_state_that_nobody_goes_on_with_is_removed(tmp_path: Path, broker: Mosquitto, changes: dict[str, Any]) -> None:
    install(tmp_path / "state", make_bundle())
    topic = "vedette/gw-1/state/fridges/f-1"
    with Watcher(broker) as watcher:
        with Agent(write_config(tmp_path, broker.url)) as agent:
            watcher.wait_online()
            watcher.publish(TOPIC.format("f-1"), *episode(WARM))
            watcher.wait(lambda: alert_of(watcher))
            assert agent.stop() == 0
        with Agent(write_config(tmp_path, broker.url, **changes)) as agent:
            watcher.wait(lambda: watcher.last(topic) == b"")
            assert agent.stop() == 0
    with Watcher(broker) as watcher:
        watcher.publish("vedette/gw-1/state/end", b'{"score": null, "time": null, "alert": null}')
        watcher.wait(lambda: watcher.last("vedette/gw-1/state/end"))
        assert watcher.last(topic) is None


def opened(path: Path) -> tuple[Database, Retained]:
    """The file of a process that begins."""
    database = Database(path / "spool.db", Retained.SCHEMA)
    database.open()
    retained = Retained(database)
    retained.load()
    return database, retained


def lefts(*topics: str, heard: float = 0.0) -> Sequence[Left]:
    return [Left(topic, "state", "s", topic, state=topic, heard=heard) for topic in topics]


def test_what_was_noted_is_known_to_the_next_process_until_it_is_forgotten(tmp_path: Path) -> None:
    database, retained = opened(tmp_path)
    retained.note(lefts("a", "b", "c"))
    retained.note(lefts("b", heard=3.0))
    retained.forget(["c", "d"])
    retained.settle()
    database.close()
    database, again = opened(tmp_path)
    assert again.kept == retained.kept == {left.topic: left for left in [*lefts("a"), *lefts("b", heard=3.0)]}
    again.forget(["a", "b"])
    again.settle()
    database.close()
    assert opened(tmp_path)[1].kept == {}


def test_what_was_noted_while_the_disk_failed_is_written_once_it_works(tmp_path: Path) -> None:
    database, retained = opened(tmp_path)
    database.failing = "the disk is full: for a test"
    retained.note(lefts("a"))
    retained.settle()
    database.failing = None
    retained.settle()
    database.close()
    assert list(opened(tmp_path)[1].kept) == ["a"]


def test_a_file_that_was_made_anew_is_given_all_that_is_known(tmp_path: Path) -> None:
    database, retained = opened(tmp_path)
    retained.note(lefts("a"))
    retained.settle()
    database.close()
    (tmp_path / "spool.db").write_bytes(b"no database" * 100)
    assert database.open()
    retained.settle()
    database.close()
    assert list(opened(tmp_path)[1].kept) == ["a"]
