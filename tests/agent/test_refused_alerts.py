"""What the broker does not let the agent publish: it stays in the spool, it is said, and it goes out once that is mended."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents import Agent, Watcher, write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from listeners import WRITES
from spools import NOW, settled
from vedette import config
from vedette.broker import Broker
from vedette.commands import check
from vedette.config import SpoolLimits
from vedette.database import Database
from vedette.mqtt import Connection
from vedette.outbox import MAX_IN_FLIGHT, RETRY_EVERY_S, Outbox
from vedette.spool import Outgoing, Spool
from vedette.topics import AgentTopics


class ChoosyBroker:
    """A connection to a broker that answers at once, and refuses some topics."""

    def __init__(self) -> None:
        self.connected = True
        self.refuses: set[str] = set()
        self.asked: list[str] = []
        self.taken: list[bytes] = []
        self._answers: list[tuple[int, bool]] = []

    def publish(
        self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False, event: Sequence[tuple[str, str]] = ()
    ) -> int | None:
        assert isinstance(payload, bytes)
        self.asked.append(topic)
        taken = topic not in self.refuses
        if taken:
            self.taken.append(payload)
        self._answers.append((len(self.asked), taken))
        return len(self.asked)

    def take_answers(self) -> list[tuple[int, bool]]:
        answers, self._answers = self._answers, []
        return answers


class Way:
    """A spool, an outbox and a choosy broker, on a clock of their own."""

    def __init__(self, folder: Path, limits: SpoolLimits | None = None) -> None:
        self.database = Database(folder / "spool.db", Spool.SCHEMA)
        self.spool = Spool(self.database, limits or SpoolLimits())
        assert self.database.open() is None
        settled(self.spool, self.database)
        self.broker = ChoosyBroker()
        self.outbox = Outbox(self.database, self.spool, self.broker, AgentTopics("vedette", "gw"))
        self.now = 1000.0

    def keep(self, topic: str, *payloads: str) -> None:
        self.spool.keep([Outgoing(topic, payload.encode(), f"{topic} {payload}", "new") for payload in payloads], NOW)

    def turns(self, seconds: float) -> None:
        """So many seconds, five turns each, and between them the calls that are for at once."""
        for _ in range(round(seconds * 5)):
            self.now += 0.2
            self.outbox.deliver(0.0)
            self.outbox.deliver(self.now)


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    made = Way(tmp_path)
    with closing(made.database):
        yield made


def test_a_refused_alert_is_not_delivered_and_all_others_go_on(way: Way) -> None:
    way.broker.refuses = {"a"}
    way.keep("a", "1", "2")
    way.keep("b", "3", "4")
    way.turns(2)
    assert way.broker.taken == [b"3", b"4"]
    assert (len(way.outbox), way.spool.delivered) == (2, 2)
    assert not way.outbox.busy
    way.keep("a", "5")
    way.keep("b", "6")
    way.turns(2)
    assert way.broker.taken == [b"3", b"4", b"6"]


def test_a_refused_topic_is_tried_again_slowly_with_one_alert_and_in_order_once_it_is_allowed(way: Way) -> None:
    way.broker.refuses = {"a"}
    way.keep("a", *(str(number) for number in range(50)))
    way.turns(1)
    asked = len(way.broker.asked)
    assert asked <= MAX_IN_FLIGHT
    way.turns(3 * RETRY_EVERY_S)
    assert 2 <= len(way.broker.asked) - asked <= 3
    way.broker.refuses = set()
    way.keep("b", "last")
    way.turns(RETRY_EVERY_S + 5)
    assert way.broker.taken == [b"last", *(b"%d" % number for number in range(50))]
    assert len(way.outbox) == 0


def test_a_refused_topic_is_tried_again_when_the_connection_is_made_anew(way: Way) -> None:
    way.broker.refuses = {"a"}
    way.keep("a", "1", "2")
    way.turns(1)
    way.broker.connected = False
    way.turns(1)
    way.broker.connected, way.broker.refuses = True, set()
    way.turns(1)
    assert way.broker.taken == [b"1", b"2"]


def test_a_broker_that_hangs_up_on_what_it_refuses_is_not_asked_at_each_connection(way: Way) -> None:
    way.broker.refuses = {"a"}
    way.keep("a", "1")
    way.turns(1)
    for _ in range(20):
        way.broker.connected = False
        way.turns(0.4)
        way.broker.connected = True
        way.turns(0.4)
    assert len(way.broker.asked) == 2


def test_of_many_refused_topics_each_has_its_turn_and_no_more_than_are_in_flight_are_tried_at_a_time(way: Way) -> None:
    topics = {f"t{number}" for number in range(3 * MAX_IN_FLIGHT)}
    way.broker.refuses = set(topics)
    for topic in sorted(topics):
        way.keep(topic, topic)
    way.turns(2)
    assert set(way.broker.asked) == topics
    for _ in range(3):
        way.broker.asked.clear()
        way.turns(RETRY_EVERY_S)
        assert len(way.broker.asked) == MAX_IN_FLIGHT
        topics -= set(way.broker.asked)
    assert not topics
    way.broker.refuses = {"t7"}
    way.turns(2 * RETRY_EVERY_S)
    assert len(way.outbox) == 1


def test_topics_of_which_the_spool_has_dropped_all_hold_up_no_others(tmp_path: Path) -> None:
    way = Way(tmp_path, SpoolLimits(rows=1))
    with closing(way.database):
        topics = [f"t{number}" for number in range(2 * MAX_IN_FLIGHT)]
        way.broker.refuses = set(topics)
        for topic in topics:
            way.keep(topic, topic)
            way.turns(0.4)
        way.broker.refuses = set()
        way.turns(3 * RETRY_EVERY_S)
        assert way.broker.taken == [topics[-1].encode()]


def test_alerts_that_are_refused_for_ever_stay_within_the_spools_caps(tmp_path: Path) -> None:
    way = Way(tmp_path, SpoolLimits(rows=30))
    with closing(way.database):
        way.broker.refuses = {"a"}
        for number in range(100):
            way.keep("a", f"a{number}")
            way.keep("b", f"b{number}")
            way.turns(0.4)
        assert len(way.outbox) <= 30
        assert way.broker.taken == [b"b%d" % number for number in range(100)]
        way.broker.refuses = set()
        way.turns(RETRY_EVERY_S + 5)
        assert way.broker.taken[-1] == b"a99"
        stats = way.spool.stats()
        assert stats["waiting"] == 0 and stats["added"] == stats["delivered"] + stats["dropped.spool_episodes"]


LIMIT = "max_queued_messages 1000"
"""Without one, mosquitto 2.0.11 hangs up after it has refused a message."""


@contextmanager
def ruled(folder: Path, rules: str) -> Iterator[Mosquitto]:
    """A broker that allows everything to anybody, and to the agent's user what is said."""
    allow(folder, rules)
    with Mosquitto(folder, settings=f"allow_anonymous true\nacl_file {folder}/acl\nuser root\n{LIMIT}") as broker:
        yield broker


