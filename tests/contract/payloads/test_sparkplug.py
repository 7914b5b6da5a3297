from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkplug import BOOLEAN, DOUBLE, FLOAT, INT8, INT16, INT32, INT64, STRING, UINT64, payload
from vedette.contract.features import Category, FeatureSpec, Number
from vedette.contract.payloads import PayloadSpec, decoder_for, sparkplug
from vedette.contract.readings import Decoder, Departure, Message, Readings
from vedette.topics import TopicFilter

SPEC: FeatureSpec = (Number(name="temperature"), Category(name="door"))
FIELDS = {"temperature": "Properties/Temperature", "door": "Door"}
TOPIC = TopicFilter("spBv1.0/plant/+/{device:#}")
NOW = 1_790_000_000.0
MS = int(NOW * 1000)

TEMPERATURE = {"name": "Properties/Temperature", "alias": 7, "datatype": DOUBLE, "timestamp": MS}
DOOR = {"name": "Door", "alias": 8, "datatype": STRING, "timestamp": MS}
OTHER = {"name": "Supply Voltage", "alias": 9, "datatype": FLOAT, "timestamp": MS}


def make(topic: TopicFilter = TOPIC) -> Decoder:
    return decoder_for(PayloadSpec(format="sparkplug", fields=FIELDS), SPEC, topic=topic)


def hear(decoder: Decoder, *said: tuple[str, bytes], topic: TopicFilter = TOPIC) -> Readings:
    messages = [Message(f"spBv1.0/plant/{where}", data, NOW + i) for i, (where, data) in enumerate(said)]
    devices = [topic.match(message.topic) for message in messages]
    assert None not in devices
    return decoder.decode_batch(messages, [device or "" for device in devices])


def rows(readings: Readings) -> list[tuple[object, ...]]:
    return [
        (device, time - NOW, *(None if value != value else value for value in row))
        for device, time, row in zip(readings.devices, readings.times, readings.values, strict=True)
    ]


def node_birth(**fields: Any) -> tuple[str, bytes]:
    session = {"name": "bdSeq", "datatype": INT64, "long_value": fields.pop("session", 0)}
    return "NBIRTH/edge", payload(
        session, {"name": "Node Control/Rebirth", "datatype": BOOLEAN, "boolean_value": False}, **{"timestamp": MS, "seq": 0, **fields}
    )


def birth(seq: int = 1) -> tuple[str, bytes]:
    metrics = [{**TEMPERATURE, "double_value": 4.5}, {**DOOR, "string_value": "shut"}, {**OTHER, "float_value": 12.1}]
    return "DBIRTH/edge/fridge", payload(*metrics, timestamp=MS, seq=seq)


def data(*metrics: dict[str, Any], seq: int = 2, time: int | None = MS + 5000) -> tuple[str, bytes]:
    return "DDATA/edge/fridge", payload(*metrics, seq=seq, **({} if time is None else {"timestamp": time}))


def test_data_is_understood_by_the_birth_before_it() -> None:
    read = hear(make(), node_birth(), birth(), data({"alias": 7, "timestamp": MS + 4000, "double_value": 9.5}))
    assert rows(read) == [("edge/fridge", 0, 4.5, "shut"), ("edge/fridge", 4, 9.5, None)]
    assert (read.accepted, read.rejected, read.partial) == (2, {"empty": 1}, {})
    assert make().merges


def test_data_before_a_birth_is_counted_and_no_fault() -> None:
    decoder = make()
    assert hear(decoder, data({"alias": 7, "double_value": 9.5})).rejected == {"unknown_alias": 1}
    mixed = hear(decoder, data({"alias": 7, "double_value": 9.5}, {"name": "Door", "string_value": "open"}))
    assert rows(mixed) == [("edge/fridge", 5, None, "open")] and mixed.partial == {"unknown_alias": 1}
    assert rows(hear(decoder, birth(), data({"alias": 7, "double_value": 9.5})))[1] == ("edge/fridge", 5, 9.5, None)


