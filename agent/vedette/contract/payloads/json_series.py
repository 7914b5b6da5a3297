"""JSON payloads that hold several readings: an array of objects, or an object of arrays.

Rules this module keeps: a field is looked for in the reading and, where it is not there, beside the array: a device, a time or a value
that is written once holds for all; one bad reading of an array does not spoil the others.
"""

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from vedette.contract.errors import ReadingError
from vedette.contract.features import Categories, Feature, FeatureSpec, Number, Scalar
from vedette.contract.payloads import json_fields as fields
from vedette.contract.payloads.json_fields import Leaf, Path
from vedette.contract.payloads.json_shape import check_shape
from vedette.contract.payloads.spec import PayloadSpec
from vedette.contract.readings import MAX_READINGS, Found, Message, MessageDecoder, Notes, PayloadLimits


class _Series(MessageDecoder):
    """What both have in common: where to look, and how a row of what was found becomes a reading.

    Args:
        payload: The stream's mapping.
        features: The model's.
        device_field: Path of the device's name, where the payload and not the topic holds it.
        limits: What is refused.
        where: The array's or object's path.

    Raises:
        ValueError: paths contradict each other, or readings of one device have no times.
    """

    def __init__(self, payload: PayloadSpec, features: FeatureSpec, device_field: str | None, limits: PayloadLimits, where: str) -> None:
        time = (payload.time.field, payload.time.unit) if payload.time else ("its time", "s")
        super().__init__(features, limits, merges=payload.merges, drops_repeats=payload.drops_repeats, time=time)
        if payload.time is None and payload.every is None and device_field is None:
            raise ValueError("time: missing: several readings of one device need times of their own, or every: how far they are apart")
        self._time, self._every = payload.time, payload.every
        self._names_device = device_field is not None
        self._where: Path = () if where == "." else fields.split(where)
        self._paths = [payload.fields.get(feature.name, feature.name) for feature in self._sent]
        self._numbers = [isinstance(feature, Number) for feature in self._sent]
        self._paths += [payload.time.field] if payload.time else []
        self._paths += [device_field] if device_field else []

    @abstractmethod
    def _used(self) -> set[Path]:
        """Paths that are looked at."""

    def _outside(self, leaves: dict[Path, Leaf], kinds: Sequence[Leaf]) -> list[Callable[[object], Any]]:
        """Add the paths that lie beside the series to a struct's leaves; where a path would lie within, nothing is found."""
        getters: list[Callable[[object], Any]] = []
        for text, leaf in zip(self._paths, kinds, strict=True):
            path = fields.split(text)
            shared = min(len(path), len(self._where))
            if path[:shared] == self._where[:shared]:
                getters.append(functools.partial(_nothing, leaf.absent))
            else:
                fields.put_leaf(leaves, path, leaf)
                getters.append(fields.path_getter(path))
        return getters

    def _found(self, row: Sequence[Any], message: Message, device: str, before_last: int) -> Found:
        """A reading from what its paths led to.

        Raises:
            ReadingError: it has no time or device.
        """
        if self._names_device:
            device = fields.device_name(row[-1])
        count = len(self._numbers)
        time = fields.seconds_of(row[count], self._time.field, self._time.unit) if self._time else None
        if self._every is not None:
            time = (message.arrived if time is None else time) - before_last * self._every
            if message.retained and self._time is None:
                time = None  # counted from the arrival, which says nothing
        return Found(device, time, [math.nan if n and v is None else v for v, n in zip(row[:count], self._numbers, strict=True)])

    def unused(self, message: Message) -> list[str]:
        """See Decoder."""
        return fields.unused_paths(message.payload, self._used())


