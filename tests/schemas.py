"""What the agent publishes, held to the JSON Schemas that subscribers are given."""

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from referencing import Registry, Resource

import vedette
from vedette.alerts import Alert, Finding, Judge
from vedette.outbox import Outbox

FOLDER = Path(vedette.__file__).parent / "schemas"

MOST_OF_A_SHAPE = 20
"""Messages that differ in numbers and names alone: property tests make a hundred thousand alerts, each a third of a millisecond."""

_TOPICS = {"alerts": "alert-1", "state": "state-1", "models": "model-1", "stats": "stats-1"}


def schema(name: str) -> dict[str, Any]:
    """A schema as it is shipped."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    return found


@functools.cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """What checks JSON by a schema."""
    jsonschema.Draft202012Validator.check_schema(schema(name))
    registry = Registry().with_resources((each["$id"], Resource.from_contents(each)) for each in map(schema, ("alert-1",)))
    checks = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return jsonschema.Draft202012Validator(schema(name), registry=registry, format_checker=checks)


def faults(name: str, value: object) -> list[str]:
    """Where JSON is not as a schema says."""
    return [f"{name}: {'.'.join(map(str, error.path))}: {error.message}" for error in validator(name).iter_errors(value)]


def faults_of_message(topic: str, payload: bytes | bytearray) -> list[str]:
    """Where a message of an agent is not as its schema says; what a test has put in its mouth, and what was removed, is left alone."""
    kind = (*topic.split("/"), "")[2]
    if kind not in _TOPICS or not payload:
        return []
    value = json.loads(payload)
    return _faults(_TOPICS[kind], value) if kind != "alerts" or "schema" in value else []


_SEEN: Counter[object] = Counter()


def _faults(name: str, value: Any) -> list[str]:
    """Where JSON is not as a schema says: the first ones of each shape."""
    shape = name, _shape(value)
    _SEEN[shape] += 1
    return faults(name, value) if _SEEN[shape] <= MOST_OF_A_SHAPE else []


def _shape(value: Any, key: str = "") -> object:
    if isinstance(value, dict):
        return tuple((name, _shape(each, name)) for name, each in value.items())
    if isinstance(value, list):
        return tuple(_shape(each) for each in value)
    return value if key in {"type", "kind", "severity", "schema"} else (type(value), not value)


@contextmanager
def holding_alerts() -> Iterator[None]:
    """Meanwhile, whatever comes out of a judge or goes into an outbox in this process is checked."""

    def check(alerts: Sequence[Alert]) -> None:
        found = [fault for alert in alerts for fault in _faults("alert-1", json.loads(msgspec.json.encode(alert)))]
        assert not found, found

    def checking_findings(method: Callable[..., list[Finding]]) -> Callable[..., list[Finding]]:
        @functools.wraps(method)
        def checked(*arguments: Any, **more: Any) -> list[Finding]:
            findings = method(*arguments, **more)
            check([finding.alert for finding in findings])
            return findings

        return checked

    def outgoing(self: Outbox, alerts: Sequence[Alert]) -> Any:
        check(alerts)
        return sends(self, alerts)

    sends = Outbox.outgoing
    with pytest.MonkeyPatch.context() as patch:
        for name in ("judge", "tick", "depart", "forget", "adopt"):
            patch.setattr(Judge, name, checking_findings(getattr(Judge, name)))
        patch.setattr(Outbox, "outgoing", outgoing)
        yield
