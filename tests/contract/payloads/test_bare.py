import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.features import Category, FeatureSpec, Number
from vedette.contract.payloads import PayloadSpec, decoder_for
from vedette.contract.readings import Message, Readings
from vedette.topics import TopicFilter

SPEC: FeatureSpec = (Number(name="temperature"), Category(name="door"))
TOPIC = TopicFilter("home/{device}/{field}")
NOW = 1_790_000_000.0


def hear(topic: str, payload: bytes, *, retained: bool = False, fields: dict[str, str] | None = None) -> Readings:
    decoder = decoder_for(PayloadSpec(format="value", fields=fields or {"door": "contact"}), SPEC, topic=TOPIC)
    assert decoder.merges
    return decoder.decode_batch([Message(topic, payload, NOW, retained)], [TOPIC.match(topic) or ""])


@pytest.mark.parametrize("payload", [b"21.5", b" 21.5\n", b"+21.5", b"2150e-2", b"21.50"])
def test_a_bare_number_is_a_reading_of_the_feature_that_the_topic_names(payload: bytes) -> None:
    read = hear("home/attic/temperature", payload)
    assert (read.devices, read.times, read.values[0][0], read.values[0][1]) == (["attic"], [NOW], 21.5, None)


@pytest.mark.parametrize(("payload", "value"), [(b"ON", "ON"), (b"1", "1"), (b"offen \xc3\xbc", "offen ü")])
def test_a_bare_text_too(payload: bytes, value: str) -> None:
    assert hear("home/attic/contact", payload).values[0][1] == value


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("home/attic/temperature", b"", "type"),
        ("home/attic/temperature", b"warm", "type"),
        ("home/attic/temperature", b"true", "type"),
        ("home/attic/temperature", b"nan", "not_finite"),
        ("home/attic/temperature", b"1e999", "not_finite"),
        ("home/attic/temperature", b"1_0", "type"),
        ("home/attic/temperature", b'"4"', "type"),
        ("home/attic/temperature", b"21,5", "type"),
        ("home/attic/contact", b" ", "type"),
        ("home/attic/contact", b"x" * 257, "type"),
        ("home/attic/contact", b"\xff", "encoding"),
        ("home/attic/battery", b"4", "empty"),
        ("home/at\ntic/temperature", b"4", "device"),
    ],
)
def test_what_is_no_value_is_refused(topic: str, payload: bytes, reason: str) -> None:
    assert hear(topic, payload).rejected == {reason: 1}


def test_a_retained_value_is_never_fresh() -> None:
    assert hear("home/attic/temperature", b"4", retained=True).rejected == {"retained": 1}


def test_a_topic_without_a_field_is_of_one_feature() -> None:
    for features, spec in ((SPEC[:1], PayloadSpec(format="value")), (SPEC, PayloadSpec(format="value", fields={"temperature": ""}))):
        decoder = decoder_for(spec, features)
        assert decoder.decode_batch([Message("x", b"3", NOW)], ["d"]).values[0][0] == 3.0
    with pytest.raises(ValueError, match=r"fields: the topic has no \{field\}: say which feature"):
        decoder_for(PayloadSpec(format="value"), SPEC)
    with pytest.raises(ValueError, match='fields: "x" is mapped twice'):
        decoder_for(PayloadSpec(format="value", fields={"temperature": "x", "door": "x"}), SPEC, topic=TOPIC)
    with pytest.raises(ValueError, match=r"format: value has no field that names the device: put \{device\} in the topic"):
        decoder_for(PayloadSpec(format="value"), SPEC, "id", TOPIC)


@given(st.binary(max_size=40))
def test_no_payload_raises_anything(payload: bytes) -> None:
    for field in ("temperature", "contact"):
        read = hear(f"home/attic/{field}", payload)
        assert read.accepted + read.rejected.total() == 1
