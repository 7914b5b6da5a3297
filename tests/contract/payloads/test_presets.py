"""Payloads are the examples of the zigbee2mqtt and Tasmota documentation."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from vedette import config
from vedette.config import Config
from vedette.contract.durations import Duration
from vedette.contract.errors import ConfigError
from vedette.contract.features import Category, FeatureSpec, Number
from vedette.contract.payloads import decoder_for
from vedette.contract.readings import Message, Readings

NOW = 1_790_000_000.0


def load(tmp_path: Path, stream: dict[str, Any]) -> Config:
    path = tmp_path / "agent.yaml"
    path.write_text(yaml.safe_dump({"gateway": "g", "broker": {"url": "mqtt://b"}, "streams": [{"name": "s", "model": "m", **stream}]}))
    return config.load(path)


def hear(agent: Config, features: FeatureSpec, *said: tuple[str, object]) -> Readings:
    (stream,) = agent.streams
    decoder = decoder_for(stream.payload, features, stream.device.field if stream.device else None, stream.filter)
    assert decoder.merges
    routed = [(stream.filter.match(topic), Message(topic, json.dumps(payload).encode(), NOW)) for topic, payload in said]
    return decoder.decode_batch([message for device, message in routed if device is not None], [d for d, _ in routed if d is not None])


CLIMATE: FeatureSpec = (Number(name="temperature"), Number(name="humidity"))


def test_zigbee2mqtt_by_its_name_alone(tmp_path: Path) -> None:
    agent = load(tmp_path, {"payload": "zigbee2mqtt"})
    assert agent.subscriptions == [("zigbee2mqtt/#", 1)]
    read = hear(
        agent,
        CLIMATE,
        ("zigbee2mqtt/kitchen/sensor", {"temperature": 27.34, "humidity": 44.72}),
        ("zigbee2mqtt/attic", {"temperature": 21, "humidity": None, "battery": 97, "update": {"state": "idle"}}),
        ("zigbee2mqtt/switch", {"action": "single"}),
    )
    assert read.devices == ["kitchen/sensor", "attic"] and read.values[0] == (27.34, 44.72)
    assert read.values[1][0] == 21 and read.values[1][1] != read.values[1][1]
    assert read.rejected == {"empty": 1}


@pytest.mark.parametrize(
    "rest", ["bridge/state", "bridge/devices", "bridge", "attic/availability", "attic/set", "attic/get", "attic/set/state"]
)
def test_what_zigbee2mqtt_says_besides_is_no_device(tmp_path: Path, rest: str) -> None:
    topic_filter = load(tmp_path, {"payload": "zigbee2mqtt"}).streams[0].filter
    assert topic_filter.match(f"zigbee2mqtt/{rest}") is None
    assert topic_filter.match(f"zigbee2mqtt/{rest}/lamp") in ({f"{rest}/lamp"} if rest == "attic/availability" else {None})
    assert topic_filter.match("zigbee2mqtt/bridge over water") == "bridge over water"


def test_the_preset_may_have_another_topic_and_fields(tmp_path: Path) -> None:
    stream = {"topic": "home/z2m/{device:#}", "payload": {"preset": "zigbee2mqtt", "fields": {"humidity": "soil.moisture"}}}
    agent = load(tmp_path, stream)
    read = hear(agent, CLIMATE, ("home/z2m/pot", {"soil": {"moisture": 12}}), ("home/z2m/bridge/info", {"soil": {"moisture": 12}}))
    assert read.devices == ["pot"] and read.values[0][1] == 12


@pytest.mark.parametrize(
    ("unit", "last_seen"),
    [("iso", "2026-09-21T14:13:20.000Z"), ("iso", "2026-09-21T16:13:20+02:00"), ("ms", 1_790_000_000_000)],
)
def test_last_seen_may_be_the_time(tmp_path: Path, unit: str, last_seen: object) -> None:
    agent = load(tmp_path, {"payload": {"preset": "zigbee2mqtt", "time": {"field": "last_seen", "unit": unit}}})
    assert hear(agent, CLIMATE, ("zigbee2mqtt/attic", {"temperature": 4, "last_seen": last_seen})).times == [NOW]


SENSOR = {"Time": "2026-09-21T16:13:20", "AM2301": {"Temperature": 24.2, "Humidity": 49.3}, "TempUnit": "C"}
ENERGY = {
    "Time": "2026-09-21T16:13:20",
    "ENERGY": {"TotalStartTime": "2026-01-01T00:00:00", "Total": 1.753, "Power": [42, 7], "Voltage": 230},
}
STATE = {"Time": "2026-09-21T16:13:20", "Uptime": "3T05:55:47", "Heap": 28, "POWER": "OFF", "Wifi": {"AP": 1, "RSSI": 94, "Signal": -53}}


def test_tasmota_by_its_name(tmp_path: Path) -> None:
    fields = {"temperature": "AM2301.Temperature", "power": "ENERGY.Power[0]", "relay": "POWER", "signal": "Wifi.Signal"}
    agent = load(tmp_path, {"payload": {"preset": "tasmota", "fields": fields}})
    assert agent.subscriptions == [("tele/+/+", 1)]
    features = (Number(name="temperature"), Number(name="power"), Category(name="relay"), Number(name="signal"))
    said = [("tele/plug/SENSOR", SENSOR), ("tele/plug/SENSOR", ENERGY), ("tele/plug/STATE", STATE), ("tele/plug/LWT", "Online")]
    read = hear(agent, features, *said)
    assert read.devices == ["plug"] * 3 and read.times == [NOW] * 3 and not read.rejected
    known = [[value for value in row if value is not None and value == value] for row in read.values]
    assert known == [[24.2], [42], ["OFF", -53]]


@pytest.mark.parametrize("rest", ["LWT", "INFO1", "RESULT", "UPTIME", "HASS_STATE"])
def test_what_tasmota_says_besides_is_no_telemetry(tmp_path: Path, rest: str) -> None:
    topic_filter = load(tmp_path, {"payload": "tasmota"}).streams[0].filter
    assert topic_filter.match(f"tele/plug/{rest}") is None and topic_filter.match("tele/plug/SENSOR") == "plug"


def test_tasmotas_topic_may_be_in_another_order(tmp_path: Path) -> None:
    stream = {"topic": "sonoff/tele/{device}/STATE", "payload": {"preset": "tasmota", "fields": {"signal": "Wifi.Signal"}}}
    read = hear(load(tmp_path, stream), (Number(name="signal"),), ("sonoff/tele/plug-1/STATE", STATE), ("sonoff/tele/plug-1/LWT", "Online"))
    assert (read.devices, read.values, read.accepted) == (["plug-1"], [(-53.0,)], 1)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ({"payload": "zigbee"}, "expected json, senml, sparkplug or value"),
        ({"payload": {"preset": "zigbee"}}, "expected zigbee2mqtt or tasmota"),
        ({"payload": "json"}, "streams[0].topic: missing, and it has no default"),
        ({"topic": "a/{device}/{field}"}, "topic: {field} is for bare values"),
        ({"topic": "a/{field}/{field}", "payload": "value"}, "topic: {device} and {field} may stand in it once"),
        ({"topic": "a/{device}", "payload": {"format": "senml", "time": {"field": "t"}}}, "time: goes with JSON"),
    ],
)
def test_a_stream_that_cannot_be_is_an_error_in_one_line(tmp_path: Path, stream: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"topic": "a/{device}", **stream} if "preset" in str(stream) else stream)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_format_may_be_given_by_its_name_alone(tmp_path: Path) -> None:
    agent = load(tmp_path, {"topic": "a/{device}/{field}", "payload": "value"})
    assert (agent.streams[0].payload.format, agent.subscriptions) == ("value", [("a/+/+", 1)])
    assert agent.streams[0].filter.field("a/x/temp") == "temp"
    assert load(tmp_path, {"topic": "a/{device}", "payload": {"readings": ".", "every": "10s"}}).streams[0].payload.every == Duration(10)
