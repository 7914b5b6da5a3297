"""The agent over restarts: sessions, state, faults of its own; with a real broker."""

import contextlib
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from agents import STREAM, Agent, Watcher, episode, service_manager, write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from vedette.config import Config, load
from vedette.contract import saved
from vedette.contract.readings import Message
from vedette.contract.windows import WindowSpec
from vedette.database import Database
from vedette.engine import Engine
from vedette.journal import Journal
from vedette.mqtt import Connection
from vedette.outbox import Outbox
from vedette.packets import Burst
from vedette.pipeline import Pipeline
from vedette.retained import Retained
from vedette.rollout import Rollout
from vedette.spool import Spool
from vedette.store import Store
from vedette.topics import AgentTopics

TOPIC = "plant/a/fridge/f-1/telemetry"
WARM = [4.0, 10.0, 10.0, 10.0]


def configured(folder: Path, broker: Mosquitto, protocol: int | str, **changes: Any) -> Path:
    return write_config(folder, broker.url, broker={"url": broker.url, "protocol": protocol}, stats_every=1, **changes)


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
@pytest.mark.parametrize("ends", ["killed", "stopped"])
def test_an_episode_and_what_arrives_meanwhile_go_on_after_a_restart(
    tmp_path: Path, broker: Mosquitto, protocol: int | str, ends: str
) -> None:
    install(tmp_path / "state", make_bundle(window=WindowSpec(steps=2)))
    config = configured(tmp_path, broker, protocol)
    readings = episode([*WARM, 10.0, 10.0, *[4.0] * 9])
    with Watcher(broker) as watcher:
        with Agent(config) as agent:
            watcher.wait_online()
            watcher.publish(TOPIC, *readings[:4])
            watcher.wait(lambda: len(watcher.alerts()) == 1)
            if ends == "killed":
                agent.process.send_signal(signal.SIGKILL)
                agent.process.wait()
            else:
                agent.stop()
        watcher.publish(TOPIC, *readings[4:])  # the broker keeps them
        with Agent(config) as agent:
            watcher.wait(lambda: watcher.alerts()[-1]["payload"]["type"] == "end")
            assert agent.stop() == 0
        told = {(alert["payload"]["id"], alert["payload"]["type"]) for alert in watcher.alerts()}
        assert len({id_ for id_, _ in told}) == 1, "one episode, whatever died in between"
        counters = watcher.counters()
        assert (counters["received"], counters["scored"], counters["waiting"]) == (15, 14, 1)


def test_a_session_that_the_broker_kept_is_not_subscribed_to_anew_and_what_is_no_longer_wanted_ends(
    tmp_path: Path, broker: Mosquitto
) -> None:
    install(tmp_path / "state", make_bundle())
    other = {**STREAM, "name": "others", "topic": "plant/other/{device}"}
    with Watcher(broker) as watcher:
        with Agent(configured(tmp_path, broker, 5, streams=[STREAM, other])) as agent:
            watcher.wait_online()
            agent.stop()
        watcher.client.publish(TOPIC, json.dumps({"ts": time.time(), "temperature": 4.0}), 1, retain=True).wait_for_publish(5)
        with Agent(configured(tmp_path, broker, 5)) as agent:
            watcher.messages.clear()
            watcher.wait_online()
            watcher.publish("plant/other/f-1", {"ts": 1, "temperature": 4.0})
            watcher.publish(TOPIC, *episode([4.0]))
            watcher.wait(lambda: watcher.counters().get("received", 0) == 2)
            # One came while it was away, as it came; had it subscribed anew, the broker would have sent what it retains as well.
            stats = json.loads(watcher.last("vedette/gw-1/stats") or b"")
            assert stats["unmatched"] == 0 and not [name for name in stats["streams"]["fridges"] if name.startswith("rejected")]


