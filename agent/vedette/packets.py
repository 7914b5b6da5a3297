"""Packets: what has arrived on a connection, cut apart; messages become a burst for whoever scores, all else is the MQTT client's.

Rules this module keeps: whatever bytes come, the answer is messages, whole packets or one declared error; what is kept of a packet that is
not whole is bounded.
"""

from collections.abc import Callable
from typing import NamedTuple

from vedette.contract.readings import Message

_PUBLISH = 0x30
"""A PUBLISH of QoS 0 or 1, whatever its other flags; nothing is subscribed to at QoS 2."""

_DUP = 0x08
"""The broker has sent this message before, and has no acknowledgement."""

_PUBACK = b"\x40\x02"
"""A PUBACK's first two bytes; the message's id follows. In MQTT 5, too, that is all of it where all is well."""

_PUBACK_REFUSALS = {0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
_UNSPECIFIED, _PACKET_TOO_LARGE, _QUOTA_EXCEEDED = 0x80, 0x95, 0x97


class Burst(NamedTuple):
    """Messages that arrived at once, in order.

    Attributes:
        messages: A topic that is not UTF-8 is an empty one.
        ids: Each one's packet id on its connection; 0 where it is not to be acknowledged.
        again: Positions of those that the broker has sent before, as it says.
    """

    messages: list[Message]
    ids: list[int]
    again: list[int]


class Packets:
    """Takes what has arrived apart.

    Args:
        has_properties: Whether messages have them: MQTT 5.
        max_packet: Of a message that is longer, in bytes, only so much is looked at: enough to refuse and to acknowledge it.
        on_other: Takes all packets that are no messages, whole.

    Attributes:
        count: Packets so far.
        burst: Messages of QoS 0 and 1 since the last `take_burst`.
        acks: The acknowledgements that they ask for.
    """

    def __init__(self, *, has_properties: bool, max_packet: int, on_other: Callable[[bytes], None]) -> None:
        self._has_properties, self._max_packet = has_properties, max_packet
        self._on_other = on_other
        self._skip = 0
        self.count = 0
        self.burst, self.acks = Burst([], [], []), bytearray()

    def take(self, data: bytes, now: float) -> bytes:
        """Take every packet that is whole.

        Args:
            data: What was left last time, and what came since.
            now: Epoch seconds.

        Returns:
            The beginning of one that is not.

        Raises:
            ConnectionError: these are no packets.
        """
        at, end = min(self._skip, len(data)), len(data)
        self._skip -= at
        while end - at >= 2:
            length, body = data[at + 1], at + 2
            if length > 127:
                length, body = _length(data, at + 1)
            command = data[at]
            is_message = command & 0xF4 == _PUBLISH
            beyond = max(0, length - self._max_packet)
            if beyond and not is_message:
                raise ConnectionError(f"a packet is {length} bytes long")
            if (stop := body + length - beyond) > end:
                break
            if is_message:
                self._message(command, data, body, stop, now)
            else:
                self._on_other(data[at:stop])
            self.count += 1
            at = min(stop + beyond, end)
            self._skip = stop + beyond - at
        return data[at:]

    def take_burst(self) -> tuple[Burst, bytearray]:
        """The messages since the last time, and their acknowledgements."""
        taken = self.burst, self.acks
        self.burst, self.acks = Burst([], [], []), bytearray()
        return taken

    def _message(self, command: int, data: bytes, at: int, stop: int, now: float) -> None:
        qos = command >> 1 & 1
        begin = at + 2
        at = begin + (data[at] << 8 | data[at + 1]) if begin <= stop else stop + 1
        end = at
        at += 2 * qos
        if self._has_properties and at < stop:
            length, at = (data[at], at + 1) if data[at] < 128 else _length(data, at)
            at += length
        elif self._has_properties:
            at = stop + 1
        if at > stop:
            raise ConnectionError("a message is shorter than it says")
        try:
            topic = data[begin:end].decode()
        except UnicodeDecodeError:
            topic = ""  # no stream's topic: it is counted as unmatched
        burst = self.burst
        if qos:
            # Straight to what leaves with the burst's end: in paho's queue, an acknowledgement costs more than all of the above.
            self.acks += _PUBACK + data[end : end + 2]
            burst.ids.append(data[end] << 8 | data[end + 1])
            if command & _DUP:
                burst.again.append(len(burst.messages))
        else:
            burst.ids.append(0)
        burst.messages.append(Message(topic, data[at:stop], now, bool(command & 1)))


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A number as MQTT writes it, seven bits a byte, the lowest first, and where it ends; (0, beyond the data) where it is cut off.

    Raises:
        ConnectionError: it is longer than the protocol allows.
    """
    length = 0
    for place in range(4):
        if at + place >= len(data):
            return 0, len(data) + 1
        byte = data[at + place]
        length |= (byte & 127) << 7 * place
        if byte < 128:
            return length, at + place + 1
    raise ConnectionError("a packet's length is longer than MQTT allows")


def with_known_reason(packet: bytes) -> bytes:
    """A PUBACK whose reason is one that MQTT has there, and any other packet as it is.

    mosquitto answers a message over its `message_size_limit` with "packet too large", which is none; paho would hang up, and send it again.
    """
    if packet[:1] != _PUBACK[:1] or len(packet) < 5 or packet[4] < 0x80 or packet[4] in _PUBACK_REFUSALS:
        return packet
    reason = _QUOTA_EXCEEDED if packet[4] == _PACKET_TOO_LARGE else _UNSPECIFIED
    return packet[:4] + bytes([reason]) + packet[5:]
