import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.features import Categories, Category, DayOfWeek, FeatureSpec, Number, TimeOfDay
from vedette.contract.payloads import PayloadSpec, TimeField, decoder_for
from vedette.contract.readings import Message, PayloadLimits, Reading, Readings

SPEC: FeatureSpec = (Number(name="temperature"), Category(name="door"))
ARRIVED = 1_790_000_000.0


def decode_all(
    payloads: Sequence[object],
    spec: PayloadSpec | None = None,
    device_field: str | None = None,
    features: FeatureSpec = SPEC,
    arrived: float = ARRIVED,
) -> Readings:
    data = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in payloads]
    decoder = decoder_for(spec or PayloadSpec(), features, device_field)
    return decoder.decode_batch([Message("t", each, arrived) for each in data], ["d1"] * len(data))


def decode(payload: object, spec: PayloadSpec | None = None, device_field: str | None = None, features: FeatureSpec = SPEC) -> Reading:
    """Alone, and among so many that they are decoded column by column: both must be the same."""
    one, many = (decode_all([payload] * count, spec, device_field, features) for count in (1, 9))
    assert (len(one), len(many), one.accepted, many.accepted) == (1, 9, 1, 9), one.explained
    assert one.devices * 9 == many.devices and one.times * 9 == many.times and repr(one.values * 9) == repr(many.values)
    return Reading(one.devices[0], one.times[0], tuple(one.values[0]))


def refusal(payload: object, spec: PayloadSpec | None = None, device_field: str | None = None) -> str:
    one, many = (decode_all([payload] * count, spec, device_field) for count in (1, 9))
    assert not len(one) and not len(many) and not one.accepted
    ((reason, count),) = one.rejected.items()
    assert count == 1 and many.rejected == {reason: 9} and one.explained.keys() == {reason}
    return reason


def test_mapped_fields_become_values_in_the_order_of_the_features() -> None:
    mapping = PayloadSpec(fields={"temperature": "temp.c", "door": "cond"})
    reading = decode({"cond": "open", "other": [1, {}], "temp": {"f": 39, "c": 4}}, mapping)
    assert reading == Reading("d1", ARRIVED, (4.0, "open"))


def test_what_a_payload_does_not_hold_is_absent() -> None:
    assert decode({"temperature": 4}).values == (4.0, None)
    temperature, door = decode({"door": "open"}).values
    assert isinstance(temperature, float) and math.isnan(temperature) and door == "open"


def test_an_absent_object_on_the_path_makes_its_values_absent() -> None:
    temperature, _ = decode({"door": 1}, PayloadSpec(fields={"temperature": "a.b.c"})).values
    assert isinstance(temperature, float) and math.isnan(temperature)


@pytest.mark.parametrize(
    ("unit", "value"),
    [("s", 1_789_999_000), ("ms", 1_789_999_000_000), ("us", 1_789_999_000_000_000), ("iso", "2026-09-21T16:06:40+02:00")],
)
def test_time_is_read_in_its_unit(unit: Any, value: object) -> None:
    spec = PayloadSpec(time=TimeField(field="meta.at", unit=unit))
    expected = datetime(2026, 9, 21, 14, 6, 40, tzinfo=UTC).timestamp() if unit == "iso" else 1_789_999_000.0
    assert decode({"meta": {"at": value}, "door": 1}, spec).time == pytest.approx(expected, abs=1e-6)


def test_the_payload_may_name_the_device() -> None:
    assert decode({"who": {"id": 17}, "door": 1}, device_field="who.id").device == "17"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b'{"temperature": NaN}', "not_finite"),
        (b'{"temperature": Infinity}', "not_finite"),
        (b'{"temperature": 1} trailing', "trailing"),
        (b"\xef\xbb\xbf{}", "bom"),
        (b"[]", "type"),
        (b"null", "null"),
        (b'{"temperature": true}', "type"),
        (b'{"temperature": "4"}', "type"),
        (b'{"temperature": null}', "null"),
        (b'{"temperature": 1e999}', "not_finite"),
        (b'{"door": ["open"]}', "type"),
        (b'{"door": "\xff"}', "encoding"),
        (b'{"x": ' + b"[" * 60_000, "depth"),
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
        decoder_for(PayloadSpec(fields={"tmp": "t"}), SPEC)


def test_a_path_cannot_be_a_value_and_an_object() -> None:
    with pytest.raises(ValueError, match="both as a value and as an object"):
        decoder_for(PayloadSpec(fields={"temperature": "a", "door": "a.b"}), SPEC)