def test_an_alert_that_no_model_or_rule_goes_on_with_is_ended(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    with Watcher(broker) as watcher:
        with Agent(configured(tmp_path, broker, 5)) as agent:
            watcher.wait_online()
            watcher.publish(TOPIC, *episode(WARM))
            watcher.wait(lambda: len(watcher.alerts()) == 1)
            agent.stop()
        with Agent(configured(tmp_path, broker, 5, streams=[{**STREAM, "name": "renamed"}])) as agent:
            watcher.wait(lambda: len(watcher.alerts()) == 2)
            agent.stop()
        new, end = watcher.alerts()
        assert (new["topic"], new["payload"]["id"], end["payload"]["type"]) == (end["topic"], end["payload"]["id"], "end")


def test_the_watchdog_is_fed_while_all_is_well_and_not_while_the_agent_stands_still(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "state", make_bundle())
    with service_manager(tmp_path, monkeypatch) as manager:
        monkeypatch.setenv("WATCHDOG_USEC", "800000")
        with Agent(configured(tmp_path, broker, 5)) as agent:
            heard = [manager.recv(1000) for _ in range(4)]
            assert heard[0].startswith(b"READY=1") and heard[1:] == [b"WATCHDOG=1"] * 3
            agent.process.send_signal(signal.SIGSTOP)
            manager.settimeout(1.5)
            with contextlib.suppress(TimeoutError):
                for _ in range(10):
                    manager.recv(1000)
                pytest.fail("it is fed though nothing moves")
            agent.process.send_signal(signal.SIGCONT)
            manager.settimeout(10)
            assert manager.recv(1000) == b"WATCHDOG=1"


def test_time_without_a_broker_or_without_the_agent_is_nobodys_silence(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    with Mosquitto(tmp_path) as broker:
        config = configured(tmp_path, broker, 5, alerts={"silent": "4s"})
        with Agent(config) as agent:
            with Watcher(broker) as watcher:
                watcher.wait_online()
                watcher.publish(TOPIC, *episode([4.0]))
                watcher.wait(lambda: watcher.counters().get("received") == 1)
            broker.stop()
            time.sleep(4.5)
            broker.start()
            with Watcher(broker) as watcher:
                watcher.wait_online()
                watcher.publish(TOPIC, *episode([4.0, 4.0]))
                watcher.wait(lambda: watcher.counters().get("received", 0) >= 2)
                agent.stop()
                time.sleep(4.5)
                with Agent(config) as again:
                    watcher.messages.clear()
                    watcher.wait_online()
                    time.sleep(1.0)
                    assert watcher.alerts() == [], "it was away itself"
                    watcher.wait(lambda: len(watcher.alerts()) == 1)  # and nothing is heard of the device now
                    again.stop()


def engine(folder: Path) -> tuple[Engine, Journal, Spool, Pipeline, Database]:
    """An engine without a broker."""
    config: Config = load(write_config(folder, "mqtt://127.0.0.1:1"))
    database = Database(folder / "state" / "spool.db", Spool.SCHEMA, Journal.SCHEMA, Retained.SCHEMA)
    database.open()
    journal, spool = Journal(database, "full"), Spool(database, config.spool)
    rollout = Rollout(config, Store(folder / "state"), None, wake=lambda: None)
    nobody = Connection(config.broker, "c", None, [], 1000, lambda _: True, lambda: None)
    outbox = Outbox(database, spool, nobody, AgentTopics("vedette", "gw-1"))
    outbox.deliver(float("inf"))
    made = Engine(rollout, journal, outbox, "full", None)
    made.resume()
    return made, journal, spool, rollout.pipeline, database


def messages(device: str, temperatures: list[float]) -> list[Message]:
    topic = TOPIC.replace("f-1", device)
    return [Message(topic, json.dumps(reading).encode(), 1_790_000_000.0 + i) for i, reading in enumerate(episode(temperatures))]


def test_a_message_that_brings_the_pipeline_down_is_left_out_and_no_other_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "state", make_bundle())
    made, journal, spool, pipeline, database = engine(tmp_path)
    well = Pipeline.process

    def process(self: Pipeline, batch: list[Message]) -> Any:
        found = well(self, batch)  # all of it has had its effect by then
        if any(b"poison" in message.payload for message in batch):
            raise RuntimeError("a fault of ours")
        return found

    monkeypatch.setattr(Pipeline, "process", process)
    poison = Message(TOPIC, b"poison", 1_790_000_000.0)
    first, second = messages("f-1", [4.0, 10.0]), messages("f-2", WARM)
    whole = [*first, second[0], poison, *second[1:]]
    for part in (first, whole[2:]):
        journal.take(Burst(part, [0] * len(part), []))
        made.process(part)
    assert made.crashed == 1
    counters = pipeline.stats()["streams"]["fridges"]  # type: ignore[index] # because stats are plain data
    assert (counters["scored"], counters["alerts"]) == (6, 1)
    assert len(spool) == 1
    # It is still in the journal, and does no more harm there.
    database.close()
    again, _, spool, pipeline, database = engine(tmp_path)
    assert again.number == 7 and again.crashed == 1 and len(spool) == 1
    assert pipeline.stats()["streams"]["fridges"]["scored"] == 6  # type: ignore[index] # because stats are plain data
    database.close()


def test_a_state_that_does_not_fit_this_version_is_begun_anew_and_ends_nobody(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    made, journal, _, _, database = engine(tmp_path)
    batch = messages("f-1", WARM)
    journal.take(Burst(batch, [0] * len(batch), []))
    made.process(batch)
    journal.checkpoint(made.number, saved.encode({"unmatched": 0, "streams": {"fridges": {"fit": {}}}}))
    database.close()
    again, _, spool, pipeline, database = engine(tmp_path)
    assert again.number == 4 and pipeline.stats()["streams"]["fridges"]["scored"] == 0  # type: ignore[index] # because stats are plain data
    assert [json.loads(alert.payload)["type"] for alert in spool.after(0, 10)] == ["new", "end"], "nothing goes on with the alert"
    database.close()
