import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from brokers import Mosquitto
from chaos.packets import framed
from vedette.network import Client, Network
from vedette.packets import Burst, Packets
from vedette.read_ahead import MOST_UNSENT, ReadAhead
from vedette.websocket import WebSocket

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


def test_paho_reads_what_it_is_offered_and_learns_that_the_other_side_hung_up(pair: tuple[ReadAhead, socket.socket]) -> None:
    ahead, far = pair
    with pytest.raises(BlockingIOError):
        ahead.fill()
    far.sendall(b"abcdef")
    assert ahead.fill() == b"abcdef"
    ahead.keep(b"ef")
    far.sendall(b"gh")
    assert ahead.fill() == b"efgh"
    ahead.offer(b"xyz")
    assert [ahead.recv(1), ahead.recv(9)] == [b"x", b"yz"]
    with pytest.raises(BlockingIOError):
        ahead.recv(1)
    far.close()
    assert ahead.fill() == b"ef"
    assert ahead.is_over and ahead.recv(1) == b""


@pytest.mark.parametrize("wrapped", [False, True], ids=["mqtts", "wss"])
def test_over_tls_too_one_fill_brings_all_that_has_arrived_and_the_end(tmp_path: Path, wrapped: bool) -> None:
    certificate = tmp_path / "server.pem"
    made: list[str | Path] = ["-keyout", certificate, "-out", tmp_path / "public.pem", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made], check=True, capture_output=True)
    certificate.write_text(certificate.read_text() + (tmp_path / "public.pem").read_text())
    served, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=tmp_path / "public.pem")
    served.load_cert_chain(certificate)
    near, far = socket.socketpair()

    def publish() -> None:
        with served.wrap_socket(far, server_side=True) as broker:
            for _ in range(100):
                broker.send(b"\x82\x07packet " if wrapped else b"packet ")  # a record of its own, as mosquitto sends each packet

    broker = threading.Thread(target=publish)
    broker.start()
    client = trusting.wrap_socket(near, server_hostname="localhost")
    broker.join(20)
    client.setblocking(False)
    ahead = ReadAhead(WebSocket(client) if wrapped else client)
    assert ahead.fill() == 100 * b"packet "
    assert ahead.is_over
    ahead.close()


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


class Taken:
    """What packets come to."""

    def __init__(self, protocol: MQTTProtocolVersion, max_packet: int = 10_000) -> None:
        self.others: list[bytes] = []
        self._packets = Packets(has_properties=protocol == paho.MQTTv5, max_packet=max_packet, on_other=self.others.append)

    @property
    def messages(self) -> list[Arrived]:
        burst = self._packets.burst
        return [(m.topic, m.payload, int(id_ > 0), m.retained) for m, id_ in zip(burst.messages, burst.ids, strict=True)]

    @property
    def again(self) -> list[int]:
        return self._packets.burst.again

    @property
    def answers(self) -> bytes:
        return bytes(self._packets.acks)

    def take(self, *chunks: bytes) -> bytes:
        rest = b""
        for chunk in chunks:
            rest = self._packets.take(rest + chunk, 0.0)
        return rest


PROTOCOLS = st.sampled_from([paho.MQTTv5, paho.MQTTv311])
MESSAGES = st.tuples(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40),
    st.binary(max_size=300),
    st.integers(0, 1),
    st.booleans(),
    st.lists(st.tuples(st.text("ab", max_size=90), st.text("cd")), max_size=4),
)


