"""What Home Assistant documents about MQTT discovery, as far as it concerns what the agent announces.

From its documentation (integrations "MQTT": discovery messages, device discovery payload, availability; "MQTT binary sensor"; "MQTT
sensor"; device classes of binary sensors) and homeassistant/components/mqtt (`schemas.py`, `discovery.py`, `binary_sensor.py`,
`sensor.py`) of 2026.2. `tests/agent/test_homeassistant_itself.py` asks these themselves, where they are installed.
"""

import re
from typing import Any

import jsonschema

_TOPIC = re.compile(r"(?P<prefix>.+)/device/(?P<object_id>[a-zA-Z0-9_-]+)/config")

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_TEMPLATE: dict[str, Any] = {"type": "string", "pattern": r"^\{\{ .* \}\}$"}
_STATE_TOPIC: dict[str, Any] = {"type": "string", "pattern": "^[^#+]+$"}

_SHARED: dict[str, Any] = {
    "availability_topic": _STATE_TOPIC,
    "availability_template": _TEMPLATE,
    "payload_available": _TEXT,
    "payload_not_available": _TEXT,
    "state_topic": _STATE_TOPIC,
    "qos": {"enum": [0, 1, 2]},
    "encoding": _TEXT,
}

_ENTITY: dict[str, Any] = {
    **_SHARED,
    "unique_id": _TEXT,
    "name": {"type": ["string", "null"]},
    "icon": {"type": "string", "pattern": "^mdi:[a-z-]+$"},
    "entity_category": {"enum": ["config", "diagnostic"]},
    "enabled_by_default": {"type": "boolean"},
    "expire_after": {"type": "integer"},
    "force_update": {"type": "boolean"},
    "json_attributes_topic": _STATE_TOPIC,
    "json_attributes_template": _TEMPLATE,
    "value_template": _TEMPLATE,
}

_BINARY_SENSOR: dict[str, Any] = {
    **_ENTITY,
    "platform": {"const": "binary_sensor"},
    "device_class": {"enum": ["connectivity", "problem", "running", "safety"]},
    "payload_on": _TEXT,
    "payload_off": _TEXT,
    "off_delay": {"type": "integer"},
}

_SENSOR: dict[str, Any] = {
    **_ENTITY,
    "platform": {"const": "sensor"},
    "state_class": {"enum": ["measurement", "total", "total_increasing"]},
    "suggested_display_precision": {"type": "integer", "minimum": 0},
    "unit_of_measurement": _TEXT,
}


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_DISCOVERY = _closed(
    {
        **_SHARED,
        "device": _closed(
            {
                "identifiers": {"type": "array", "items": _TEXT, "minItems": 1},
                **dict.fromkeys(["name", "manufacturer", "model", "model_id", "hw_version", "sw_version", "serial_number"], _TEXT),
                **dict.fromkeys(["via_device", "suggested_area", "configuration_url"], _TEXT),
            },
            "identifiers",
        ),
        "origin": _closed({"name": _TEXT, "sw_version": _TEXT, "support_url": _TEXT}, "name"),
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "required": ["platform", "unique_id"],
                "oneOf": [_closed(_BINARY_SENSOR), _closed(_SENSOR)],
            },
        },
    },
    "device",
    "origin",
    "components",
)

_VALIDATOR = jsonschema.Draft202012Validator(_DISCOVERY)


def faults_of_discovery(topic: str, payload: Any) -> list[str]:
    """What of an announcement is not as documented."""
    found = [f"{'.'.join(map(str, error.path))}: {error.message}" for error in _VALIDATOR.iter_errors(payload)]
    if not _TOPIC.fullmatch(topic):
        found.append(f"topic: {topic}")
    if not found and (unread := [name for name, each in payload["components"].items() if "state_topic" not in {**payload, **each}]):
        found.append(f"no state_topic: {unread}")
    return found
