"""The packs are the examples of RFC 8428, section 5.1."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.features import Category, FeatureSpec, Number
from vedette.contract.payloads import PayloadSpec, decoder_for
from vedette.contract.readings import Message, Readings

DEVICE = "urn:dev:ow:10e2073a01080063"
ARRIVED = 1_320_067_500.0


def decode(
    pack: object, *names: str, device: str | None = None, texts: tuple[str, ...] = (), retained: bool = False, **fields: str
) -> Readings:
    features: FeatureSpec = (*(Number(name=name) for name in names), *(Category(name=name) for name in texts))
    decoder = decoder_for(PayloadSpec(format="senml", fields=fields), features, None if device else "n")
    data = pack if isinstance(pack, bytes) else json.dumps(pack).encode()
    return decoder.decode_batch([Message("t", data, ARRIVED, retained)], [device or ""])


def rows(readings: Readings) -> list[tuple[object, ...]]:
    values = [[None if value != value else value for value in row] for row in readings.values]
    return [(d, t, *row) for d, t, row in zip(readings.devices, readings.times, values, strict=True)]


def test_single_data_point() -> None:
    pack = [{"n": DEVICE, "u": "Cel", "v": 23.1}]
    assert rows(decode(pack, "temperature", temperature="")) == [(DEVICE, ARRIVED, 23.1)]


def test_multiple_data_points() -> None:
    pack = [{"bn": f"{DEVICE}:", "n": "voltage", "u": "V", "v": 120.1}, {"n": "current", "u": "A", "v": 1.2}]
    assert rows(decode(pack, "voltage", "current")) == [(DEVICE, ARRIVED, 120.1, 1.2)]


MEASUREMENTS = [
    {"bn": f"{DEVICE}:", "bt": 1.276020076001e9, "bu": "A", "bver": 5, "n": "voltage", "u": "V", "v": 120.1},
    {"n": "current", "t": -5, "v": 1.2},
    {"n": "current", "t": -4, "v": 1.3},
    {"n": "current", "t": -3, "v": 1.4},
    {"n": "current", "t": -2, "v": 1.5},
    {"n": "current", "t": -1, "v": 1.6},
    {"n": "current", "v": 1.7},
]


def test_the_records_of_one_time_are_one_reading() -> None:
    read = decode(MEASUREMENTS, "voltage", "current")
    base = 1.276020076001e9
    assert rows(read) == [*((DEVICE, base - 5 + k, None, pytest.approx(1.2 + k / 10)) for k in range(5)), (DEVICE, base, 120.1, 1.7)]


def test_times_below_2_28_are_relative_to_the_arrival() -> None:
    pack = [
        {"bn": f"{DEVICE}:", "bu": "%RH", "bt": -5.0, "v": 21.2, "n": "h"},
        {"t": 1.0, "v": 21.3, "n": "h"},
        {"t": 5.0, "v": 21.4, "n": "h"},
        {"n": "h", "t": 2.0**28 + 5.0, "v": 9.0},
    ]
    read = decode(pack, "h")
    assert [(t, v) for _, t, v in rows(read)] == [(2.0**28, 9.0), (ARRIVED - 5, 21.2), (ARRIVED - 4, 21.3), (ARRIVED, 21.4)]
    assert decode(pack[:3], "h", retained=True).rejected == {"retained": 1}


def test_base_names_may_change_within_a_pack() -> None:
    pack = [
        {"bn": "2001:db8::2/", "bt": 1.320078429e9, "n": "temperature", "u": "Cel", "v": 25.2},
        {"n": "humidity", "u": "%RH", "v": 30},
        {"bn": "2001:db8::1/", "n": "temperature", "u": "Cel", "v": 12.3},
        {"n": "humidity", "u": "%RH", "v": 67},
    ]
    when = ARRIVED + 10_929
    decoder = decoder_for(PayloadSpec(format="senml"), (Number(name="temperature"), Number(name="humidity")), "n")
    read = decoder.decode_batch([Message("t", json.dumps(pack).encode(), when)], [""])
    assert rows(read) == [("2001:db8::2", 1.320078429e9, 25.2, 30.0), ("2001:db8::1", 1.320078429e9, 12.3, 67.0)]


def test_different_kinds_of_data() -> None:
    pack = [
        {"bn": f"{DEVICE}:", "n": "temp", "u": "Cel", "v": 23.1},
        {"n": "label", "vs": "Machine Room"},
        {"n": "open", "vb": False},
        {"n": "nfc-reader", "vd": "aGkgCg"},
    ]
    assert rows(decode(pack, "temp", texts=("label", "open"))) == [(DEVICE, ARRIVED, 23.1, "Machine Room", False)]
    wrong = decode(pack, "temp", "label", texts=("open",))
    assert rows(wrong) == [(DEVICE, ARRIVED, 23.1, None, False)] and wrong.partial == {"type": 1}


def test_a_resolved_pack_means_the_same() -> None:
    resolved = [
        {"n": f"{DEVICE}:{r['n']}", "t": 1.276020076001e9 + float(r.get("t", 0)), "v": r["v"]}  # type: ignore[arg-type] # because the JSON above says so
        for r in MEASUREMENTS
    ]
    read, same = decode(MEASUREMENTS, "voltage", "current"), decode(resolved, "voltage", "current")
    assert rows(read) == rows(same)


def test_base_values_and_sums_are_added() -> None:
    pack = [{"bn": "m:", "bv": 20, "bs": 100, "n": "power", "v": 1.5, "s": 7}, {"n": "power", "t": -1, "v": 2}]
    assert rows(decode(pack, "power", "energy", energy="power.sum")) == [("m", ARRIVED - 1, 22.0, None), ("m", ARRIVED, 21.5, 107.0)]


def test_the_topic_may_name_the_device() -> None:
    pack = [{"bn": f"{DEVICE}:", "n": "voltage", "v": 120.1}, {"bn": "", "n": "current", "v": 1.2}]
    assert rows(decode(pack, "voltage", "current", device="meter")) == [("meter", ARRIVED, 120.1, 1.2)]


def test_a_name_that_only_ends_alike_is_another_field() -> None:
    pack = [{"bn": "d:", "n": "temp", "v": 1}, {"n": "outside-temp", "v": 2}, {"n": "sub_temp", "v": 3}]
    assert rows(decode(pack, "temp")) == [("d", ARRIVED, 1.0)]
    assert rows(decode(pack, "temp", temp="_temp")) == [("d:sub", ARRIVED, 3.0)]


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (b"", "malformed"),
        ({"n": "h", "v": 1}, "type"),
        ([{"n": "d:h", "v": "1"}], "type"),
        ([{"n": "d:h", "v": None, "vb": True}], "type"),
        ([], "empty"),
        ([{"n": "d:other", "v": 1}], "empty"),
        ([{"n": "h", "v": 1}], "device"),
        ([{"n": "d:h", "v": 1, "bver": 11}], "unsupported"),
        ([{"n": "d:h", "v": 1, "new_": 11}], "unsupported"),
        (bytes.fromhex("81a2007564"), "unsupported"),
        ([{"n": "d:h", "v": 1, "t": ARRIVED + 601}], "future"),
    ],
)
def test_what_is_no_pack_of_readings_is_refused(pack: object, reason: str) -> None:
    assert decode(pack, "h").rejected == {reason: 1}


def test_a_relative_time_without_an_arrival_is_refused() -> None:
    decoder = decoder_for(PayloadSpec(format="senml"), (Number(name="h"),), "n")
    pack = b'[{"bn": "d:", "n": "h", "t": -5, "v": 1}]'
    assert decoder.decode_batch([Message("t", pack, math.inf)], [""]).rejected == {"time": 1}


@given(st.binary(max_size=60))
def test_no_payload_raises_anything(payload: bytes) -> None:
    read = decode(payload, "h")
    assert read.accepted + read.rejected.total() == 1


VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)


@given(st.lists(st.dictionaries(st.sampled_from(["bn", "bt", "bv", "bs", "n", "t", "v", "vs", "s", "x_"]), VALUE)))
def test_no_pack_raises_anything(pack: list[dict[str, object]]) -> None:
    read = decode(json.dumps(pack).encode("utf-8", "surrogatepass"), "h", h="")
    assert read.accepted + read.rejected.total() == 1


def test_what_no_feature_uses_can_be_named_and_a_device_field_is_n() -> None:
    decoder = decoder_for(PayloadSpec(format="senml"), (Number(name="current"),), "n")
    assert decoder.unused(Message("t", json.dumps(MEASUREMENTS).encode(), ARRIVED)) == [f"{DEVICE}:voltage"]
    with pytest.raises(ValueError, match="format: senml names a device in its records' names"):
        decoder_for(PayloadSpec(format="senml"), (Number(name="current"),), "id")
