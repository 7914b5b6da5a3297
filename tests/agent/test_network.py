import socket
import time
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from brokers import Mosquitto
from vedette.network import MOST_UNSENT, Client, Network, ReadAhead

Arrived = tuple[str, bytes, int, bool]

untyped_properties: Any = Properties


@pytest.fixture
def pair() -> Iterator[tuple[ReadAhead, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    ahead = ReadAhead(near)
    yield ahead, far
    ahead.close()
    far.close()


def test_what_is_read_ahead_comes_in_the_pieces_that_are_asked_for(pair: tuple[ReadAhead, socket.socket]) -> None:
    ahead, far = pair
    far.sendall(b"abcdef")
    assert [ahead.recv(1), ahead.recv(3)] == [b"a", b"bcd"]
    assert ahead.holds_more
    assert ahead.recv(99) == b"ef"
    assert not ahead.holds_more
    with pytest.raises(BlockingIOError):
        ahead.recv(1)
    far.close()
    assert ahead.recv(1) == b""


def test_what_is_sent_leaves_with_the_flush_and_no_more_is_taken_than_there_is_room_for(pair: tuple[ReadAhead, socket.socket]) -> None:
    ahead, far = pair
    ahead.send(b"ab")
    ahead.send(b"cd")
    assert ahead.flush()
    assert far.recv(10) == b"abcd"
    for _ in range(2):
        ahead.send(bytes(MOST_UNSENT))
        ahead.flush()
    with pytest.raises(BlockingIOError):
        ahead.send(b"more")
    assert not ahead.flush()  # nobody reads on the other side


def read(client: Client, command: int, packet: bytes) -> MQTTErrorCode:
    client._in_packet["command"], client._in_packet["packet"] = command, bytearray(packet)
    return client._handle_publish()


def clients(protocol: MQTTProtocolVersion) -> tuple[Client, paho.Client, list[Arrived], list[Arrived]]:
    ours, its = Client(CallbackAPIVersion.VERSION2, protocol=protocol), paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
    here: list[Arrived] = []
    there: list[Arrived] = []
    ours.on_arrival = lambda *message: here.append(message)
    ours.ahead = ReadAhead(None)

    def arrived(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        there.append((message.topic, bytes(message.payload), message.qos, message.retain))

    its.on_message = arrived
    return ours, its, here, there


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40),
    st.binary(max_size=300), st.integers(0, 1), st.booleans(), st.sampled_from([paho.MQTTv5, paho.MQTTv311]),
    st.lists(st.tuples(st.text("ab", max_size=90), st.text("cd")), max_size=4),
)  # fmt: skip
def test_an_arriving_message_is_read_as_paho_reads_it(
    topic: str, payload: bytes, qos: int, retained: bool, protocol: MQTTProtocolVersion, user_properties: list[tuple[str, str]]
) -> None:
    ours, its, here, there = clients(protocol)
    properties = untyped_properties(PacketTypes.PUBLISH)
    for pair_ in user_properties:
        properties.UserProperty = pair_
    packed = properties.pack() if protocol == paho.MQTTv5 else b""
    message_id = b"\x12\x34" if qos else b""
    packet = len(topic.encode()).to_bytes(2, "big") + topic.encode() + message_id + packed + payload
    command = 0x30 | qos << 1 | retained
    read(ours, command, packet)
    its._in_packet["command"], its._in_packet["packet"] = command, bytearray(packet)
    its._handle_publish()
    assert here == there == [(topic, payload, qos, retained)]
    assert ours.ahead
    assert (
        bytes(ours.ahead._unsent) == b"".join(bytes(queued["packet"]) for queued in its._out_packet) == (b"@\x02\x12\x34" if qos else b"")
    )


@given(st.binary(max_size=30), st.integers(0, 1), st.sampled_from([paho.MQTTv5, paho.MQTTv311]))
def test_a_malformed_packet_costs_the_connection_and_raises_nothing(packet: bytes, qos: int, protocol: MQTTProtocolVersion) -> None:
    ours, _, here, _ = clients(protocol)
    assert bool(here) == (read(ours, 0x30 | qos << 1, packet) != MQTTErrorCode.MQTT_ERR_PROTOCOL)


def test_a_topic_that_is_not_utf8_is_handed_on_as_an_empty_one() -> None:
    ours, _, here, _ = clients(paho.MQTTv311)
    read(ours, 0x30, b"\x00\x02\xff\xfeX")
    assert here == [("", b"X", 0, False)]


def test_a_fault_in_handling_a_message_costs_the_connection_and_a_new_one_is_made(broker: Mosquitto) -> None:
    seen: list[bytes] = []
    client = Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    network = Network(client, 1.0, not_reached=lambda: None)

    def arrived(_topic: str, payload: bytes, _qos: int, _retained: bool) -> None:
        seen.append(payload)
        if payload == b"poison":
            raise RuntimeError("handling failed")

    client.on_arrival = arrived
    client.on_connect = lambda client, *_: client.subscribe("t", 0)
    client.on_subscribe = lambda *_: network.steady()
    client.connect_async("127.0.0.1", broker.port)
    network.start()
    sender = paho.Client(CallbackAPIVersion.VERSION2)
    sender.connect("127.0.0.1", broker.port)
    sender.loop_start()
    try:
        wait_for(sender, seen, b"one")
        sender.publish("t", b"poison").wait_for_publish(5)
        wait_for(sender, seen, b"two")
    finally:
        sender.disconnect()
        sender.loop_stop()
        client.disconnect()
        network.stop(5.0)
    assert b"poison" in seen


def wait_for(sender: paho.Client, seen: list[bytes], payload: bytes) -> None:
    deadline = time.monotonic() + 20
    while payload not in seen and time.monotonic() < deadline:
        sender.publish("t", payload).wait_for_publish(5)
        time.sleep(0.1)
    assert payload in seen