@given(st.lists(MESSAGES, max_size=5), PROTOCOLS, st.lists(st.integers(0, 2000), max_size=4))
def test_arriving_messages_are_read_as_paho_reads_them_however_they_are_cut_up(
    messages: list[tuple[str, bytes, int, bool, list[tuple[str, str]]]], protocol: MQTTProtocolVersion, cuts: list[int]
) -> None:
    its = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
    there: list[Arrived] = []

    def arrived(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        there.append((message.topic, bytes(message.payload), message.qos, message.retain))

    its.on_message = arrived
    stream = b""
    for topic, payload, qos, retained, user_properties in messages:
        properties = untyped_properties(PacketTypes.PUBLISH)
        for pair_ in user_properties:
            properties.UserProperty = pair_
        packed = properties.pack() if protocol == paho.MQTTv5 else b""
        packet = len(topic.encode()).to_bytes(2, "big") + topic.encode() + (b"\x12\x34" if qos else b"") + packed + payload
        command = 0x30 | qos << 1 | retained
        stream += framed(command, packet) + b"\xd0\x00"
        its._in_packet["command"], its._in_packet["packet"] = command, bytearray(packet)
        its._handle_publish()
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    ours = Taken(protocol)
    assert ours.take(*(stream[begin:end] for begin, end in pairwise(places))) == b""
    assert ours.messages == there == [message[:4] for message in messages]
    assert ours.answers == b"".join(bytes(queued["packet"]) for queued in its._out_packet)
    assert ours.others == [b"\xd0\x00"] * len(messages)


@given(st.binary(max_size=60), PROTOCOLS)
def test_bytes_that_are_no_packets_cost_the_connection_and_nothing_else(data: bytes, protocol: MQTTProtocolVersion) -> None:
    with contextlib.suppress(ConnectionError):
        rest = Taken(protocol).take(b"\x32" + data)
        assert len(rest) <= len(data) + 1


def test_a_message_that_is_shorter_than_it_says_is_a_fault() -> None:
    with pytest.raises(ConnectionError, match="shorter"):
        Taken(paho.MQTTv311).take(framed(0x32, b"\x00\x01a"))
    with pytest.raises(ConnectionError, match="longer"):
        Taken(paho.MQTTv311).take(b"\x30\xff\xff\xff\xff\x01")


def test_of_a_message_that_is_too_long_only_the_beginning_is_kept_and_what_follows_is_read() -> None:
    ours = Taken(paho.MQTTv311, max_packet=100)
    sent = framed(0x3B, b"\x00\x01a\x00\x07" + bytes(50_000)) + framed(0x30, b"\x00\x01bX")
    rest, held = b"", 0
    for begin in range(0, len(sent), 33):
        rest = ours._packets.take(rest + sent[begin : begin + 33], 0.0)
        held = max(held, len(rest))
    assert held < 140
    assert ours.messages == [("a", bytes(95), 1, True), ("b", b"X", 0, False)]
    assert ours.answers == b"\x40\x02\x00\x07" and ours.again == [0]
    with pytest.raises(ConnectionError, match="long"):
        Taken(paho.MQTTv311, max_packet=100).take(framed(0x40, bytes(101)))


def test_a_topic_that_is_not_utf8_is_handed_on_as_an_empty_one() -> None:
    ours = Taken(paho.MQTTv311)
    ours.take(framed(0x30, b"\x00\x02\xff\xfeX"))
    assert ours.messages == [("", b"X", 0, False)]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_fault_in_handling_a_message_costs_the_connection_and_a_new_one_is_made(broker: Mosquitto, qos: int) -> None:
    seen: list[bytes] = []
    client = Client(lambda: socket.create_connection(("127.0.0.1", broker.port)), client_id=f"network-{qos}", protocol=paho.MQTTv5)

    def arrived(burst: Burst) -> bool:
        seen.extend(message.payload for message in burst.messages)
        if b"poison" in [message.payload for message in burst.messages]:
            raise RuntimeError("handling failed")
        return True

    network = Network(client, 1.0, 60, 1000, arrived, on_end=lambda _: None)
    client.on_connect = lambda client, *_: client.subscribe("t", qos)
    client.on_subscribe = lambda *_: network.steady()
    # The broker keeps what is not acknowledged, and would bring it again.
    session: Any = untyped_properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 60
    client.connect_async("127.0.0.1", broker.port, clean_start=False, properties=session)
    network.start()
    sender = paho.Client(CallbackAPIVersion.VERSION2)
    sender.connect("127.0.0.1", broker.port)
    sender.loop_start()
    try:
        wait_for(sender, seen, b"one")
        sender.publish("t", b"poison", qos=1).wait_for_publish(5)
        wait_for(sender, seen, b"two")
    finally:
        sender.disconnect()
        sender.loop_stop()
        client.disconnect()
        network.stop(5.0)
    assert seen.count(b"poison") == 1


def wait_for(sender: paho.Client, seen: list[bytes], payload: bytes) -> None:
    deadline = time.monotonic() + 20
    while payload not in seen and time.monotonic() < deadline:
        sender.publish("t", payload).wait_for_publish(5)
        time.sleep(0.1)
    assert payload in seen
