"""The tap counts as delivered what the broker has acknowledged, and as the agent's what the agent has acknowledged."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos import packets
from chaos.packets import Cutter
from chaos.scenario import Reading
from chaos.tap import ALERTS, Tap

READINGS = [Reading(f"plant/fridges/fridge-{n}/telemetry", b'{"ts": %d}' % n) for n in range(3)]
ALERT: dict[str, Any] = {"id": "a", "type": "new", "time": "2026-09-21T14:00:00Z", "device": "fridge-1", "kind": "anomaly"}
LEVELS = [packets.LEVEL_5, packets.LEVEL_3]


def puback(packet_id: int, reason: int | None = None) -> bytes:
    body = packet_id.to_bytes(2, "big") + (b"" if reason is None else bytes([reason]))
    return bytes([packets.PUBACK << 4, len(body)]) + body


def connected(tap: Tap, number: int, level: int) -> None:
    tap.opened(number)
    tap.from_agent(number, packets.make_connect("vedette-gw-1", level), passed_on=True)


def tell(tap: Tap, number: int, packet_id: int, level: int, *, passed_on: bool = True) -> None:
    data = packets.make_publish(f"{ALERTS}fridges/fridge-1", json.dumps(ALERT).encode(), packet_id, level)
    tap.from_agent(number, data, passed_on=passed_on)


@pytest.mark.parametrize("level", LEVELS)
def test_a_reading_is_the_agents_from_its_acknowledgement_on(level: int) -> None:
    tap = Tap(READINGS)
    connected(tap, 1, level)
    for number in (0, 1, 2):
        tap.from_broker(1, packets.make_publish(*READINGS[number], number + 7, level))
    assert tap.safe == 0
    tap.from_agent(1, puback(8), passed_on=True)
    assert tap.safe == 0, "an earlier one is open"
    tap.from_agent(1, puback(7), passed_on=False)
    assert tap.safe == 2, "whether the broker hears of it or not"


def test_a_packet_id_says_nothing_on_another_connection() -> None:
    tap = Tap(READINGS)
    connected(tap, 1, packets.LEVEL_5)
    tap.from_broker(1, packets.make_publish(*READINGS[0], 7, packets.LEVEL_5))
    tell(tap, 1, 3, packets.LEVEL_5)
    connected(tap, 2, packets.LEVEL_5)
    tap.from_agent(2, puback(7), passed_on=True)
    tap.from_broker(2, puback(3))
    assert tap.safe == 0
    assert not tap.delivered


@pytest.mark.parametrize("level", LEVELS)
def test_an_alert_is_delivered_once_the_broker_has_acknowledged_it(level: int) -> None:
    tap = Tap(READINGS)
    connected(tap, 1, level)
    tell(tap, 1, 3, level)
    assert len(tap.sent) == 1
    assert not tap.delivered
    tap.from_broker(1, puback(3))
    assert [seen.alert for seen in tap.delivered] == [ALERT]


def test_what_was_refused_or_swallowed_is_not_delivered() -> None:
    tap = Tap(READINGS)
    connected(tap, 1, packets.LEVEL_5)
    tell(tap, 1, 3, packets.LEVEL_5)
    tap.from_broker(1, puback(3, 0x97))
    tell(tap, 1, 4, packets.LEVEL_5, passed_on=False)
    tap.from_broker(1, puback(4))
    assert len(tap.sent) == 1
    assert not tap.delivered


def test_subscriptions_stand_with_a_session_or_once_granted() -> None:
    for session, subscribed in ((1, True), (0, False)):
        tap = Tap(READINGS)
        connected(tap, 1, packets.LEVEL_3)
        tap.from_broker(1, bytes([packets.CONNACK << 4, 2, session, 0]))
        assert (tap.subscribed_since(0.0) is not None) is subscribed
        tap.from_broker(1, bytes([packets.SUBACK << 4, 3, 0, 1, 1]))
        assert tap.subscribed_since(0.0) is not None


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 40), min_size=1), st.sampled_from(LEVELS))
def test_packets_are_cut_out_however_they_arrive(payloads: list[bytes], pieces: list[int], level: int) -> None:
    stream = b"".join(packets.make_publish("a/b", payload, n + 1, level) for n, payload in enumerate(payloads))
    cutter, found, at, turn = Cutter(), [], 0, 0
    while at < len(stream):
        size = pieces[turn % len(pieces)]
        found += [packets.read_publish(packet, level) for packet in cutter.feed(stream[at : at + size])]
        at, turn = at + size, turn + 1
    assert [(each.topic, each.payload, each.packet_id, each.qos) for each in found] == [
        ("a/b", payload, n + 1, 1) for n, payload in enumerate(payloads)
    ]


@pytest.mark.parametrize("knock", [b"\x16\x03\x01\x02\x00\x01", b"GET /mqtt HTTP/1.1\r\n\r\n", b"\x16\x03", b"\xff\xff\xff\xff\xff"])
def test_a_second_look_at_a_broker_that_gave_no_answer_is_passed_over(knock: bytes) -> None:
    tap = Tap(READINGS)
    tap.opened(1)
    tap.from_agent(1, knock, passed_on=True)
    tap.from_broker(1, b"HTTP/1.1 400\r\n\r\n")
    assert not tap.sent
