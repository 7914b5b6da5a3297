"""Readings: one device's values at one event time, decoded from what arrived.

Rules this module keeps: a payload gives a Reading or raises ReadingError, nothing else; only the fields that a stream maps are
looked at; no clock is read (`arrived` is an argument); types are strict, so text or true is never taken for a number.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from vedette.contract.errors import ReadingError
from vedette.contract.features import Categories, DayOfWeek, Elapsed, FeatureSpec, Number, Scalar, TimeOfDay, Value

MAX_FUTURE_S = 600.0
"""A device's clock may run ahead of the gateway's by this much; beyond it the reading's time is not believed."""

MAX_TIME = 253_402_300_799.0
"""The last second of the year 9999, beyond which no date has a name: what lies there was measured in another unit."""

MAX_DEVICE_BYTES = 128

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class Message(NamedTuple):
    """What a broker delivered or a recording held.

    Attributes:
        arrived: Epoch seconds; infinity for a table's row, which has no arrival.
        retained: The broker kept it from before the agent subscribed, so when it arrived says nothing about when it was measured.
    """

    topic: str
    payload: bytes
    arrived: float
    retained: bool = False


class Reading(NamedTuple):
    """One device's values at one event time (epoch seconds), in the order of the FeatureSpec."""

    device: str
    time: float
    values: tuple[Value, ...]


class Readings:
    """What a batch of messages of one stream held, column by column: the n-th entries of the lists belong together."""

    def __init__(self) -> None:
        self.devices: list[str] = []
        self.times: list[float] = []
        self.arrived: list[float] = []
        self.values: list[Sequence[Value]] = []


class TimeField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a payload says when it was measured. `iso` is RFC 3339 text with an offset."""

    field: str
    unit: Literal["s", "ms", "us", "iso"] = "s"


class PayloadSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a stream's payloads hold readings.

    Attributes:
        time: None takes the time of arrival.
        fields: Feature name to dotted path in the payload; a feature that is not named is found under its own name.
    """

    format: Literal["json"] = "json"
    time: TimeField | None = None
    fields: Mapping[str, str] = {}


class JsonDecoder:
    """Decodes a stream's JSON payloads, of which only mapped fields become Python objects.

    Args:
        payload: The stream's mapping.
        features: The model's features.
        device_field: Dotted path of the device's name, where the payload and not the topic holds it.

    Raises:
        ValueError: two paths contradict each other, or a mapped name is no feature.
    """

    def __init__(self, payload: PayloadSpec, features: FeatureSpec, device_field: str | None = None) -> None:
        if unknown := sorted(set(payload.fields) - {f.name for f in features}):
            known = ", ".join(f.name for f in features)
            raise ValueError(f'fields: "{unknown[0]}" is not a feature of the model; its features are {known}')
        leaves: dict[str, _Leaf] = {}
        paths = []
        self._times: list[int] = []  # features whose value is the event time
        for index, feature in enumerate(features):
            if isinstance(feature, TimeOfDay | DayOfWeek | Elapsed):
                self._times.append(index)
                continue
            path = payload.fields.get(feature.name, feature.name)
            leaf = _NUMBER if isinstance(feature, Number) else _CATEGORIES if isinstance(feature, Categories) else _CATEGORY
            paths.append(path)
            _add_leaf(leaves, path, leaf)
        self._time: TimeField | None = payload.time
        if payload.time:
            _add_leaf(leaves, payload.time.field, _INSTANT if payload.time.unit == "iso" else _NUMBER)
        if device_field:
            _add_leaf(leaves, device_field, _DEVICE)
        self._decode: Callable[[bytes], object] = msgspec.json.Decoder(_struct_type("Payload", leaves)).decode
        self._values = _getter(paths)
        self._time_of = _getter([payload.time.field]) if payload.time else None
        self._device_of = _getter([device_field]) if device_field else None

    def decode(self, payload: bytes, *, arrived: float, device: str) -> Reading:
        """Decode one payload.

        Args:
            payload: UTF-8 JSON object.
            arrived: When it arrived, epoch seconds.
            device: The device that the topic names; not used where the payload names it.

        Raises:
            ReadingError: with the counter's name in `reason`.
        """
        try:
            fields = self._decode(payload)
        except UnicodeDecodeError as error:
            raise ReadingError("encoding", f"payload is not UTF-8: {error.reason}") from error
        except RecursionError as error:
            raise ReadingError("depth", "payload is nested too deeply") from error
        except msgspec.ValidationError as error:
            raise ReadingError("type", f"payload: {error}") from error
        except msgspec.DecodeError as error:
            raise ReadingError("malformed", f"payload: {error}") from error
        device = _device_name(self._device_of(fields)[0]) if self._device_of else _check_device(device)
        time = self._event_time(fields, arrived) if self._time_of else arrived
        values = self._values(fields)
        if self._times:
            filled = list(values)
            for index in self._times:
                filled.insert(index, time)
            values = tuple(filled)
        return Reading(device, time, values)

    def _event_time(self, fields: object, arrived: float) -> float:
        assert self._time_of and self._time
        value = self._time_of(fields)[0]
        if value is None or value != value:
            raise ReadingError("time", f"payload has no {self._time.field}")
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ReadingError("time", f"{self._time.field} has no UTC offset")
            time = value.timestamp()  # not by way of UTC: at the calendar's ends that would overflow
        else:
            time = value * _UNITS[self._time.unit]
        if time < 0:
            raise ReadingError("time", f"{self._time.field} is before 1970")
        if time > MAX_TIME:
            raise ReadingError("future", f"{self._time.field} is beyond the year 9999; is its unit {self._time.unit}?")
        if time > arrived + MAX_FUTURE_S:
            raise ReadingError("future", f"{self._time.field} is more than {MAX_FUTURE_S:.0f} s ahead of the gateway's clock")
        return float(time)


