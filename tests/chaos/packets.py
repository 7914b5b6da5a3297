"""MQTT packets for the test tree: cut out of a stream of bytes, read, and made, for 3.1.1 and for 5.

Rules this module keeps: nothing of the agent's own reading of packets is used, so that a fault there cannot hide itself; properties are
passed over.
"""

from collections.abc import Iterator
from typing import NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
PING, FAREWELL = b"\xc0\x00", b"\xe0\x00"
LEVEL_5, LEVEL_3 = 5, 4


class Packet(NamedTuple):
    """One packet: its kind, the four flags beside it, and what follows its length."""

    kind: int
    flags: int
    body: bytes


class Published(NamedTuple):
    """What a PUBLISH says; `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    packet_id: int
    qos: int


class Cutter:
    """Cuts a stream into packets, however it arrives."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Take bytes, and give the packets that they complete."""
        self._rest += data
        while (found := _head(self._rest)) and len(self._rest) >= sum(found):
            start, length = found
            first, body = self._rest[0], bytes(self._rest[start : start + length])
            del self._rest[: start + length]
            yield Packet(first >> 4, first & 15, body)


def _head(data: bytearray) -> tuple[int, int] | None:
    """Where the body starts and how long it is; None where that has not arrived."""
    length = 0
    for place in range(1, 5):
        if place >= len(data):
            return None
        length |= (data[place] & 127) << 7 * (place - 1)
        if data[place] < 128:
            return place + 1, length
    raise ValueError("a packet's length is longer than MQTT allows")


def level(connect: bytes) -> int:
    """The protocol's level in a CONNECT's body: 4 is 3.1.1."""
    return connect[2 + int.from_bytes(connect[:2], "big")]


def read_publish(packet: Packet, protocol: int) -> Published:
    """A PUBLISH taken apart."""
    body, qos = packet.body, packet.flags >> 1 & 3
    at = 2 + int.from_bytes(body[:2], "big")
    topic, packet_id = body[2:at].decode(), 0
    if qos:
        packet_id, at = int.from_bytes(body[at : at + 2], "big"), at + 2
    if protocol == LEVEL_5:
        count, shift = 0, 0
        while True:
            byte, at = body[at], at + 1
            count |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        at += count
    return Published(topic, body[at:], packet_id, qos)


def acknowledges(packet: Packet) -> int | None:
    """The id of the message that a PUBACK takes on; None where it refuses it."""
    refused = len(packet.body) > 2 and packet.body[2] >= 0x80
    return None if refused else int.from_bytes(packet.body[:2], "big")


def is_subscribed(packet: Packet, protocol: int) -> bool:
    """Whether a CONNACK or SUBACK says that the client's subscriptions stand."""
    if packet.kind == CONNACK:
        return packet.body[0] & 1 == 1 and packet.body[1] == 0
    return packet.kind == SUBACK and packet.body[-1] < 0x80


def make_connect(client_id: str, protocol: int, keepalive: int = 60) -> bytes:
    """A CONNECT of a client without a session."""
    properties = b"\0" if protocol == LEVEL_5 else b""
    return framed(CONNECT << 4, _text("MQTT") + bytes([protocol, 2]) + keepalive.to_bytes(2, "big") + properties + _text(client_id))


def make_publish(topic: str, payload: bytes, packet_id: int, protocol: int) -> bytes:
    """A PUBLISH of QoS 1."""
    properties = b"\0" if protocol == LEVEL_5 else b""
    return framed(PUBLISH << 4 | 2, _text(topic) + packet_id.to_bytes(2, "big") + properties + payload)


def framed(first: int, body: bytes) -> bytes:
    """A packet of these: its first byte, and what follows its length."""
    length, encoded = len(body), bytearray()
    while True:
        length, low = divmod(length, 128)
        encoded.append(low | (0x80 if length else 0))
        if not length:
            return bytes([first]) + bytes(encoded) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data
