"""`make options`: docs/options.md, from the configuration's own structs and what their docstrings say.

Rules this module keeps: no default and no option is written here; an option that its struct says nothing of is a fault of the struct.
"""

import inspect
import os
import re
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from vedette.config import Config
from vedette.contract.durations import Duration, Size
from vedette.phrases import Crowd, Loopback, Rule, TrialLength

PAGE = Path(__file__).resolve().parents[1] / "docs" / "options.md"
COMMAND = "make options"

_TOP = f"""# Every option

<!-- made by `{COMMAND}` from agent/vedette/config.py; what is changed here by hand is lost -->

`/etc/vedette/agent.yaml`, key by key. [`systemd/agent.yaml`](../systemd/agent.yaml) is the same as a file to begin with. What is not
there has its default; a key that is not known is an error, as is a value of another form, and the message says which key and what is
expected. `vedette check` reads the file as the agent does.

A *duration* is a number with `ms`, `s`, `m`, `h` or `d`, such as `90s` or `7d`, or a bare number of seconds. A *size* is a number with
`KiB`, `MiB` or `GiB`, or of bytes. Where *none* is a default, `null` says so too.

More of the parts: [broker.md](broker.md), [payloads.md](payloads.md),
[alerts.md](alerts.md), [durability.md](durability.md), [fleet.md](fleet.md), [home-assistant.md](home-assistant.md), and for
`metrics` [operations.md](operations.md).
"""

_FORMS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    Duration: "duration",
    Size: "size",
    Rule: "`M of N`",
    Crowd: "`N within T` or `P% within T`",
    Loopback: "`ADDRESS:PORT` of this machine",
    TrialLength: "duration, `N windows` or `off`",
}
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"), (0.001, "ms"))
_BYTES = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def page() -> str:
    """The whole page."""
    return _TOP + "".join(_sections(Config, "", {Config}))


def _sections(struct: type[msgspec.Struct], path: str, seen: set[type]) -> Iterator[str]:
    """A struct's table, and those of the structs in it; each struct once."""
    said = _said(struct)
    hints = get_type_hints(struct, include_extras=True)
    rows, below = [], []
    for field in msgspec.structs.fields(struct):
        here = f"{path}{field.encode_name}"
        inner, many = _struct(hints[field.name])
        if field.name not in said:
            raise LookupError(f"{struct.__module__}.{struct.__name__}: its docstring says nothing of {field.name}, so nor can {PAGE.name}")
        form = f"[below](#{_anchor(here, many=many)})" if inner else _form(hints[field.name])
        rows.append(f"| `{field.encode_name}` | {form} | {_default(field, inner)} | {said[field.name]} |\n")
        if inner and inner not in seen:
            seen.add(inner)
            below.append((inner, f"{here}[]." if many else f"{here}."))
    title = f"`{path.rstrip('.')}`\n\n{said['']}" if path else "At the top"
    yield f"\n## {title}\n\n| key | form | default | what it is, and when to change it |\n| --- | --- | --- | --- |\n{''.join(rows)}"
    for inner, at in below:
        yield from _sections(inner, at, seen)


def _anchor(path: str, *, many: bool) -> str:
    """Where a renderer of Markdown puts a heading; a stream's own alerts are those of all."""
    return "alerts" if path.endswith(".alerts") else re.sub(r"[^a-z0-9_-]", "", path)


def _struct(hint: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    """The struct that a hint is about, and whether it is about several."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint, False
    for inner in get_args(hint) if get_origin(hint) in {Union, types.UnionType, tuple} else ():
        found, _ = _struct(inner)
        if found:
            return found, get_origin(hint) is tuple
    return None, False


def _form(hint: Any) -> str:
    """What may stand there."""
    if hint in _FORMS:
        return _FORMS[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        meta = next((each for each in arguments[1:] if isinstance(each, msgspec.Meta)), msgspec.Meta())
        bounds = [("at least", meta.ge), ("more than", meta.gt), ("at most", meta.le), ("under", meta.lt)]
        return ", ".join([_form(arguments[0]), *(f"{word} {bound:g}" for word, bound in bounds if bound is not None)])
    if origin is Literal:
        *first, last = [f"`{value}`" for value in arguments]
        return f"{', '.join(first)} or {last}" if first else last
    if origin is tuple:
        return f"list of {_form(arguments[0])}s"
    if origin in {dict, Mapping}:
        return "keys and texts"
    if not arguments:
        raise LookupError(f"{hint}: nobody has said here what form that has")
    return " or ".join(_form(each) for each in arguments if each is not type(None))


def _default(field: msgspec.structs.FieldInfo, inner: type[msgspec.Struct] | None) -> str:
    if field.required:
        return "**needed**"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None or value == {}:
        return "none"
    return "" if inner else f"`{_written(value)}`"


def _written(value: Any) -> str:
    """A default as one would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, TrialLength):
        return _written(Duration(value.seconds)) if value.seconds else repr(value)
    if isinstance(value, Duration):
        unit, word = next((unit, word) for unit, word in _UNITS if value % unit == 0 or unit < 1)
        return f"{value / unit:g}{word}"
    if isinstance(value, Size):
        unit, word = next(((unit, word) for unit, word in _BYTES if value % unit == 0), (1, ""))
        return f"{value // unit}{word}"
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _said(struct: type) -> dict[str, str]:
    """What a struct's docstring says of each attribute, and of the struct, under an empty name."""
    text, _, attributes = inspect.cleandoc(struct.__doc__ or "").partition("\n\nAttributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", attributes, re.MULTILINE)
    said = {name: " ".join(words.split()).replace("|", "\\|") for name, words in found}
    return {"": " ".join(text.split()), **said}


if __name__ == "__main__":
    os.environ.pop("STATE_DIRECTORY", None)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: written", file=sys.stderr)
