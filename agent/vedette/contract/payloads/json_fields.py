"""Mapped fields of JSON payloads as msgspec structs, so that only they become Python objects and everything else is skipped.

Rules this module keeps: types are strict, so text or true is never taken for a number; NaN and infinity are no JSON.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from vedette.contract.errors import ReadingError
from vedette.contract.features import Categories, Feature, Number, Scalar
from vedette.contract.payloads.json_shape import why_invalid, why_malformed
from vedette.contract.payloads.spec import Unit

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}

MAX_INDEX = 99
"""A path may look at the first so many elements of an array."""

_PART = re.compile(r"(?:\\.|[^.\\])+")
_INDEX = re.compile(r"(?<!\\)\[(\d+)\]$")

Path = tuple[str | int, ...]

ANY = -1
"""In a path that is looked at: every element of an array."""


class Leaf(NamedTuple):
    """A mapped field's type, and what stands for it where it is not there."""

    type: Any
    absent: object


NUMBER = Leaf(float, math.nan)
CATEGORY = Leaf(Scalar, None)
CATEGORIES = Leaf(list[Scalar] | Scalar, None)
INSTANT = Leaf(datetime | None, None)
DEVICE = Leaf(str | int | None, None)


def leaf_of(feature: Feature, *, nullable: bool = False) -> Leaf:
    """What a payload may hold for a feature; `nullable` lets null stand for nothing."""
    leaf = NUMBER if isinstance(feature, Number) else CATEGORIES if isinstance(feature, Categories) else CATEGORY
    return Leaf(leaf.type | None, leaf.absent) if nullable else leaf


def time_leaf(unit: Unit) -> Leaf:
    """What a payload may hold for a time."""
    return INSTANT if unit == "iso" else NUMBER


def split(path: str) -> Path:
    r"""A path's parts: keys, and indexes of arrays. `a.b[0]` is `("a", "b", 0)`; a backslash takes the next character as it is.

    Raises:
        ValueError: it is no path.
    """
    parts: list[str | int] = []
    for part in _PART.findall(path):
        indexes: list[int] = []
        key = part
        while match := _INDEX.search(key):
            indexes.insert(0, int(match[1]))
            key = key[: match.start()]
        if key:
            parts.append(re.sub(r"\\(.)", r"\1", key))
        parts += indexes
    if not parts or any(isinstance(part, int) and part > MAX_INDEX for part in parts):
        raise ValueError(f'fields: "{path}": expected a path such as a, a.b or a.b[0], with an index of at most {MAX_INDEX}')
    return tuple(parts)


def add_leaf(leaves: dict[Path, Leaf], path: str, leaf: Leaf) -> None:
    """Map a path.

    Raises:
        ValueError: it is no path, or mapped as something else already.
    """
    put_leaf(leaves, split(path), leaf)


def put_leaf(leaves: dict[Path, Leaf], path: Path, leaf: Leaf) -> None:
    """As add_leaf, for a path in its parts."""
    if leaves.setdefault(path, leaf) != leaf:
        shown = ".".join(map(str, path))
        raise ValueError(f'fields: "{shown}" is mapped twice, as two different kinds')


def struct_type(leaves: Mapping[Path, Leaf], name: str = "Payload") -> type:
    """A struct whose nested fields follow the paths.

    Raises:
        ValueError: two paths contradict each other.
    """
    nested: dict[str | int, dict[Path, Leaf]] = {}
    fields: dict[str | int, tuple[Any, Any]] = {}
    for path, leaf in leaves.items():
        if len(path) > 1:
            nested.setdefault(path[0], {})[path[1:]] = leaf
        else:
            fields[path[0]] = (leaf.type, leaf.absent)
    for head, inner in nested.items():
        if head in fields:
            raise ValueError(f'fields: "{head}" is mapped both as a value and as an object')
        inner_type = struct_type(inner, str(head))
        fields[head] = (inner_type, msgspec.field(default_factory=inner_type))
    indexes = [head for head in fields if isinstance(head, int)]
    if indexes and len(indexes) < len(fields):
        raise ValueError(f'fields: "{name}" is mapped both as an array and as an object')
    if indexes:
        # An array's elements by their places; those in between are not looked at.
        every = {index: fields.get(index, (msgspec.Raw, msgspec.Raw(b"null"))) for index in range(max(indexes) + 1)}
        return msgspec.defstruct(name, [(_identifier(i), *every[i]) for i in every], array_like=True, frozen=True, gc=False)
    rename = {_identifier(head): str(head) for head in fields}
    return msgspec.defstruct(name, [(_identifier(h), *fields[h]) for h in fields], rename=rename, frozen=True, gc=False)