def allow(folder: Path, rules: str) -> None:
    (folder / "acl").write_text(f"topic readwrite #\nuser vedette\n{rules}")


def agent_of(folder: Path, broker: Mosquitto, **more: Any) -> Path:
    install(folder / "state", make_bundle())
    login = {"url": broker.url, "username": "vedette", **more}
    return write_config(folder, "", broker=login, alerts={"raise": "1 of 1"}, stats_every="300ms")


DEGRADED = b"degraded: the broker refuses alerts/fridges (Not authorized), models/fridge (Not authorized)"


def test_an_agent_says_what_the_broker_refuses_and_delivers_it_once_it_may(tmp_path: Path) -> None:
    rules = "topic read plant/#\ntopic write vedette/gw-1/status\ntopic write vedette/gw-1/stats\n"
    with ruled(tmp_path, rules) as broker:
        config_file = agent_of(tmp_path, broker)
        with Agent(config_file) as agent:
            with Watcher(broker) as watcher:
                watcher.wait_online()
                watcher.publish("plant/x/fridge/f-1/telemetry", {"ts": 1_790_000_000, "temperature": 70})
                watcher.wait(lambda: DEGRADED in (watcher.last("vedette/gw-1/status") or b""))
                watcher.wait(lambda: json.loads(watcher.last("vedette/gw-1/stats") or b"{}").get("spooled") == 1)
                assert not watcher.alerts()
            broker.stop()
            allow(tmp_path, WRITES)
            broker.start()
            with Watcher(broker) as watcher:
                watcher.wait(watcher.alerts)
                watcher.wait_online()
                assert [alert["payload"]["type"] for alert in watcher.alerts()] == ["new"]
            assert agent.stop() == 0
    said = f"{broker.url} refuses messages on vedette/gw-1/alerts/fridges/f-1: Not authorized; alerts wait in the spool; allow the agent to"
    assert agent.said.count(said) == 1
    assert f"{broker.url} takes messages on vedette/gw-1/alerts/fridges/f-1 again" in agent.said