def test_an_edge_nodes_death_takes_its_devices_along() -> None:
    decoder = make()
    hear(decoder, node_birth(session=3), birth())
    other = payload({"name": "bdSeq", "datatype": INT64, "long_value": 2})
    last = payload({"name": "bdSeq", "datatype": INT64, "long_value": 3})
    late = hear(decoder, ("NDEATH/edge", other))
    assert (late.departed, late.rejected) == ([], {"unknown_death": 1})
    dead = hear(decoder, ("NDEATH/edge", last))
    assert dead.departed == [Departure("edge", NOW, 0), Departure("edge/fridge", NOW, 0)] and dead.accepted == 1 and not len(dead)
    assert hear(decoder, ("NDEATH/edge", last)).rejected == {"unknown_death": 1}
    assert hear(decoder, data({"alias": 7, "double_value": 9.5})).rejected == {"unknown_alias": 1}


def test_a_devices_death_is_its_own() -> None:
    decoder = make()
    hear(decoder, node_birth(), birth())
    assert hear(decoder, ("DDEATH/edge/fridge", payload(seq=2, timestamp=MS))).departed == [Departure("edge/fridge", NOW, 0)]
    assert hear(decoder, ("DDEATH/edge/fridge", payload(seq=3, timestamp=MS))).rejected == {"unknown_death": 1}


def test_a_gap_in_the_sequence_is_counted_where_the_stream_hears_it_all() -> None:
    value = {"alias": 7, "double_value": 1.0}
    said = (
        node_birth(),
        birth(),
        data(value, seq=2),
        data(value, seq=4),
        data(value, seq=5),
        ("NDATA/edge", payload(seq=7)),
        data(value, seq=8),
    )
    read = hear(make(), *said)
    assert read.partial == {"seq_gap": 2} and read.rejected == {"empty": 2} and len(read) == 5
    wrap = [data(value, seq=seq % 256) for seq in range(2, 260)]
    assert hear(make(), node_birth(), birth(), *wrap).partial == {}
    one_device = TopicFilter("spBv1.0/plant/+/edge/{device}")
    read = hear(make(one_device), *(s for s in said if "/edge/" in s[0]), topic=one_device)
    assert read.partial == {} and read.devices == ["fridge"] * 5


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (INT8, {"int_value": 2**32 - 5}, -5),
        (INT8, {"int_value": 251}, -5),
        (INT16, {"int_value": 65535}, -1),
        (INT32, {"int_value": 2**32 - 100}, -100),
        (INT64, {"long_value": 2**64 - 1}, -1),
        (UINT64, {"long_value": 2**64 - 1}, 2.0**64),
        (FLOAT, {"float_value": 0.5}, 0.5),
    ],
)
def test_numbers_of_every_type_are_read(kind: int, value: dict[str, Any], expected: float) -> None:
    born = {**TEMPERATURE, "datatype": kind}
    read = hear(make(), ("DBIRTH/edge/fridge", payload({**born, **value}, seq=1)), data({"alias": 7, **value}))
    assert [row[0] for row in read.values] == [expected, expected]


@pytest.mark.parametrize(
    "value",
    [
        {"datatype": BOOLEAN, "boolean_value": True},
        {"datatype": STRING, "string_value": "4"},
        {"double_value": float("nan")},
        {"bytes_value": b"1"},
    ],
)
def test_what_is_no_number_is_refused_alone(value: dict[str, Any]) -> None:
    good, reason = {**DOOR, "string_value": "open"}, "not_finite" if "double_value" in value else "type"
    read = hear(make(), data({**TEMPERATURE, **value}, good))
    assert [row[1] for row in read.values] == ["open"] and read.partial == {reason: 1}
    assert hear(make(), data({**TEMPERATURE, **value})).rejected == {reason: 1}


def test_null_is_nothing() -> None:
    read = hear(make(), data({**TEMPERATURE, "is_null": True}, {**DOOR, "string_value": "open"}))
    assert rows(read) == [("edge/fridge", 0, None, "open")]
    assert hear(make(), data({**TEMPERATURE, "is_null": True})).rejected == {"empty": 1}


