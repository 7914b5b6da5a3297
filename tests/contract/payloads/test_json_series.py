import json
from typing import Any

import msgspec
import pytest

from vedette.contract.features import Categories, Category, FeatureSpec, Number
from vedette.contract.payloads import PayloadSpec, TimeField, decoder_for
from vedette.contract.readings import Message, Readings

SPEC: FeatureSpec = (Number(name="temp"), Category(name="door"))
ARRIVED = 1_790_000_000.0
TS = {"field": "ts"}


def decode(payload: object, device_field: str | None = None, *, retained: bool = False, **spec: Any) -> Readings:
    decoder = decoder_for(msgspec.convert(spec, PayloadSpec, dec_hook=lambda type_, value: type_.parse(value)), SPEC, device_field)
    return decoder.decode_batch([Message("t", json.dumps(payload).encode(), ARRIVED, retained)], ["d1"])


def plain(readings: Readings) -> list[tuple[object, ...]]:
    """With NaN as None, so that it equals itself."""
    rows = [[None if value != value else value for value in row] for row in readings.values]
    return [(d, ARRIVED - t, *row) for d, t, row in zip(readings.devices, readings.times, rows, strict=True)]


def test_a_payload_may_be_an_array_of_readings() -> None:
    read = decode([{"ts": ARRIVED - 60, "temp": 3}, {"ts": ARRIVED, "temp": 4, "door": "shut"}], readings=".", time=TS)
    assert plain(read) == [("d1", 60, 3, None), ("d1", 0, 4, "shut")]
    assert (read.accepted, read.arrived) == (1, [ARRIVED, ARRIVED])


def test_readings_come_in_the_order_of_their_times() -> None:
    assert plain(decode([{"ts": ARRIVED, "temp": 4}, {"ts": ARRIVED - 60, "temp": 3}], readings=".", time=TS)) == [
        ("d1", 60, 3, None),
        ("d1", 0, 4, None),
    ]


def test_what_is_written_once_beside_the_array_holds_for_all() -> None:
    payload = {
        "ts": ARRIVED,
        "door": "shut",
        "data": {"list": [{"temp": 3, "id": "a"}, {"temp": 4, "id": "b", "door": "open"}, {"temp": 5}]},
    }
    read = decode(payload, "id", readings="data.list", time=TS)
    assert plain(read) == [("a", 0, 3, "shut"), ("b", 0, 4, "open")]
    assert read.partial == {"device": 1}
    assert plain(decode({**payload, "id": "c"}, "id", readings="data.list", time=TS))[2] == ("c", 0, 5, "shut")


def test_one_bad_reading_does_not_spoil_the_others() -> None:
    elements = [
        {"ts": ARRIVED, "temp": "hot"},
        7,
        {"ts": ARRIVED, "temp": 4},
        {"temp": 5},
        {"ts": ARRIVED + 9e9, "temp": 1},
        {"ts": ARRIVED},
    ]
    read = decode({"r": elements}, readings="r", time=TS)
    assert plain(read) == [("d1", 0, 4, None)]
    assert (read.accepted, read.partial) == (1, {"type": 2, "time": 1, "future": 1, "empty": 1})
    assert decode({"r": elements[:2]}, readings="r", time=TS).rejected == {"type": 1}


@pytest.mark.parametrize("payload", [{}, {"r": []}])
def test_an_array_without_readings_is_empty(payload: object) -> None:
    assert decode(payload, readings="r", time=TS).rejected == {"empty": 1}


@pytest.mark.parametrize(("payload", "reason"), [({"r": {}}, "type"), ([], "type"), ({"r": [{}] * 10_001}, "too_many")])
def test_what_is_no_array_of_readings_is_refused(payload: object, reason: str) -> None:
    assert decode(payload, readings="r", time=TS).rejected == {reason: 1}


