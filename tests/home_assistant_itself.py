"""Asks Home Assistant's own code what it makes of announcements; run by an interpreter that has the `homeassistant` package.

Reads a JSON list of `{"payload": …, "values": {topic: payload}}` and writes one of `{COMPONENT: {KEY: what its template gives}}`. An
announcement that its schemas refuse, or that has a key which they do not know, ends it.
"""

import asyncio
import json
import sys
import tempfile
from contextlib import suppress
from typing import Any

from homeassistant.components.mqtt import binary_sensor, sensor
from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA, SHARED_OPTIONS
from homeassistant.core import HomeAssistant
from homeassistant.helpers.template import Template

# Those for configuration.yaml: they are the same, but for refusing what they do not know.
PLATFORMS = {"binary_sensor": binary_sensor.PLATFORM_SCHEMA_MODERN, "sensor": sensor.PLATFORM_SCHEMA_MODERN}
TEMPLATES = {
    "value_template": "state_topic",
    "json_attributes_template": "json_attributes_topic",
    "availability_template": "availability_topic",
}


def ask(hass: HomeAssistant, payload: dict[str, Any], values: dict[str, str]) -> dict[str, dict[str, str]]:
    """What it makes of one announcement."""
    DEVICE_DISCOVERY_SCHEMA(payload)
    shared = {key: payload[key] for key in [*SHARED_OPTIONS, "qos", "encoding"] if key in payload}
    found = {}
    for name, own in payload["components"].items():
        component = {**shared, **own, "device": payload["device"]}
        PLATFORMS[component.pop("platform")](component)
        found[name] = {key: render(hass, component[key], values[component[topic]]) for key, topic in TEMPLATES.items() if key in component}
    return found


def render(hass: HomeAssistant, template: str, value: str) -> str:
    """What a template makes of a message."""
    variables: dict[str, Any] = {"value": value}
    with suppress(ValueError):
        variables["value_json"] = json.loads(value)
    return str(Template(template, hass).async_render(variables, parse_result=False))


async def main() -> None:
    """Its schemas and templates want its event loop, and an instance that need not run."""
    with tempfile.TemporaryDirectory() as folder:
        hass = HomeAssistant(folder)
        json.dump([ask(hass, **each) for each in json.load(sys.stdin)], sys.stdout)


asyncio.run(main())