def test_historical_values_are_readings_of_their_own_times() -> None:
    def old(seconds: int, value: float) -> dict[str, Any]:
        return {**TEMPERATURE, "timestamp": MS - 1000 * seconds, "is_historical": True, "double_value": value}

    door = {**DOOR, "is_historical": True, "timestamp": MS - 60_000, "string_value": "open"}
    read = hear(make(), data(old(60, 1), door, old(30, 2), {**TEMPERATURE, "double_value": 3}))
    assert rows(read) == [("edge/fridge", -60, 1, "open"), ("edge/fridge", -30, 2, None), ("edge/fridge", 0, 3, None)]


def test_a_metric_that_comes_again_begins_another_reading() -> None:
    first, second = ({**TEMPERATURE, "timestamp": MS + 1000 * k, "double_value": k} for k in (1, 2))
    assert rows(hear(make(), data(first, {**DOOR, "string_value": "open"}, second))) == [
        ("edge/fridge", 1, 1, "open"),
        ("edge/fridge", 2, 2, None),
    ]


def test_without_any_time_it_is_the_arrival() -> None:
    assert rows(hear(make(), data({"name": "Door", "string_value": "open"}, time=None))) == [("edge/fridge", 0, None, "open")]


@pytest.mark.parametrize(
    ("where", "reason"), [("NCMD/edge", "topic"), ("DCMD/edge/fridge", "topic"), ("NDATA/edge/fridge", "topic"), ("DDATA/edge", "topic")]
)
def test_what_is_no_birth_data_or_death_is_refused(where: str, reason: str) -> None:
    assert hear(make(), (where, payload(seq=1))).rejected == {reason: 1}


@pytest.mark.parametrize("cut", [1, 5, 20, -1])
def test_a_payload_that_is_cut_short_is_refused_and_changes_nothing(cut: int) -> None:
    decoder = make()
    where, whole = birth()
    assert hear(decoder, (where, whole[:cut])).rejected == {"malformed": 1}
    assert hear(decoder, data({"alias": 7, "double_value": 1.0})).rejected == {"unknown_alias": 1}


@given(st.binary(max_size=100), st.sampled_from(["NBIRTH/e", "DBIRTH/e/d", "DDATA/e/d", "NDEATH/e", "DDEATH/e/d", "STATE/x"]))
def test_no_payload_raises_anything(noise: bytes, where: str) -> None:
    decoder = make()
    said = [(where, noise), birth(), (where, birth()[1][:40] + noise), (where, noise)]
    read = hear(decoder, *said)
    assert read.accepted + read.rejected.total() == len(said)
    for where_said, said_bytes in said:
        decoder.unused(Message(f"spBv1.0/plant/{where_said}", said_bytes, NOW))


def test_births_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparkplug, "MAX_METRICS", 100)
    decoder = make()
    for edge in range(50):
        hear(decoder, (f"DBIRTH/e{edge}/fridge", birth()[1]), (f"DBIRTH/e{edge}/fridge", birth()[1]))
    known = [
        edge for edge in range(50) if not hear(decoder, (f"DDATA/e{edge}/fridge", payload({"alias": 7, "double_value": 1.0}))).rejected
    ]
    assert 5 < len(known) < 50 and known == list(range(known[0], 50))


def test_a_new_models_decoder_knows_the_births_that_the_old_one_heard() -> None:
    old, new = make(), make()
    hear(old, node_birth(), birth())
    new.take_over(old)
    assert rows(hear(new, data({"alias": 7, "double_value": 9.5}))) == [("edge/fridge", 5, 9.5, None)]


def test_what_no_feature_uses_can_be_named() -> None:
    decoder = make()
    (where, said) = birth()
    hear(decoder, (where, said))
    assert decoder.unused(Message(f"spBv1.0/plant/{where}", said, NOW)) == ["Supply Voltage"]
    assert decoder.unused(Message("spBv1.0/plant/DDATA/edge/fridge", payload({"alias": 9, "float_value": 1.0}), NOW)) == ["Supply Voltage"]
