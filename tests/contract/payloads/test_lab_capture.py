"""The lab's capture, which is not part of the repository, through a stream for each kind of its devices."""

from collections import Counter

import msgspec
import pytest

from conftest import SHARED_DATA
from vedette.config import Stream
from vedette.contract.durations import Duration
from vedette.contract.features import Category, FeatureSpec, Number
from vedette.contract.payloads import decoder_for
from vedette.contract.readings import Message, Readings
from vedette.contract.recordings import read_messages

CAPTURE = SHARED_DATA / "mqtt" / "lab_capture.jsonl"

TIME = {"field": "timestamp"}


def sensor(topic: str, **fields: str) -> dict[str, object]:
    return {"topic": topic, "device": {"field": "node-id"}, "payload": {"time": TIME, "fields": fields}}


STREAMS: dict[str, tuple[dict[str, object], FeatureSpec]] = {
    "motion": (sensor("motion-readings", motion="motion-bool"), (Number(name="motion"),)),
    "climate": (
        sensor("temp-hum-readings", temperature="temp-C", humidity="hum-percent"),
        (Number(name="temperature"), Number(name="humidity")),
    ),
    "lux": (sensor("lux-readings"), (Number(name="lux"),)),
    "air": (sensor("gas-mq135-readings", co2="co2-ppm"), (Number(name="co2"),)),
    "gas": (sensor("gas-mq9-readings", co="co-ppm", lpg="lpg-ppm"), (Number(name="co"), Number(name="lpg"))),
    "noise": (sensor("noise-readings", noise="noise-bool"), (Number(name="noise"),)),
    "plugs": (
        {"topic": "sonoff/tele/{device}/STATE", "payload": {"preset": "tasmota", "fields": {"signal": "Wifi.Signal", "power": "POWER"}}},
        (Number(name="signal"), Category(name="power")),
    ),
}


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    if not CAPTURE.exists():
        pytest.skip(reason="the lab's capture is not here (../shared/data/mqtt)")
    return list(read_messages(CAPTURE))


def stream_of(name: str) -> tuple[Stream, FeatureSpec]:
    settings, features = STREAMS[name]
    return msgspec.convert({"name": name, "model": name, **settings}, Stream, dec_hook=lambda _, value: Duration.parse(value)), features


def hear(name: str, messages: list[Message]) -> tuple[int, Readings]:
    stream, features = stream_of(name)
    routed = [(device, message) for message in messages if (device := stream.filter.match(message.topic)) is not None]
    decoder = decoder_for(stream.payload, features, stream.device.field if stream.device else None, stream.filter)
    return len(routed), decoder.decode_batch([message for _, message in routed], [device for device, _ in routed])


def test_every_message_of_the_capture_is_accounted_for(messages: list[Message]) -> None:
    counts = Counter[str]()
    for name in STREAMS:
        received, read = hear(name, messages)
        assert (read.accepted, read.accepted + read.rejected.total()) == (len(read), received), read.explained
        # Four of the plugs' messages are no Tasmota's, and hold neither of the two features.
        assert read.rejected == ({"empty": 4} if name == "plugs" else {}) and not read.partial
        counts[name] = received
    assert counts.total() == len(messages)
    assert counts == {"motion": 48, "climate": 22, "lux": 10, "air": 10, "gas": 10, "noise": 10, "plugs": 10}


def test_readings_are_at_the_devices_own_times_and_a_plugs_at_its_arrival(messages: list[Message]) -> None:
    _, climate = hear("climate", messages)
    assert all(0 <= arrived - time < 60 for time, arrived in zip(climate.times, climate.arrived, strict=True))
    assert climate.times == sorted(climate.times)
    _, plugs = hear("plugs", messages)
    assert plugs.times == plugs.arrived and len(set(plugs.devices)) == 2
    assert {row[1] for row in plugs.values} <= {"ON", "OFF"}