class ReadingsDecoder(_Series):
    """Decodes payloads with an array of objects, each of them one reading; see _Series."""

    def __init__(self, payload: PayloadSpec, features: FeatureSpec, device_field: str | None, limits: PayloadLimits) -> None:
        assert payload.readings is not None
        super().__init__(payload, features, device_field, limits, payload.readings)
        kinds = [fields.leaf_of(feature, nullable=payload.merges) for feature in self._sent]
        kinds += [fields.time_leaf(payload.time.unit)] if payload.time else []
        kinds += [fields.DEVICE] if device_field else []
        self._inner: dict[Path, Leaf] = {}
        for path, leaf in zip(self._paths, kinds, strict=True):
            fields.add_leaf(self._inner, path, leaf)
        self._decode_inner: Callable[[Any], Any] = msgspec.json.Decoder(fields.struct_type(self._inner)).decode
        self._row_of = fields.row_getter(self._paths)
        self._outer: dict[Path, Leaf] = {}
        self._beside: list[Callable[[object], Any]] = []
        document: Any = list[msgspec.Raw]
        self._array_of: Callable[[Any], list[msgspec.Raw]] = lambda document: document
        if self._where:
            self._outer[self._where] = Leaf(list[msgspec.Raw], [])
            self._beside = self._outside(self._outer, kinds)
            document = fields.struct_type(self._outer)
            self._array_of = fields.path_getter(self._where)
        self._decode = msgspec.json.Decoder(document).decode

    def _read(self, message: Message, device: str, notes: Notes) -> Sequence[Found]:
        check_shape(message.payload, self._limits)
        document = fields.decode_strictly(self._decode, message.payload)
        elements = self._array_of(document)
        if len(elements) > MAX_READINGS:
            raise ReadingError("too_many", f"payload holds more than {MAX_READINGS} readings")
        shared = [get(document) for get in self._beside]
        found = []
        for before_last, element in zip(range(len(elements) - 1, -1, -1), elements, strict=True):
            try:
                row = self._row_of(fields.decode_strictly(self._decode_inner, element))
                if shared:
                    row = tuple(s if own is None or own != own else own for own, s in zip(row, shared, strict=True))
                found.append(self._found(row, message, device, before_last))
            except ReadingError as error:
                notes.faults.append(error)
        return found

    def _used(self) -> set[Path]:
        return {*(path for path in self._outer if path != self._where), *((*self._where, fields.ANY, *path) for path in self._inner)}


class ColumnsDecoder(_Series):
    """Decodes payloads with an object of arrays, the n-th elements of which are one reading; see _Series."""

    def __init__(self, payload: PayloadSpec, features: FeatureSpec, device_field: str | None, limits: PayloadLimits) -> None:
        assert payload.columns is not None
        super().__init__(payload, features, device_field, limits, payload.columns)
        kinds = [_single(feature) for feature in self._sent]
        kinds += [Leaf(datetime | None if payload.time.unit == "iso" else float | None, None)] if payload.time else []
        kinds += [fields.DEVICE] if device_field else []
        self._leaves: dict[Path, Leaf] = {}
        self._within = []
        for text, leaf in zip(self._paths, kinds, strict=True):
            path = (*self._where, *fields.split(text))
            fields.put_leaf(self._leaves, path, Leaf(list[leaf.type] | leaf.type, None))  # type: ignore[name-defined] # because the type is made at run time
            self._within.append(fields.path_getter(path))
        self._beside = self._outside(self._leaves, kinds) if self._where else []
        self._decode: Callable[[Any], Any] = msgspec.json.Decoder(fields.struct_type(self._leaves)).decode

    def _read(self, message: Message, device: str, notes: Notes) -> Sequence[Found]:
        check_shape(message.payload, self._limits)
        document = fields.decode_strictly(self._decode, message.payload)
        columns = [get(document) for get in self._within]
        if self._beside:
            columns = [get(document) if own is None else own for own, get in zip(columns, self._beside, strict=True)]
        lengths = {len(column) for column in columns if isinstance(column, list)}
        if len(lengths) != 1:
            what = "its columns differ in length" if lengths else "no mapped field is an array"
            raise ReadingError("columns", f"payload: {what}")
        (length,) = lengths
        if length > MAX_READINGS:
            raise ReadingError("too_many", f"payload holds more than {MAX_READINGS} readings")
        filled = [column if isinstance(column, list) else [column] * length for column in columns]
        found = []
        for position, row in enumerate(zip(*filled, strict=True)):
            try:
                found.append(self._found(row, message, device, length - 1 - position))
            except ReadingError as error:
                notes.faults.append(error)
        return found

    def _used(self) -> set[Path]:
        return set(self._leaves)


def _nothing(absent: object, _: object) -> object:
    return absent


def _single(feature: Feature) -> Leaf:
    """What one element of a feature's column may be; null where there is no value.

    Raises:
        ValueError: it is a list itself.
    """
    if isinstance(feature, Categories):
        raise ValueError(f'columns: feature "{feature.name}" is a list itself: send an array of objects, and say readings')  # noqa: TRY004 because the mapping is at fault, not the call
    return Leaf(float | None if isinstance(feature, Number) else Scalar | None, None)
