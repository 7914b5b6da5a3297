"""Every example of docs/payloads.md, as it stands there; a message without a topic beside it goes where the stream listens."""

import json
import re
from pathlib import Path

import msgspec
import pytest
import yaml

from conftest import REPOSITORY
from sparkplug import DOUBLE, payload
from vedette import config
from vedette.config import Stream
from vedette.contract.features import Category, Number
from vedette.contract.payloads import decoder_for
from vedette.contract.readings import Message, Readings
from vedette_training.recipe import History

NOW = 1_790_000_000.0
GUIDE = (REPOSITORY / "docs" / "payloads.md").read_text()
EXAMPLE = re.compile(
    r"```yaml\n(?P<stream>- name: .*?)```\n(?:\n(?:A message on `(?P<topic>[^`]*)`:\n\n)?```(?:json|text)\n(?P<message>.*?)```)?", re.DOTALL
)
EXAMPLES = {yaml.safe_load(match["stream"])[0]["name"]: match for match in EXAMPLE.finditer(GUIDE)}
FEATURES = (Number(name="temperature"), Category(name="door"))


def load(folder: Path, name: str) -> Stream:
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump({"gateway": "g", "broker": {"url": "mqtt://b"}, "streams": yaml.safe_load(EXAMPLES[name]["stream"])}))
    return config.load(path).streams[0]


def read(stream: Stream, topic: str, data: bytes) -> Readings:
    decoder = decoder_for(stream.payload, FEATURES, stream.device.field if stream.device else None, stream.filter)
    device = stream.filter.match(topic)
    assert device is not None
    decoder.unused(Message(topic, data, NOW))
    return decoder.decode_batch([Message(topic, data, NOW)], [device])


@pytest.mark.parametrize(
    ("name", "device", "rows"),
    [
        ("fridges", "d", [(0, 4.2, "shut")]),
        ("batches", "d", [(-60, 4.1, "shut"), (0, 4.2, "shut")]),
        ("columns", "d", [(-4400, 4.1, "shut"), (-800, None, "shut")]),
        ("rooms", "attic", [(0, 4.2, None)]),
        ("meters", "urn:dev:ow:10e2073a01080063", [(0, 4.2, "shut")]),
        ("climate", "kitchen/sensor", [(0, 4.2, True)]),
        ("plugs", "plug", [(0, 4.2, None)]),
    ],
)
def test_an_example_is_read_as_the_guide_says(tmp_path: Path, name: str, device: str, rows: list[tuple[object, ...]]) -> None:
    stream, message = load(tmp_path, name), EXAMPLES[name]["message"]
    json.loads(message)
    found = read(stream, EXAMPLES[name]["topic"] or stream.filter.fill("d"), message.strip().encode())
    values = [[None if value != value else value for value in row] for row in found.values]
    assert [(time - NOW, *row) for time, row in zip(found.times, values, strict=True)] == rows, found.explained
    assert set(found.devices) == {device} and not found.partial


def test_the_sparkplug_example(tmp_path: Path) -> None:
    birth = payload(
        {"name": "Properties/Temperature", "alias": 1, "datatype": DOUBLE, "double_value": 4.2}, timestamp=int(NOW * 1000), seq=1
    )
    found = read(load(tmp_path, "line"), "spBv1.0/plant/DBIRTH/edge/fridge", birth)
    assert (found.devices, found.values[0][0]) == (["edge/fridge"], 4.2)


def test_every_example_is_tried() -> None:
    assert set(EXAMPLES) == {"fridges", "batches", "columns", "rooms", "meters", "line", "climate", "plugs"}


def test_the_example_of_a_recipe_is_one() -> None:
    (block,) = re.findall(r"```yaml\n(history:.*?)```", GUIDE, re.DOTALL)
    assert msgspec.convert(yaml.safe_load(block)["history"], History).recording.payload.format == "value"  # type: ignore[union-attr] # because it has one
