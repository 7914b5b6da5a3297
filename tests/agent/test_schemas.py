"""The JSON Schemas that subscribers are given say what the agent publishes: no less, and no more."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from judges import Bench, Reading
from schemas import FOLDER, faults, schema, validator
from vedette.alerts import Alert
from vedette.cloudevents import schema_urn
from vedette.config import Alerts
from vedette.detector import Cause
from vedette.phrases import Crowd
from vedette.rollout import ModelReport
from vedette.state import DeviceState
from vedette.trial import Comparison, Tally, Verdict

MODEL = schema("model-1")
CAUSE = schema("alert-1")["properties"]["explanation"]["items"]


def alert(**changes: Any) -> dict[str, Any]:
    """An alert as it is published."""
    (told,) = Bench(Alerts()).alerts([Reading("d", 1_790_000_000.0 + 60 * k, 1.5) for k in range(3)])
    found: dict[str, Any] = json.loads(msgspec.json.encode(told))
    return {**found, **changes}


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_a_schema_is_named_for_what_it_is_of_and_its_version(path: Path) -> None:
    kind, version = path.name.removesuffix(".schema.json").split("-")
    assert schema(f"{kind}-{version}")["$id"] == f"urn:vedette:{kind}:{version}"
    jsonschema.Draft202012Validator.check_schema(schema(f"{kind}-{version}"))


@pytest.mark.parametrize(
    ("struct", "described"),
    [
        (Alert, schema("alert-1")),
        (Cause, CAUSE),
        (DeviceState, schema("state-1")),
        (ModelReport, MODEL),
        (Verdict, MODEL["properties"]["last"]["oneOf"][1]),
        (Comparison, MODEL["$defs"]["comparison"]),
        (Tally, MODEL["$defs"]["tally"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_schema_has_the_keys_of_what_is_published(struct: type[msgspec.Struct], described: dict[str, Any]) -> None:
    fields = msgspec.structs.fields(struct)
    assert list(described["properties"]) == [field.encode_name for field in fields]
    optional = {field.encode_name for field in fields if field.default is msgspec.UNSET}
    assert set(described["required"]) == set(described["properties"]) - optional


def test_an_alert_says_which_schema_it_is_by() -> None:
    (field,) = (field for field in msgspec.structs.fields(Alert) if field.name == "schema")
    assert field.default == schema("alert-1")["properties"]["schema"]["const"]
    assert schema_urn(field.default) == schema("alert-1")["$id"]


def test_what_a_later_version_adds_is_no_fault() -> None:
    assert not faults("alert-1", alert(since="a later version"))


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "vedette.alert/2"},
        {"id": "no digest"},
        {"type": "begin"},
        {"kind": "fire"},
        {"severity": "fatal"},
        {"kind": "stuck", "windows": 0, "severity": "critical"},
        {"kind": "silent"},
        {"score": None},
        {"peak": None},
        {"windows": -1},
        {"ended": "2026-11-21T10:02:31Z"},
        {"type": "end", "ended": None},
        {"time": "2026-11-21 10:02:31"},
        {"time": 1_790_000_000},
        {"device": ""},
        {"devices": 3},
        {"names": ["d"]},
        {"explanation": [{"feature": "f", "share": 1.5, "observed": 1.0, "expected": None}]},
        {"explanation": [{"feature": "f", "share": 0.5}]},
        {"model": {"name": "fridge"}},
        {"stream": "a/b"},
    ],
    ids=str,
)
def test_what_an_alert_never_says_is_a_fault(changes: dict[str, Any]) -> None:
    assert not faults("alert-1", alert())
    assert faults("alert-1", alert(**changes))


def test_alerts_about_many_devices_are_as_the_schema_says() -> None:
    """Of a group and of a stream; those of one device are what all other tests of alerts are about."""
    bench = Bench(Alerts(group=Crowd.parse("3 within 60s")))
    group = bench.alerts([Reading(device, 1_790_000_000.0 + step, 1.5) for step in range(3) for device in "abc"])
    assert [told.devices for told in group if not told.device] == [3]
    bench = Bench(Alerts())
    drift = bench.alerts([Reading(f"d{n}", 1_790_000_000.0 + step, 1.5) for step in range(5) for n in range(10)])
    assert [told.kind for told in drift if not told.device] == ["drift"]
    for told in [*group, *drift]:
        assert not faults("alert-1", json.loads(msgspec.json.encode(told)))


def test_a_state_shows_what_an_alert_is_about_as_long_as_there_is_one() -> None:
    calm = {"score": 0.4, "time": 1.0, "alert": None}
    alarmed = {**calm, **{key: alert()[key] for key in ("kind", "severity", "started", "explanation")}, "alert": alert()["id"]}
    assert not faults("state-1", calm)
    assert not faults("state-1", alarmed)
    assert faults("state-1", {**alarmed, "alert": None})
    assert faults("state-1", {**calm, "alert": alert()["id"]})


def test_schemas_describe_every_key() -> None:
    """For whoever reads the schema and nothing else."""

    def bare(value: Any, where: str) -> list[str]:
        found = []
        for key, each in value.get("properties", {}).items():
            if isinstance(each, dict) and "$ref" not in each and "description" not in each:
                found.append(f"{where}.{key}")
        return found

    for path in FOLDER.iterdir():
        name = path.name.removesuffix(".schema.json")
        assert bare(validator(name).schema, name) == []
