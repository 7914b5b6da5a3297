"""JSON objects, one reading a message: the common case, and the product's hot path.

Rules this module keeps: a batch in which all is well is decoded column by column; as soon as something is not, it is decoded message by
message, with the same outcome (a property test shows that).
"""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from vedette.contract.errors import ReadingError
from vedette.contract.features import FeatureSpec, Number, Value
from vedette.contract.payloads import json_fields as fields
from vedette.contract.payloads.json_fields import Leaf, Path
from vedette.contract.payloads.json_shape import check_shape, may_exceed
from vedette.contract.payloads.spec import PayloadSpec
from vedette.contract.readings import (
    MAX_FUTURE_S,
    MAX_TIME,
    Found,
    Message,
    MessageDecoder,
    Notes,
    PayloadLimits,
    Readings,
    check_device,
    is_clock,
    sent_features,
)

_MAX_KNOWN = 100_000
_FEW = 4
"""Of so few messages, numpy costs more than it saves."""


class JsonDecoder(MessageDecoder):
    """Decodes payloads that are one JSON object each.

    Args:
        payload: The stream's mapping.
        features: The model's.
        device_field: Path of the device's name, where the payload and not the topic holds it.
        limits: What is refused.

    Raises:
        ValueError: paths contradict each other.
    """

    def __init__(self, payload: PayloadSpec, features: FeatureSpec, device_field: str | None, limits: PayloadLimits) -> None:
        self._field = payload.time
        time = (payload.time.field, payload.time.unit) if payload.time else ("its time", "s")
        super().__init__(features, limits, merges=payload.merges, drops_repeats=payload.drops_repeats, time=time)
        self._nullable = payload.merges
        self._leaves: dict[Path, Leaf] = {}
        paths = [payload.fields.get(feature.name, feature.name) for feature in self._sent]
        for feature, path in zip(self._sent, paths, strict=True):
            fields.add_leaf(self._leaves, path, fields.leaf_of(feature, nullable=self._nullable))
        if payload.time:
            fields.add_leaf(self._leaves, payload.time.field, fields.time_leaf(payload.time.unit))
        if device_field:
            fields.add_leaf(self._leaves, device_field, fields.DEVICE)
        self._decode: Callable[[Any], Any] = msgspec.json.Decoder(fields.struct_type(self._leaves)).decode
        self._row_of = fields.row_getter(paths)
        self._only = fields.value_getter(paths[0]) if len(paths) == 1 else None
        self._time_of = fields.value_getter(payload.time.field) if payload.time else None
        self._device_of = fields.value_getter(device_field) if device_field else None
        self._numbers = [index for index, feature in enumerate(self._sent) if isinstance(feature, Number)]
        # As the struct's defaults: a row of these is found by identity, faster than NaN could be told.
        self._absent = tuple(math.nan if isinstance(feature, Number) else None for feature in self._sent)
        self._known: set[str] = set()

    def decode_batch(self, messages: Sequence[Message], devices: Sequence[str]) -> Readings:
        """See Decoder."""
        if len(messages) < _FEW:
            return super().decode_batch(messages, devices)
        return self._decode_columns(messages, devices) or super().decode_batch(messages, devices)

    def _decode_columns(self, messages: Sequence[Message], devices: Sequence[str]) -> Readings | None:
        """The whole batch at once; None where anything in it is not as it should be."""
        _, payloads, arrived, retained = zip(*messages, strict=True)
        if True in retained or max(map(len, payloads)) > self._limits.max_bytes:
            return None
        if any(may_exceed(payload, self._limits) for payload in payloads):
            return None
        try:
            objects = list(map(self._decode, payloads))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        # zip makes tuples of one, faster than a function could.
        rows: list[tuple[Any, ...]] = list(zip(map(self._only, objects)) if self._only else map(self._row_of, objects))
        if self._nullable:
            rows = [self._without_nulls(row) if None in row else row for row in rows]
        if self._sent and self._absent in rows:
            return None
        readings = Readings()
        readings.arrived = list(arrived)
        times = self._times(objects, readings.arrived)
        names = self._names(objects, devices)
        if times is None or names is None:
            return None
        readings.times, readings.devices = times, names
        readings.values = list(rows if not self._clocks else self._with_clocks(rows, times))
        readings.messages = list(range(len(messages)))
        readings.accepted = len(messages)
        return readings

    def _times(self, objects: list[Any], arrived: list[float]) -> list[float] | None:
        if not self._time_of or not self._field:
            return arrived
        if self._field.unit == "iso":
            stated: list[datetime | None] = list(map(self._time_of, objects))
            raw = np.array([math.nan if at is None or at.tzinfo is None else at.timestamp() for at in stated])
        else:
            raw = np.fromiter(map(self._time_of, objects), np.float64, len(objects))
            raw *= fields.UNITS[self._field.unit]
        if not ((raw >= 0) & (raw <= np.minimum(np.array(arrived) + MAX_FUTURE_S, MAX_TIME))).all():
            return None
        times: list[float] = raw.tolist()
        return times

    def _names(self, objects: list[Any], devices: Sequence[str]) -> list[str] | None:
        named: list[Any] = list(devices if self._device_of is None else map(self._device_of, objects))
        if self._known.issuperset(named):
            return named
        try:
            names = [check_device(fields.device_name(name)) for name in named]
        except ReadingError:
            return None
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        self._known.update(names)
        return names

    def _without_nulls(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for index in self._numbers:
            if values[index] is None:
                values[index] = math.nan
        return tuple(values)

    def _with_clocks(self, rows: list[tuple[Any, ...]], times: list[float]) -> list[tuple[Any, ...]]:
        columns: list[Any] = list(zip(*rows, strict=True)) if self._sent else []
        for index in self._clocks:
            columns.insert(index, times)
        return list(zip(*columns, strict=True))

    def _read(self, message: Message, device: str, notes: Notes) -> Sequence[Found]:  # noqa: ARG002 because one reading has no faults within
        check_shape(message.payload, self._limits)
        found = fields.decode_strictly(self._decode, message.payload)
        if self._device_of:
            device = fields.device_name(self._device_of(found))
        time = fields.seconds_of(self._time_of(found), self._field.field, self._field.unit) if self._time_of and self._field else None
        row = self._row_of(found)
        return [Found(device, time, self._without_nulls(row) if self._nullable and None in row else row)]

    def values(self, payload: bytes) -> tuple[Value, ...]:
        """The features' values in a payload, whoever sent it and when.

        Raises:
            ReadingError: it is no JSON object, or a value is of another type.
        """
        return self._row_of(fields.decode_strictly(self._decode, payload))

    def unused(self, message: Message) -> list[str]:
        """See Decoder."""
        return fields.unused_paths(message.payload, set(self._leaves))


def check_mapping(payload: PayloadSpec, features: FeatureSpec) -> None:
    """See that only features are mapped.

    Raises:
        ValueError: something is mapped that is no feature, or none that payloads hold.
    """
    if unknown := sorted(set(payload.fields) - {feature.name for feature in features}):
        known = ", ".join(feature.name for feature in features)
        raise ValueError(f'fields: "{unknown[0]}" is not a feature of the model; its features are {known}')
    if clocks := [feature.name for feature in features if is_clock(feature) and feature.name in payload.fields]:
        raise ValueError(f'fields: "{clocks[0]}" is made of the event time; it is not in payloads')
    if not features or (payload.format != "json" and not sent_features(features)):
        raise ValueError("format: the model looks at nothing that payloads hold")