def _identifier(key: str | int) -> str:
    """A Python identifier for a payload's key, whatever characters it has."""
    return f"i{key}" if isinstance(key, int) else "k" + key.encode().hex()


def value_getter(path: str) -> Callable[[object], Any]:
    """Takes one mapped field from a struct."""
    return path_getter(split(path))


def path_getter(path: Path) -> Callable[[object], Any]:
    """As value_getter, for a path in its parts."""
    return operator.attrgetter(".".join(map(_identifier, path)))


def row_getter(paths: list[str]) -> Callable[[object], tuple[Any, ...]]:
    """Takes the mapped fields from a struct, as a tuple."""
    if not paths:
        return lambda _: ()
    get = operator.attrgetter(*(".".join(map(_identifier, split(path))) for path in paths))
    return get if len(paths) > 1 else lambda fields: (get(fields),)


def decode_strictly(decode: Callable[[Any], Any], payload: Any) -> Any:
    """Decode JSON.

    Raises:
        ReadingError: with what msgspec says about it, which is never a value that was sent.
    """
    try:
        return decode(payload)
    except UnicodeDecodeError as error:
        raise ReadingError("encoding", f"payload is not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise ReadingError("depth", "payload is nested too deeply") from error
    except msgspec.ValidationError as error:
        raise why_invalid(str(error)) from error
    except msgspec.DecodeError as error:
        raise why_malformed(bytes(payload), str(error)) from error


def seconds_of(value: float | datetime | None, field: str, unit: Unit) -> float:
    """A time field's value as epoch seconds.

    Raises:
        ReadingError: there is none, or it has no UTC offset.
    """
    if value is None or value != value:
        raise ReadingError("time", f"payload has no {field}")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ReadingError("time", f"{field} has no UTC offset")
        return value.timestamp()  # not by way of UTC: at the calendar's ends that would overflow
    return value * UNITS[unit]


def device_name(value: str | int | None) -> str:
    """A device field's value as a name.

    Raises:
        ReadingError: there is none.
    """
    if value is None:
        raise ReadingError("device", "payload has no device name")
    return str(value)


def unused_paths(payload: bytes, used: set[Path]) -> list[str]:
    """Dotted paths of a payload's values that are not in `used`; of arrays only the first element is looked at, as `[]`."""
    try:
        document = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    found: list[str] = []
    _collect(document, (), "", used, found)
    return found


def _collect(value: Any, path: Path, shown: str, used: set[Path], found: list[str]) -> None:
    if path in used or len(path) > 8:
        return
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            _collect(inner, (*path, key), f"{shown}.{key}" if shown else key, used, found)
    elif isinstance(value, list) and value:
        looked_at = {step[len(path)] for step in used if len(step) > len(path) and step[: len(path)] == path}
        if ANY not in looked_at and any(isinstance(step, int) for step in looked_at):
            for index, inner in enumerate(value[: MAX_INDEX + 1]):
                _collect(inner, (*path, index), f"{shown}[{index}]", used, found)
        elif isinstance(value[0], dict):
            _collect(value[0], (*path, ANY), f"{shown}[]", used, found)
        elif shown:
            found.append(shown)
    elif shown:
        found.append(shown)