@pytest.mark.parametrize(("limit", "reason"), [("max_packet_size 300", "Packet too large"), ("message_size_limit 300", "Quota exceeded")])
def test_a_message_that_is_too_long_for_the_broker_is_refused_and_costs_no_connection(
    tmp_path: Path, limit: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path, settings=f"allow_anonymous true\n{limit}\n{LIMIT}") as broker:
        connection = Connection(Broker(url=broker.url), "agent", "vedette/gw/status", [("t", 1)], 1000, lambda _: True, lambda: None)
        connection.start()
        try:
            answers: dict[int, bool] = {}
            deadline = time.monotonic() + 20
            while not connection.connected and time.monotonic() < deadline:
                time.sleep(0.02)
            long = connection.publish("vedette/gw/alerts/s/long", bytes(1000), qos=1)
            short = connection.publish("vedette/gw/alerts/s/short", bytes(100), qos=1)
            while not {long, short} <= set(answers) and time.monotonic() < deadline:
                answers.update(connection.take_answers())
                time.sleep(0.02)
        finally:
            connection.stop()
    assert long is not None and short is not None
    assert (answers[long], answers[short]) == (False, True)
    said = f"{broker.url} refuses messages on vedette/gw/alerts/s/long: {reason}; alerts wait in the spool; "
    assert [message for message in caplog.messages if message.startswith(said)]
    assert not any("lost" in message for message in caplog.messages)


def looked(path: Path) -> check.Finding:
    return check._finding("broker", lambda: check._check_broker(config.load(path)))


def test_the_rules_of_the_documentation_are_enough_and_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    with ruled(tmp_path, WRITES) as broker, Watcher(broker) as watcher:
        watcher.client.publish("vedette/gw-1/status", "online", 1, retain=True).wait_for_publish(10)
        found = looked(agent_of(tmp_path, broker))
        assert found.ok
        assert found.detail.endswith("connected and allowed to subscribe to plant/+/fridge/+/telemetry, and to publish on vedette/gw-1/#")
        with Watcher(broker) as late:
            late.wait_online()
            assert [message.topic for message in late.messages] == ["vedette/gw-1/status"]


def test_a_check_names_the_topics_that_are_refused(tmp_path: Path) -> None:
    rules = "topic read plant/#\ntopic write vedette/gw-1/state/#\n"
    with ruled(tmp_path, rules) as broker:
        found = looked(agent_of(tmp_path, broker))
    assert not found.ok
    assert found.detail == (
        f"broker: {broker.url} refuses messages on vedette/gw-1/alerts/fridges/vedette-check"
        " (Not authorized), vedette/gw-1/models/vedette-check (Not authorized); allow the agent to write vedette/gw-1/#"
    )


@pytest.mark.parametrize(("rules", "is_known"), [(WRITES, False), ("topic readwrite #\n", True)])
def test_with_mqtt_3_1_1_a_check_says_what_is_known(tmp_path: Path, rules: str, is_known: bool) -> None:
    with ruled(tmp_path, rules) as broker:
        found = looked(agent_of(tmp_path, broker, protocol="3.1.1"))
    assert found.ok
    assert found.detail.endswith("and to publish on vedette/gw-1/#") == is_known
    assert ("is not known: a broker that speaks MQTT 3.1.1 does not say, and none came back" in found.detail) != is_known
