"""YAML documents into frozen structs: the agent's configuration and the workstation's recipes.

Rules this module keeps: an error is one line that names the file, the key's path, what was wrong and what is expected.
"""

import difflib
import re
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import yaml

from vedette.contract.errors import ConfigError

T = TypeVar("T")

_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?", re.DOTALL)


def load(path: Path, type_: type[T], complete: Callable[[object], object] = lambda document: document) -> T:
    """Read a YAML file into a struct. A field whose type has a `parse` class method is read by it.

    Args:
        path: The file.
        type_: The struct.
        complete: Fills in what the document leaves to another.

    Raises:
        ConfigError: it cannot be read, is not YAML, or is not what the type says.
    """
    with blaming(path):
        document = complete(read_yaml(path))
        try:
            return msgspec.convert(document, type_, dec_hook=_parse)
        except msgspec.ValidationError as error:
            raise ConfigError(_explain(str(error), document, type_)) from error


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Put a file's name in front of every ConfigError: some keys can be checked only later, against what they refer to."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def read_yaml(path: Path) -> object:
    """Read a YAML file.

    Raises:
        ConfigError: it cannot be read, or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{where}not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error


def _parse(type_: Any, value: object) -> Any:
    return type_.parse(value)


def _explain(message: str, data: object, type_: type) -> str:
    """Turn msgspec's `what - at $.path` into `path: what`."""
    match = _MESSAGE.fullmatch(message)
    assert match
    what, path = match["what"], (match["path"] or "$").removeprefix("$").removeprefix(".")
    if key := re.search(r"(unknown|missing required) field `([^`]*)`", what):
        path = f"{path}.{key[2]}".removeprefix(".")
        if key[1] != "unknown":
            return f"{path}: missing, and it has no default"
        known = _keys(_type_at(type_, _keys_of(path)[:-1], data))
        close = difflib.get_close_matches(key[2], known, 1)
        return f"{path}: unknown key; " + (f'did you mean "{close[0]}"?' if close else f"known keys: {', '.join(known)}")
    if re.match(r"\w+: ", what):  # a struct's own check names the field that it is about
        return f"{path}.{what}".removeprefix(".")
    value = _value_at(data, path)
    if "enum value" in what:
        choices = [str(c) for c in typing.get_args(_type_at(type_, _keys_of(path), data))]
        what = f"expected {' or '.join(filter(None, [', '.join(choices[:-1]), choices[-1]]))}"
    what = what[0].lower() + what[1:].replace("`", "")
    got = f", got {value!r}" if "got" not in what and isinstance(value, str | int | float) else ""
    return f"{path}: {what}{got}" if path else f"{what}{got}"


def _keys_of(path: str) -> list[str]:
    return re.findall(r"[^.\[\]]+", path)


def _value_at(data: Any, path: str) -> object:
    for key in _keys_of(path):
        try:
            data = data[int(key)] if isinstance(data, list) else data[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return data


def _type_at(type_: Any, keys: list[str], data: object) -> Any:
    """The struct, or the field's type, that a path leads to; lists, optional values and tagged unions are looked through."""
    for depth, key in enumerate(keys, start=1):
        if not key.isdigit():
            fields = {f.encode_name: f.type for f in msgspec.structs.fields(type_)} if _is_struct(type_) else {}
            type_ = fields.get(key, object)
        inner = [a for a in _members(type_) if _is_struct(a) or typing.get_origin(a) is Literal]
        value = _value_at(data, ".".join(keys[:depth]))
        if tagged := [a for a in inner if _is_struct(a) and isinstance(value, dict) and _tag(a) in value.items()]:
            inner = tagged
        type_ = inner[0] if inner else type_
    return type_


def _members(type_: Any) -> list[Any]:
    """What a type may be, element or key or value: the leaves of its unions and containers."""
    arguments = typing.get_args(type_)
    if not arguments or typing.get_origin(type_) is Literal:
        return [type_]
    return [member for argument in arguments for member in _members(argument)]


def _tag(type_: Any) -> tuple[str | None, object]:
    return type_.__struct_config__.tag_field, type_.__struct_config__.tag


def _keys(type_: Any) -> list[str]:
    return [f.encode_name for f in msgspec.structs.fields(type_)] if _is_struct(type_) else []


def _is_struct(type_: object) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)
