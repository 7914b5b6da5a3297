"""Readings made up from a model's features: ordinary ones, as a stream's payloads hold them.

Rules this module keeps: no clock, and the same readings every time.
"""

import itertools
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from vedette.config import Stream
from vedette.contract.features import Categories, Category, FeatureSpec, Number
from vedette.contract.readings import Message

DEVICES = 100
"""One reading of each is a batch."""

_FIRST_S = 1_790_000_000.0


def batches(stream: Stream, features: FeatureSpec, interval_s: float = 1.0) -> Iterator[list[Message]]:
    """Batches without end: a reading from each of DEVICES every so many seconds, ordinary for the model."""
    rng = np.random.default_rng(1)
    names = [f"device-{number:03}" for number in range(DEVICES)]
    topics = [stream.filter.fill(name) for name in names]
    for number in itertools.count(1):
        now = _FIRST_S + number * interval_s
        yield [
            Message(topic, msgspec.json.encode(_payload(stream, features, name, now, rng)), now)
            for topic, name in zip(topics, names, strict=True)
        ]


def _payload(stream: Stream, features: FeatureSpec, device: str, now: float, rng: np.random.Generator) -> dict[str, Any]:
    payload: dict[str, Any] = {}
    for feature in features:
        if (value := _value(feature, rng)) is not None:
            _put(payload, stream.payload.fields.get(feature.name, feature.name), value)
    if stream.payload.time:
        unit = stream.payload.time.unit
        stamp = datetime.fromtimestamp(now, UTC) if unit == "iso" else now * {"s": 1, "ms": 1000, "us": 1_000_000}[unit]
        _put(payload, stream.payload.time.field, stamp)
    if stream.device:
        _put(payload, stream.device.field, device)
    return payload


def _value(feature: object, rng: np.random.Generator) -> object:
    """An ordinary value; None for a feature that no payload holds."""
    match feature:
        case Number():
            low = -math.inf if feature.minimum is None else feature.minimum
            high = math.inf if feature.maximum is None else feature.maximum
            return round(float(np.clip(feature.mean + feature.scale * rng.normal(), low, high)), 4)
        case Category():
            return str(rng.choice(feature.values)) if feature.values else "unknown"
        case Categories():
            return [str(rng.choice(feature.values))] if feature.values else []
        case _:
            return None


def _put(payload: dict[str, Any], path: str, value: object) -> None:
    *outer, last = path.split(".")
    for key in outer:
        payload = payload.setdefault(key, {})
    payload[last] = value