def test_readings_without_times_are_spaced_back_from_the_last() -> None:
    elements = [{"temp": 1}, {"temp": None}, {"temp": 3}]
    assert plain(decode(elements, readings=".", every="10s")) == [("d1", 20, 1, None), ("d1", 0, 3, None)]
    late = {"ts": ARRIVED - 100, "r": elements}
    assert plain(decode(late, readings="r", every="10s", time=TS)) == [("d1", 120, 1, None), ("d1", 100, 3, None)]
    assert decode(elements, readings=".", every="10s", retained=True).rejected == {"null": 1}
    assert decode(elements[:1], readings=".", every="10s", retained=True).rejected == {"retained": 1}


def test_columns_are_read_row_by_row() -> None:
    payload = {"ts": [ARRIVED - 60, ARRIVED], "temp": [3, None], "door": ["open", "shut"]}
    assert plain(decode(payload, columns=".", time=TS)) == [("d1", 60, 3, "open"), ("d1", 0, None, "shut")]


def test_columns_may_lie_deeper_and_share_what_is_beside_them() -> None:
    # As a weather service answers, with the hours' names in ISO 8601.
    payload = {
        "id": "roof",
        "hourly": {"time": ["2026-09-21T13:00:00Z", "2026-09-21T14:00:00Z"], "temperature_2m": [13.7, 13.3]},
        "door": "shut",
    }
    read = decode(payload, "id", columns="hourly", time={"field": "time", "unit": "iso"}, fields={"temp": "temperature_2m"})
    assert plain(read) == [("roof", 4400, 13.7, "shut"), ("roof", 800, 13.3, "shut")]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"ts": [1, 2], "temp": [3]}, "columns"),
        ({"ts": 1, "temp": 3}, "columns"),
        ({"ts": [1], "temp": ["hot"]}, "type"),
        ({"ts": [1], "temp": [True]}, "type"),
        ({"ts": [], "temp": []}, "empty"),
        ({"ts": [None], "temp": [1]}, "time"),
        ({"ts": [1] * 10_001, "temp": 3}, "too_many"),
    ],
)
def test_columns_that_do_not_fit_are_refused(payload: object, reason: str) -> None:
    assert decode(payload, columns=".", time=TS).rejected == {reason: 1}


def test_columns_without_times_are_spaced_back_from_the_last() -> None:
    assert plain(decode({"temp": [1, 2, 3]}, columns=".", every=0.5)) == [("d1", 1, 1, None), ("d1", 0.5, 2, None), ("d1", 0, 3, None)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"readings": "."}, "time: missing: several readings of one device need times"),
        ({"columns": ".", "readings": "."}, "columns: goes without readings"),
        ({"every": 1}, "every: goes with readings or columns"),
        ({"readings": "", "every": 1}, "readings: expected a path"),
        ({"readings": ".", "every": 0}, "every: expected more than 0 s"),
        ({"format": "value", "readings": "."}, "readings: goes with JSON, not with format value"),
    ],
)
def test_a_mapping_that_contradicts_itself_is_an_error(spec: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError), match=message):
        decode([], **spec)


def test_a_list_of_texts_has_no_place_in_columns() -> None:
    with pytest.raises(ValueError, match='columns: feature "roles" is a list itself'):
        decoder_for(PayloadSpec(columns=".", time=TimeField(field="ts")), (Categories(name="roles"),))


def test_what_no_feature_uses_can_be_named() -> None:
    message = Message("t", json.dumps({"r": [{"ts": 1, "temp": 1, "hum": 2}], "v": 1}).encode(), 0)
    assert decoder_for(PayloadSpec(readings="r", time=TimeField(field="ts")), SPEC).unused(message) == ["r[].hum", "v"]
    message = Message("t", json.dumps({"ts": [1], "temp": [1], "hum": [2]}).encode(), 0)
    assert decoder_for(PayloadSpec(columns=".", time=TimeField(field="ts")), SPEC).unused(message) == ["hum"]
