"""systemd/agent.yaml, which every gateway begins with: every option is in it, with its true default."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
import yaml

from conftest import REPOSITORY
from vedette import config
from vedette.broker import Broker
from vedette.config import Config
from vedette.contract import documents

STARTING = REPOSITORY / "systemd" / "agent.yaml"


def whole() -> dict[str, Any]:
    """The file as if nothing in it were commented out."""
    text = re.sub(r"^( *)# ?( *- |  +)?([a-z_]+:)", r"\1\2\3", STARTING.read_text(), flags=re.MULTILINE)
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def options(type_: Any, shown: Any, path: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo, Any]]:
    """Every option of a struct and of those in it, and what the file has there; an ellipsis where it has nothing."""
    for field in msgspec.structs.fields(type_):
        where, value = f"{path}{field.encode_name}", shown.get(field.encode_name, ...) if isinstance(shown, dict) else ...
        yield where, field, value
        for inner in (field.type, *get_args(field.type)):
            # A stream's own alerts are those of all.
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and where != "streams.alerts":
                yield from options(inner, value[0] if isinstance(value, list) else value, f"{where}.")


SHOWN = list(options(Config, whole()))


@pytest.mark.parametrize(("path", "field", "value"), SHOWN, ids=[path for path, *_ in SHOWN])
def test_every_option_is_shown_with_its_true_default(path: str, field: msgspec.structs.FieldInfo, value: Any) -> None:
    assert value is not ..., f"systemd/agent.yaml does not show {path}"
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    # What has no default of its own is shown by an example, and so are parts: their own options are looked at one by one.
    if default in (msgspec.NODEFAULT, None) or isinstance(default, msgspec.Struct) or default == {}:
        return
    assert repr(msgspec.convert(value, field.type, dec_hook=documents._parse)) == repr(default)


def test_nothing_is_shown_that_is_no_option() -> None:
    document = whole()
    assert set(document) == {field.encode_name for field in msgspec.structs.fields(Config)}
    # As a whole it contradicts itself: what goes with other things only is left out.
    document["broker"]["url"] = "mqtts://localhost"
    stream = document["streams"][0]
    del stream["device"]
    for name in ("readings", "columns", "every"):
        del stream["payload"][name]
    msgspec.convert(config._complete(document), Config, dec_hook=documents._parse)


def test_as_it_is_only_broker_topic_and_model_are_chosen() -> None:
    read = config.load(STARTING)
    stream = msgspec.structs.replace(read.streams[0], payload=msgspec.structs.replace(read.streams[0].payload, time=None))
    fresh = Config(gateway=read.gateway, broker=Broker(url=read.broker.url), streams=(stream,))
    assert msgspec.structs.replace(read, streams=(stream,)) == fresh
