import contextlib
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.errors import ReadingError
from vedette.contract.features import Categories, Category, DayOfWeek, FeatureSpec, Number, TimeOfDay
from vedette.contract.readings import JsonDecoder, PayloadSpec, Reading, TimeField

SPEC: FeatureSpec = (Number(name="temperature"), Category(name="door"))
ARRIVED = 1_790_000_000.0


def decode(payload: object, spec: PayloadSpec | None = None, device_field: str | None = None) -> Reading:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return JsonDecoder(spec or PayloadSpec(), SPEC, device_field).decode(data, arrived=ARRIVED, device="d1")


def refusal(payload: object, spec: PayloadSpec | None = None, device_field: str | None = None) -> str:
    with pytest.raises(ReadingError) as caught:
        decode(payload, spec, device_field)
    return caught.value.reason


def test_mapped_fields_become_values_in_the_order_of_the_features() -> None:
    mapping = PayloadSpec(fields={"temperature": "temp.c", "door": "cond"})
    reading = decode({"cond": "open", "other": [1, {}], "temp": {"f": 39, "c": 4}}, mapping)
    assert reading == Reading("d1", ARRIVED, (4.0, "open"))


def test_what_a_payload_does_not_hold_is_absent() -> None:
    temperature, door = decode({"unrelated": True}).values
    assert isinstance(temperature, float) and math.isnan(temperature) and door is None


def test_an_absent_object_on_the_path_makes_its_values_absent() -> None:
    temperature, _ = decode({}, PayloadSpec(fields={"temperature": "a.b.c"})).values
    assert isinstance(temperature, float) and math.isnan(temperature)


@pytest.mark.parametrize(
    ("unit", "value"),
    [("s", 1_789_999_000), ("ms", 1_789_999_000_000), ("us", 1_789_999_000_000_000), ("iso", "2026-09-21T16:06:40+02:00")],
)
def test_time_is_read_in_its_unit(unit: Any, value: object) -> None:
    spec = PayloadSpec(time=TimeField(field="meta.at", unit=unit))
    expected = datetime(2026, 9, 21, 14, 6, 40, tzinfo=UTC).timestamp() if unit == "iso" else 1_789_999_000.0
    assert decode({"meta": {"at": value}}, spec).time == pytest.approx(expected, abs=1e-6)


def test_the_payload_may_name_the_device() -> None:
    assert decode({"who": {"id": 17}}, device_field="who.id").device == "17"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b'{"temperature": NaN}', "malformed"),
        (b'{"temperature": Infinity}', "malformed"),
        (b'{"temperature": 1} trailing', "malformed"),
        (b"\xef\xbb\xbf{}", "malformed"),
        (b"[]", "type"),
        (b"null", "type"),
        (b'{"temperature": true}', "type"),
        (b'{"temperature": "4"}', "type"),
        (b'{"temperature": null}', "type"),
        (b'{"temperature": 1e999}', "type"),
        (b'{"door": ["open"]}', "type"),
        (b'{"door": "\xff"}', "encoding"),
        (b'{"x": ' + b"[" * 100_000, "depth"),
    ],
)
def test_hostile_payloads_are_refused_with_a_reason(payload: bytes, reason: str) -> None:
    assert refusal(payload) == reason


@pytest.mark.parametrize(
    ("time", "reason"), [({}, "time"), ({"ts": -1}, "time"), ({"ts": ARRIVED + 601}, "future"), ({"ts": "now"}, "type")]
)
def test_times_that_cannot_be_believed_are_refused(time: dict[str, object], reason: str) -> None:
    assert refusal(time, PayloadSpec(time=TimeField(field="ts"))) == reason


def test_a_local_time_without_an_offset_is_refused() -> None:
    assert refusal({"ts": "2026-09-21T16:36:40"}, PayloadSpec(time=TimeField(field="ts", unit="iso"))) == "time"


@pytest.mark.parametrize("name", [None, "", "a\nb", "x" * 129, "\u0000"])
def test_names_that_no_device_can_have_are_refused(name: str | None) -> None:
    assert refusal({"id": name}, device_field="id") == "device"


def test_a_mapping_of_something_that_is_no_feature_is_an_error() -> None:
    with pytest.raises(ValueError, match='"tmp" is not a feature of the model; its features are temperature, door'):
        JsonDecoder(PayloadSpec(fields={"tmp": "t"}), SPEC)


def test_a_path_cannot_be_a_value_and_an_object() -> None:
    with pytest.raises(ValueError, match="both as a value and as an object"):
        JsonDecoder(PayloadSpec(fields={"temperature": "a", "door": "a.b"}), SPEC)


@given(st.binary(max_size=200))
def test_no_payload_raises_anything_but_a_reading_error(payload: bytes) -> None:
    decoder = JsonDecoder(PayloadSpec(time=TimeField(field="ts")), SPEC, "id")
    with contextlib.suppress(ReadingError):
        decoder.decode(payload, arrived=ARRIVED, device="d1")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3))


@given(st.dictionaries(st.sampled_from(["ts", "id", "temperature", "door", "a"]), JSON))
def test_no_json_object_raises_anything_but_a_reading_error(fields: dict[str, object]) -> None:
    decoder = JsonDecoder(PayloadSpec(time=TimeField(field="ts", unit="ms"), fields={"door": "a.b"}), SPEC, "id")
    try:
        reading = decoder.decode(json.dumps(fields).encode(), arrived=ARRIVED, device="d1")
    except (ReadingError, UnicodeEncodeError):
        return
    assert 0 <= reading.time <= ARRIVED + 600 and isinstance(reading.values[0], float)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_times_at_the_calendars_ends_are_refused(text: str) -> None:
    assert refusal({"ts": text}, PayloadSpec(time=TimeField(field="ts", unit="iso"))) in {"time", "future"}


def test_a_time_in_another_unit_than_configured_is_refused_whenever_it_arrived() -> None:
    """Milliseconds taken for seconds are beyond the year 9999: a recording has no clock to hold them against."""
    decoder = JsonDecoder(PayloadSpec(time=TimeField(field="ts")), SPEC)
    with pytest.raises(ReadingError) as caught:
        decoder.decode(b'{"ts": 1790000000000}', arrived=math.inf, device="d1")
    assert caught.value.reason == "future"


def test_a_list_and_the_event_time_are_values_too() -> None:
    spec = (TimeOfDay(), Categories(name="roles"), Number(name="x"), DayOfWeek())
    decoder = JsonDecoder(PayloadSpec(time=TimeField(field="at", unit="iso")), spec)
    reading = decoder.decode(b'{"at": "1970-01-02T00:00:00Z", "roles": ["a", 1], "x": 3}', arrived=1e9, device="d")
    assert reading.values == (86400.0, ["a", 1], 3.0, 86400.0)
    with pytest.raises(ReadingError):
        decoder.decode(b'{"at": "1970-01-02T00:00:00Z", "roles": [["a"]]}', arrived=1e9, device="d")