def _check_device(name: str) -> str:
    if not name or not name.isprintable() or len(name.encode("utf-8", "surrogatepass")) > MAX_DEVICE_BYTES:
        raise ReadingError("device", f"a device's name is 1 to {MAX_DEVICE_BYTES} bytes without control characters")
    return name


def _device_name(value: object) -> str:
    if value is None:
        raise ReadingError("device", "payload has no device name")
    return _check_device(str(value))


class _Leaf(NamedTuple):
    type: Any
    absent: object


_NUMBER = _Leaf(float, math.nan)
_CATEGORY = _Leaf(Scalar, None)
_CATEGORIES = _Leaf(list[Scalar] | Scalar, None)
_INSTANT = _Leaf(datetime | None, None)
_DEVICE = _Leaf(str | int | None, None)


def _add_leaf(leaves: dict[str, _Leaf], path: str, leaf: _Leaf) -> None:
    if leaves.setdefault(path, leaf) != leaf:
        raise ValueError(f'"{path}" is mapped twice, as two different kinds')


def _struct_type(name: str, leaves: Mapping[str, _Leaf]) -> type:
    """A struct whose nested fields follow the dotted paths, so that msgspec skips everything else without building it."""
    nested: dict[str, dict[str, _Leaf]] = {}
    fields: list[tuple[str, Any, Any]] = []
    rename: dict[str, str] = {}
    for path, leaf in leaves.items():
        head, dot, rest = path.partition(".")
        if dot:
            nested.setdefault(head, {})[rest] = leaf
        else:
            fields.append((_identifier(head), leaf.type, leaf.absent))
            rename[_identifier(head)] = head
    for head, inner in nested.items():
        if head in leaves:
            raise ValueError(f'"{head}" is mapped both as a value and as an object')
        inner_type = _struct_type(head, inner)
        fields.append((_identifier(head), inner_type, msgspec.field(default_factory=inner_type)))
        rename[_identifier(head)] = head
    return msgspec.defstruct(name, fields, rename=rename, frozen=True, gc=False)


def _identifier(key: str) -> str:
    """A Python identifier for a payload's key, whatever characters it has."""
    return "k" + key.encode().hex()


def _getter(paths: list[str]) -> Callable[[object], tuple[Any, ...]]:
    attributes = [".".join(_identifier(part) for part in path.split(".")) for path in paths]
    if not attributes:
        return lambda _: ()
    get = operator.attrgetter(*attributes)
    return get if len(attributes) > 1 else lambda fields: (get(fields),)