@given(st.binary(max_size=200))
def test_no_payload_raises_anything(payload: bytes) -> None:
    readings = decode_all([payload] * 5, PayloadSpec(time=TimeField(field="ts")), "id")
    assert readings.accepted + readings.rejected.total() == 5


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3))
OBJECTS = st.dictionaries(st.sampled_from(["ts", "id", "temperature", "door", "a"]), JSON)
PLAUSIBLE = st.fixed_dictionaries(
    {"ts": st.integers(0, 1_790_000_600_000)},
    optional={"id": st.sampled_from(["a", "b", 7]), "temperature": st.floats(-9, 9), "a": st.just({"b": "open"}), "door": st.none()},
)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("features", [SPEC, (TimeOfDay(), *SPEC, DayOfWeek()), SPEC[:1]], ids=["values", "clocks", "one"])
@given(data=st.data())
def test_a_batch_is_decoded_as_its_messages_one_by_one(features: FeatureSpec, merge: bool, data: st.DataObject) -> None:
    payloads = data.draw(st.lists(PLAUSIBLE, min_size=4, max_size=12) | st.lists(PLAUSIBLE | OBJECTS, max_size=12))
    fields = {feature.name: path for feature, path in ((SPEC[0], "temperature"), (SPEC[1], "a.b")) if feature in features}
    spec = PayloadSpec(time=TimeField(field="ts", unit="ms"), fields=fields, merge=merge)
    messages = [Message("t", json.dumps(p).encode("utf-8", "surrogatepass"), ARRIVED + i) for i, p in enumerate(payloads)]
    decoder = decoder_for(spec, features, "id")
    together = decoder.decode_batch(messages, [""] * len(messages))
    apart = [decoder.decode_batch([message], [""]) for message in messages]
    assert together.accepted == sum(each.accepted for each in apart)
    assert together.devices == [name for each in apart for name in each.devices]
    assert together.times == [time for each in apart for time in each.times]
    assert together.arrived == [time for each in apart for time in each.arrived]
    assert repr(together.values) == repr([row for each in apart for row in each.values])
    assert together.rejected == sum((each.rejected for each in apart), start=type(together.rejected)())


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_times_at_the_calendars_ends_are_refused(text: str) -> None:
    assert refusal({"ts": text}, PayloadSpec(time=TimeField(field="ts", unit="iso"))) in {"time", "future"}


def test_a_time_in_another_unit_than_configured_is_refused_whenever_it_arrived() -> None:
    """Milliseconds taken for seconds are beyond the year 9999: a recording has no clock to hold them against."""
    spec = PayloadSpec(time=TimeField(field="ts"))
    assert decode_all([{"ts": 1790000000000, "door": 1}] * 5, spec, arrived=math.inf).rejected == {"future": 5}


def test_a_list_and_the_event_time_are_values_too() -> None:
    features = (TimeOfDay(), Categories(name="roles"), Number(name="x"), DayOfWeek())
    spec = PayloadSpec(time=TimeField(field="at", unit="iso"))
    assert decode({"at": "1970-01-02T00:00:00Z", "roles": ["a", 1], "x": 3}, spec, features=features).values == (
        86400.0,
        ["a", 1],
        3.0,
        86400.0,
    )
    assert decode_all([{"at": "1970-01-02T00:00:00Z", "roles": [["a"]]}], spec, features=features).rejected == {"type": 1}


def test_a_payload_without_any_of_the_features_is_empty() -> None:
    assert refusal({"unrelated": True}) == "empty"
    assert decode({"unrelated": True}, features=(TimeOfDay(),)).values == (ARRIVED,)


@pytest.mark.parametrize(
    ("own", "time", "reason"),
    [(False, None, "retained"), (True, ARRIVED - 3601, "retained"), (True, ARRIVED - 3600, None), (True, ARRIVED, None)],
)
@pytest.mark.parametrize("count", [1, 9])
def test_a_retained_message_must_say_itself_that_it_is_fresh(own: bool, time: float | None, reason: str | None, count: int) -> None:
    decoder = decoder_for(PayloadSpec(time=TimeField(field="ts") if own else None), SPEC, limits=PayloadLimits(max_gap_s=3600))
    message = Message("t", json.dumps({"ts": time, "door": "open"}).encode(), ARRIVED, retained=True)
    readings = decoder.decode_batch([message] * count, ["d1"] * count)
    assert readings.rejected == ({reason: count} if reason else {}) and len(readings) == (0 if reason else count)


def test_a_payload_longer_than_the_limit_is_not_looked_at() -> None:
    decoder = decoder_for(PayloadSpec(), SPEC, limits=PayloadLimits(max_bytes=20))
    messages = [Message("t", b'{"door": 1}', ARRIVED), Message("t", b'{"door":             1}', ARRIVED)] * 3
    readings = decoder.decode_batch(messages, ["d1"] * 6)
    assert (readings.accepted, dict(readings.rejected)) == (3, {"too_long": 3})


def test_a_path_may_look_into_an_array_and_a_key_may_hold_a_dot() -> None:
    spec = PayloadSpec(fields={"temperature": "sensors[1].temp", "door": r"a\.b"})
    assert decode({"a.b": "open", "sensors": [{}, {"temp": 3}, 1]}, spec).values == (3.0, "open")
    assert decode({"a.b": "open", "sensors": [7]}, spec).values[1] == "open"
    assert refusal({"a.b": "open", "sensors": {"1": 3}}, spec) == "type"


def test_null_stands_for_nothing_only_where_payloads_are_partial() -> None:
    assert refusal({"temperature": None, "door": "open"}) == "null"
    temperature, door = decode({"temperature": None, "door": "open"}, PayloadSpec(merge=True)).values
    assert temperature != temperature and door == "open"
    assert refusal({"temperature": None}, PayloadSpec(merge=True)) == "empty"
    assert decoder_for(PayloadSpec(merge=True), SPEC).merges and not decoder_for(PayloadSpec(), SPEC).merges


def test_what_no_feature_uses_can_be_named() -> None:
    decoder = decoder_for(PayloadSpec(time=TimeField(field="meta.at"), fields={"temperature": "s[0].t"}), SPEC)
    payload = {"meta": {"at": 1, "v": 2}, "door": 1, "s": [{"t": 1, "u": 2}, {"t": 3}], "l": [{"k": 1}], "e": []}
    assert decoder.unused(Message("t", json.dumps(payload).encode(), 0)) == ["meta.v", "s[0].u", "s[1].t", "l[].k", "e"]
