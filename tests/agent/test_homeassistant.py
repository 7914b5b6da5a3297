"""What Home Assistant is told of devices, and when."""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agents import STREAM, Agent, Watcher, episode, vedette, write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from home_assistant import faults_of_discovery
from vedette.config import Config, HomeAssistant
from vedette.contract.readings import Message
from vedette.database import Database
from vedette.homeassistant import GATEWAY, PER_SECOND, Announcements, Discovery, object_id
from vedette.pipeline import Pipeline
from vedette.retained import Retained
from vedette.state import StateBoard
from vedette.store import Store
from vedette.topics import AgentTopics

TOPIC = "plant/north/fridge/{}/telemetry"
WARM = [4.0] * 5 + [10.0] * 4
EVERYTHING = ("vedette/#", "homeassistant/#")
STREAM_TOPIC = "homeassistant/device/vedette__gw-1__fridges/config"
GATEWAY_TOPIC = "homeassistant/device/vedette__gw-1/config"


def config_topic(device: str, stream: str = "fridges", prefix: str = "homeassistant") -> str:
    return f"{prefix}/device/{object_id('gw-1', stream, device)}/config"


def announced(watcher: Watcher, device: str = "f-1", **more: str) -> bool:
    """Whether Home Assistant knows a device."""
    return bool(watcher.last(config_topic(device, **more)))


