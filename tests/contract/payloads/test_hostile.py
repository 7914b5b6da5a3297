"""The input policy: what hostile or broken devices send, each refused under a reason of its own, alone or among what is well."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import PATIENCE
from hostile import CASES, GOOD, NOW, of
from vedette.contract.errors import ReadingError
from vedette.contract.features import Category, FeatureSpec, Number
from vedette.contract.payloads import PayloadSpec, TimeField, decoder_for
from vedette.contract.payloads.json_shape import check_shape
from vedette.contract.readings import Message, PayloadLimits, Readings
from vedette.topics import TopicFilter, escape

SPEC: FeatureSpec = (Number(name="t"), Category(name="door"))
LIMITS = PayloadLimits(max_bytes=4096, max_gap_s=3600, max_keys=100, max_depth=8)


def read(*payloads: bytes, retained: bool = False, spec: PayloadSpec | None = None) -> Readings:
    decoder = decoder_for(spec or PayloadSpec(time=TimeField(field="ts")), SPEC, "id", limits=LIMITS)
    return decoder.decode_batch([Message("t", each, NOW, retained) for each in payloads], [""] * len(payloads))


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_payload_is_refused_for_its_own_reason(name: str) -> None:
    payload, reason = CASES[name]
    assert read(payload).rejected == {reason: 1}
    among = read(*[GOOD] * 5, payload, *[GOOD] * 5)
    assert (among.rejected, among.accepted, len(among)) == ({reason: 1}, 10, 10)
    assert all(payload.decode("latin-1") not in words for words in among.explained.values() if len(payload) > 8)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_as_one_of_several_readings_too_or_with_all_of_them(name: str) -> None:
    payload, reason = CASES[name]
    found = read(b"[" + GOOD + b"," + payload + b"]", spec=PayloadSpec(time=TimeField(field="ts"), readings="."))
    if found.accepted:
        assert (len(found), found.partial) == (1, {reason: 1})
    else:
        assert found.rejected.total() == 1


@pytest.mark.parametrize(
    ("payload", "device"),
    [
        (GOOD, "d"),
        (of(id="ü" * 64), "ü" * 64),
        (of(id="../../etc/passwd"), "../../etc/passwd"),
        (of(id="$SYS/a+b#c%s"), "$SYS/a+b#c%s"),
        (GOOD.replace(b'"d"', b"1" * 128), "1" * 128),
        (GOOD.replace(b'"t": 4.2', b'"t": 1, "t": 4.2'), "d"),
        (of(deep=[[[[[[[]]]]]]]), "d"),
        (of(text="[" * 90 + ":" * 200 + '"{'), "d"),
        (of(ts=NOW + 600), "d"),
    ],
)
def test_what_only_looks_hostile_is_taken(payload: bytes, device: str) -> None:
    found = read(*[payload] * 5)
    assert (found.devices, found.values[0][0], dict(found.rejected)) == ([device] * 5, 4.2 if b"4.2" in payload else 0, {})


def test_what_the_broker_kept_is_taken_only_with_a_fresh_time_of_its_own() -> None:
    old = of(ts=NOW - 3601)
    assert read(old, GOOD, retained=True).rejected == {"retained": 1}
    bare = decoder_for(PayloadSpec(format="value", fields={"t": ""}), SPEC)
    assert bare.decode_batch([Message("t", b"4", NOW, retained=True)], ["d"]).rejected == {"retained": 1}


@pytest.mark.parametrize("payload", [b'{"x":' * 13_000, b"[" * 65_536, b'"' + b'\\"' * 32_000, b'["' + b"[{:" * 21_000, b'"' * 65_536])
def test_a_payload_is_gone_through_in_proportion_to_its_length(payload: bytes) -> None:
    began = time.perf_counter()
    for _ in range(10):
        with contextlib.suppress(ReadingError):
            check_shape(payload, PayloadLimits(max_depth=3, max_keys=3))
    assert time.perf_counter() - began < 1.0 * PATIENCE, "a tenth of a second for 64 KiB"


JSON = st.recursive(
    st.none() | st.text(max_size=8) | st.integers(), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3)
)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


def keys_of(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(keys_of, value.values()))
    return sum(map(keys_of, value)) if isinstance(value, list) else 0


@given(JSON, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_depth_and_keys_are_those_of_the_document(value: Any, depth: int, keys: int, ascii_only: bool) -> None:
    reason = None
    try:
        check_shape(json.dumps(value, ensure_ascii=ascii_only).encode(), PayloadLimits(max_depth=depth, max_keys=keys))
    except ReadingError as error:
        reason = error.reason
    assert reason == ("depth" if depth_of(value) > depth else "keys" if keys_of(value) > keys else None)


def test_the_brokers_own_topics_are_no_streams() -> None:
    for topic in ("{device}/x", "+/{device}", "{device:#}"):
        assert TopicFilter(topic).match("$SYS/x") is None


@given(st.text(min_size=1, max_size=40))
def test_a_name_in_a_topic_or_a_file_name_is_one_plain_level(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return  # no name that a device can have
    escaped = escape(name)
    assert escaped.isascii() and not set(escaped) & set("/+#$\0\n\\~ ") and escaped.strip(".")