def announcements() -> Announcements:
    told = settings().home_assistant
    assert told
    return Announcements(told, "gw-1", AgentTopics("vedette", "gw-1"))


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@given(st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, min_size=1, max_size=3))
def test_ids_are_of_allowed_characters_and_no_two_names_share_one(one: list[str], other: list[str]) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", object_id(*one))
    assert (object_id(*one) == object_id(*other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [(["a", "b"], ["a__b"]), (["a_", "b"], ["a", "_b"]), (["a_5f"], ["a_"]), (["A"], ["a"]), (["ü"], ["u"])]
)
def test_ids_of_names_that_look_alike_differ(one: list[str], other: list[str]) -> None:
    assert object_id(*one) != object_id(*other)


def test_every_announcement_is_as_home_assistant_documents_it() -> None:
    found = announcements()
    for key in (GATEWAY, ("fridges", ""), ("fridges", "f 1/ü")):
        assert faults_of_discovery(found.topic(key), json.loads(found.payload(key))) == []
    assert found.topic(("fridges", "f 1/ü")) == "homeassistant/device/vedette__gw-1__fridges__f_201_2f_c3_bc/config"


def test_the_check_of_announcements_finds_faults() -> None:
    found = announcements()
    topic, good = found.topic(("fridges", "f-1")), json.loads(found.payload(("fridges", "f-1")))
    assert faults_of_discovery("homeassistant/device/f 1/config", good)
    assert faults_of_discovery(topic, {**good, "origin": {}})
    assert faults_of_discovery(topic, {**good, "device": {"name": "f-1"}})
    for changes in ({"device_class": "trouble"}, {"platform": "sensr"}, {"unique_id": None}, {"unit": "x"}):
        problem = {**good["components"]["problem"], **changes}
        assert faults_of_discovery(topic, {**good, "components": {"problem": problem}}), changes


def test_a_device_appears_with_its_problem_its_score_and_its_reasons(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    with Watcher(broker, topics=EVERYTHING) as watcher, Agent(write_config(tmp_path, broker.url, home_assistant={})) as agent:
        watcher.wait_online()
        watcher.publish(TOPIC.format("f-1"), *episode(WARM))
        watcher.wait(lambda: announced(watcher))
        assert agent.stop() == 0
    with Watcher(broker, topics=EVERYTHING) as later:
        later.wait(lambda: announced(later) and later.last(GATEWAY_TOPIC) and later.last(STREAM_TOPIC))
        told = json.loads(later.last(config_topic("f-1")) or b"")
        assert told["device"]["name"] == "f-1"
        assert told["device"]["via_device"] in json.loads(later.last(STREAM_TOPIC) or b"")["device"]["identifiers"]
        assert told["components"]["problem"]["device_class"] == "problem"
        assert told["components"]["score"]["state_class"] == "measurement"
        for topic in {told["state_topic"], told["components"]["problem"]["json_attributes_topic"], told["availability_topic"]}:
            later.wait(functools.partial(later.last, topic))
    topics = [message.topic for message in watcher.messages if message.topic.endswith("/config")]
    assert topics[0] == GATEWAY_TOPIC, "the others are by way of it"


def test_home_assistant_is_told_again_when_it_has_started(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url, home_assistant={"prefix": "ha/discovery", "birth": "ha/status"})
    with Watcher(broker, topics=("vedette/#", "ha/#")) as watcher, Agent(config) as agent:
        watcher.wait_online()
        watcher.publish(TOPIC.format("f-1"), *episode(WARM))
        topic = config_topic("f-1", prefix="ha/discovery")
        watcher.wait(lambda: watcher.last(topic))
        watcher.publish("ha/status", b"offline", b"online")
        watcher.wait(lambda: sum(message.topic == topic for message in watcher.messages) == 2)
        assert agent.stop() == 0
        assert watcher.counters()["received"] == len(WARM), "what Home Assistant says is no telemetry"


def test_what_is_gone_from_the_configuration_is_removed_even_after_a_kill(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    other = {**STREAM, "name": "freezers", "topic": "plant/+/freezer/{device}/telemetry"}
    with Watcher(broker, topics=EVERYTHING) as watcher:
        with Agent(write_config(tmp_path, broker.url, home_assistant={}, streams=[STREAM, other])) as agent:
            watcher.wait_online()
            watcher.publish(TOPIC.format("f-1"), *episode(WARM))
            watcher.publish("plant/north/freezer/z-1/telemetry", *episode(WARM))
            watcher.wait(lambda: announced(watcher) and announced(watcher, "z-1", stream="freezers"))
            agent.process.kill()
            agent.process.wait()
        with Agent(write_config(tmp_path, broker.url, home_assistant={})) as agent:
            watcher.wait(lambda: watcher.last(config_topic("z-1", stream="freezers")) == b"")
            watcher.wait(lambda: watcher.last("vedette/gw-1/state/freezers/z-1") == b"")
            watcher.wait(lambda: watcher.last("homeassistant/device/vedette__gw-1__freezers/config") == b"")
            assert announced(watcher)
            agent.process.kill()
            agent.process.wait()
        with Agent(write_config(tmp_path, broker.url)) as agent:
            watcher.wait(lambda: {watcher.last(topic) for topic in (config_topic("f-1"), STREAM_TOPIC, GATEWAY_TOPIC)} == {b""})
            assert agent.stop() == 0
        assert watcher.last("vedette/gw-1/state/fridges/f-1"), "whoever else looks at states goes on"


def test_a_broker_that_forgot_everything_is_told_again(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    with Mosquitto(tmp_path) as broker, Agent(write_config(tmp_path, broker.url, home_assistant={})) as agent:
        with Watcher(broker, topics=EVERYTHING) as watcher:
            watcher.wait_online()
            watcher.publish(TOPIC.format("f-1"), *episode(WARM))
            watcher.wait(lambda: announced(watcher))
        broker.stop()
        broker.start()
        with Watcher(broker, topics=EVERYTHING) as watcher:
            watcher.wait(lambda: announced(watcher))
        assert agent.stop() == 0


def test_without_home_assistant_nothing_of_it_is_loaded() -> None:
    source = "import sys, vedette.service, vedette.commands.run; print('vedette.homeassistant' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"home_assistant": {}, "state_every": 0}, "home_assistant: it shows devices' states: set state_every to more than 0, such as 10s"),
        ({"home_assistant": {"gone_after": 0}}, "home_assistant.gone_after: expected more than 0, or null for never, got 0"),
        ({"home_assistant": {"prefix": "a/#"}}, "home_assistant.prefix: "),
    ],
)
def test_a_configuration_that_cannot_work_is_an_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    done = vedette("check", "-c", write_config(tmp_path, "mqtt://127.0.0.1:1", **changes))
    assert done.returncode == 1
    assert message in done.stdout


def settings(**changes: Any) -> Config:
    document = {
        "gateway": "gw-1",
        "broker": {"url": "mqtt://nobody"},
        "streams": [{"name": "fridges", "topic": "f/{device}", "model": "fridge"}],
        "home_assistant": {"gone_after": "1d"},
        **changes,
    }
    return msgspec.convert(document, Config, dec_hook=lambda type_, value: type_.parse(value))


class Broker:
    """A fake connection to a broker that keeps what is retained."""

    def __init__(self) -> None:
        self.connected = True
        self.retained: dict[str, bytes] = {}
        self.published: list[str] = []

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False) -> int | None:
        if not self.connected:
            return None
        assert retain
        assert isinstance(payload, bytes)
        self.published.append(topic)
        self.retained[topic] = payload
        if not payload:
            del self.retained[topic]
        return len(self.published)


class Site:
    """An agent's parts that have to do with what is retained, on a simulated clock; what is on disk and on the broker outlives them."""

    def __init__(self, folder: Path, broker: Broker, config: Config) -> None:
        self.broker, self.now = broker, 1000.0
        self.database = Database(folder / "spool.db", Retained.SCHEMA)
        assert self.database.open() is None
        retained = Retained(self.database)
        retained.load()
        topics = AgentTopics(config.prefix, config.gateway)
        self.pipeline = Pipeline(config, Store(folder).open_live)
        self.board = StateBoard(config.state_every, config.limits.devices, topics, retained, broker, 90.0)
        names = [stream.name for stream in config.streams]
        self.board.resume([], names)
        told = config.home_assistant
        announcements = Announcements(told, config.gateway, topics) if told else None
        self.discovery = Discovery(announcements, told.gone_after if told else None, names, topics, retained, broker, 90.0)
        self.retained = retained

    def send(self, devices: Sequence[str]) -> None:
        """A reading of each device, now."""
        arrived = 1_790_000_000.0 + self.now
        outcome = self.pipeline.process([Message(f"f/{device}", b'{"temperature": 4}', arrived) for device in devices])
        self.discovery.hear(self.board.publish_scored(outcome.scored, [], self.pipeline, self.now))

    def run(self, seconds: float, turn_s: float = 0.25) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self.now < until:
            self.now += turn_s
            self.board.hear(self.pipeline.tick(1_790_000_000.0 + self.now))
            if self.broker.connected:
                self.board.look(self.pipeline, self.now)
            self.discovery.turn(self.now, self.board, self.pipeline, connected=self.broker.connected)

    def shown(self) -> set[str]:
        """Devices that Home Assistant shows."""
        payloads = [payload for topic, payload in self.broker.retained.items() if topic.endswith("/config")]
        return {json.loads(payload)["device"]["name"] for payload in payloads} - {"gw-1 fridges", "Vedette gw-1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    install(tmp_path, make_bundle())
    return tmp_path


def test_no_more_than_so_many_messages_a_second_whatever_happens(folder: Path) -> None:
    site = Site(folder, broker := Broker(), settings())
    devices = [f"d-{number}" for number in range(1000)]
    with closing(site.database):
        site.send(devices)
        broker.published.clear()
        site.run(1)
        assert 0 < len(broker.published) <= PER_SECOND + 10
        site.run(1000 / PER_SECOND + 2)
        assert site.shown() == set(devices)
        broker.published.clear()
        for _ in range(10):
            site.discovery.born()
            site.discovery.reconnected()
        site.run(1)
        assert len(broker.published) <= PER_SECOND + 10


def test_a_device_that_is_not_heard_of_is_removed_with_its_state(folder: Path) -> None:
    site = Site(folder, broker := Broker(), settings())
    with closing(site.database):
        site.send(["gone", "here"])
        for _ in range(25):
            site.run(3600, turn_s=60)
            site.send(["here"])
        site.run(120, turn_s=10)
        assert site.shown() == {"here"}
        assert "vedette/gw-1/state/fridges/gone" not in broker.retained
        assert "vedette/gw-1/state/fridges/here" in broker.retained
        assert len(site.retained.of("discovery")) == 3, "gateway, stream and one device"
        site.send(["gone"])
        site.run(60)
        assert site.shown() == {"here", "gone"}


def test_a_device_that_is_gone_shows_no_silence_until_it_is_back(folder: Path) -> None:
    """As far as alerts are concerned it goes on being silent."""
    site = Site(folder, broker := Broker(), settings(alerts={"silent": "1h"}))
    topic = "vedette/gw-1/state/fridges/d"
    with closing(site.database):
        site.send(["d"])
        site.run(2 * 3600, turn_s=30)
        assert json.loads(broker.retained[topic])["kind"] == "silent"
        assert len(site.retained.of("state")) == 1
        site.run(86400, turn_s=30)
        assert site.shown() == set()
        assert site.pipeline.open_devices()
        assert topic not in broker.retained
        assert site.retained.of("state") == []
        site.send(["d"])
        site.run(120)
        assert json.loads(broker.retained[topic])["alert"] is None
        assert site.shown() == {"d"}


def test_time_without_broker_or_agent_removes_nobody(folder: Path) -> None:
    """And what was left of a device's time is left after a restart."""
    broker = Broker()
    site = Site(folder, broker, settings())
    with closing(site.database):
        site.send(["d"])
        site.run(12 * 3600, turn_s=60)
        broker.connected = False
        site.run(10 * 86400, turn_s=3600)
        broker.connected = True
        site.discovery.reconnected()
        site.run(3600, turn_s=60)
        assert site.shown() == {"d"}
        site.discovery.stop()
    site = Site(folder, broker, settings())
    with closing(site.database):
        site.run(10 * 3600, turn_s=60)
        assert site.shown() == {"d"}
        site.run(2 * 3600, turn_s=60)
        assert site.shown() == set()


def test_a_device_that_had_to_give_way_is_removed(folder: Path) -> None:
    site = Site(folder, Broker(), settings(limits={"devices": 3}))
    with closing(site.database):
        site.send(["a", "b", "c"])
        site.run(120)
        site.send(["b", "c", "d"])
        site.run(120)
        assert site.shown() == {"b", "c", "d"}


def test_devices_that_a_restarted_agent_knows_nothing_of_stay(folder: Path) -> None:
    """With `durability: memory` it knows nobody: that says nothing of the devices."""
    broker = Broker()
    site = Site(folder, broker, settings())
    with closing(site.database):
        site.send(["a", "b"])
        site.run(60)
    site = Site(folder, broker, settings())
    with closing(site.database):
        site.send(["a"])
        site.run(3600, turn_s=30)
        assert site.shown() == {"a", "b"}


def test_a_removal_that_was_lost_on_its_way_is_made_again(folder: Path) -> None:
    broker = Broker()
    site = Site(folder, broker, settings())
    with closing(site.database):
        site.send(["a"])
        site.run(60)
        before = dict(broker.retained)
    off = settings(home_assistant=None)
    site = Site(folder, broker, off)
    with closing(site.database):
        site.run(60)
        assert site.shown() == set()
        broker.retained = before  # what the connection held when it broke
        site.discovery.reconnected()
        site.run(60)
        assert site.shown() == set()
        broker.retained = dict(before)  # and what a kill lost
    site = Site(folder, broker, off)
    with closing(site.database):
        site.run(200)
        assert site.shown() == set()
        assert site.retained.of("discovery") == []


def test_a_reading_on_the_way_out_keeps_a_device(folder: Path) -> None:
    site = Site(folder, broker := Broker(), settings())
    with closing(site.database):
        site.send(["a"])
        site.run(86400 - 60, turn_s=30)
        site.discovery._saved_up = -1e9  # so that what is due has to wait
        site.run(120, turn_s=60)
        assert site.discovery._leaving
        assert site.shown() == {"a"}
        site.send(["a"])
        site.discovery._saved_up = 0.0
        site.run(200)
        assert site.shown() == {"a"}
        assert "vedette/gw-1/state/fridges/a" in broker.retained


def test_the_page_names_every_option_with_its_default_and_so_does_the_configuration_that_is_installed() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "home-assistant.md").read_text()
    options = {field.encode_name: field.default for field in msgspec.structs.fields(HomeAssistant)}
    assert dict(re.findall(r"^\| `([a-z_]+)` \| `([^`]+)` \|", page, re.MULTILINE)) == {**options, "gone_after": "7d"}
    text = (root / "systemd" / "agent.yaml").read_text()
    installed = text[text.index("# home_assistant:") : text.index("# stats_every:")]
    document = yaml.safe_load(re.sub(r"^# ", "", installed, flags=re.MULTILINE))
    assert document == {"home_assistant": {**options, "gone_after": "7d"}}
    assert options["gone_after"] == 7 * 86400


def test_the_page_shows_automations_that_are_yaml() -> None:
    page = (Path(__file__).parents[2] / "docs" / "home-assistant.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert [list(block) for block in blocks] == [["home_assistant"], ["automation"], ["automation"]]
    assert object_id("f 1/ü").removeprefix("vedette__") in page
