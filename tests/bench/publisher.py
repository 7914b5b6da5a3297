"""A fleet that costs next to nothing: readings encoded beforehand as MQTT packets and written to a socket at a steady rate.

Run as a program it takes orders as JSON lines on standard input and answers each with a JSON line once the broker has taken every
message; it ends with its input. `Publisher` is the handle that benches use.

Rules this module keeps: MQTT 3.1.1 and the standard library alone; time in a payload is when the message is due, so it is never late
and never from the future.
"""

import json
import math
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

TICK_S = 0.001
"""Messages of one tick leave in one write: waking for each one would cost as much as a subscriber does."""

_PINGREQ, _PUBACK_BYTES, _PINGRESP_BYTES = b"\xc0\x00", 4, 2
_SILENCE_S = 10.0
_HEAD_START_S, _ENCODING_S = 0.02, 12e-6
"""Until the first message of an order is due: the time that it takes to encode them all."""

_MOST_AHEAD = 1_000_000
"""Messages of an order that are encoded before the first leaves; of a longer one each when it is due."""

ORDINARY, ODD = (4.0, 55.0), (30.0, 90.0)
"""The temperatures and humidities that readings are around."""


class Order(NamedTuple):
    """What to publish: `messages` at `rate` a second, in turn from each of `devices` devices of each topic.

    Attributes:
        topics: With `{device}` where a device's name goes.
        odd: So many devices send a value far out of the ordinary in every second of their readings: from the second on.
    """

    topics: tuple[str, ...]
    devices: int
    qos: int
    rate: float
    messages: int
    odd: int = 0

    @property
    def odd_messages(self) -> int:
        """How many of the messages hold such a value."""
        return sum(_is_odd(self, n) for n in range(self.messages)) if self.odd else 0


class Published(NamedTuple):
    """How it went: messages that the broker took, and seconds from the first to the last of them."""

    messages: int
    seconds: float


class Publisher:
    """The program as a child process.

    Args:
        port: Of a broker on loopback.
        expects_loss: The broker may go away: the program then ends without a word.
    """

    def __init__(self, port: int, *, expects_loss: bool = False) -> None:
        self._port, self._errors = port, subprocess.DEVNULL if expects_loss else None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        command = [sys.executable, str(Path(__file__)), str(self._port)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, whatever it is doing."""
        assert self._process
        self._process.kill()
        self._process.communicate()

    def publish(self, order: Order) -> Published:
        """Publish and wait until the broker has everything.

        Raises:
            ConnectionError: the broker went away, or took nothing for a while.
        """
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(order._asdict()) + "\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise ConnectionError("the publisher ended before its time")
        return Published(**json.loads(answer))


def main(port: int) -> None:
    """Carry out orders until there are no more."""
    with socket.create_connection(("127.0.0.1", port), timeout=_SILENCE_S) as broker:
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _connect(broker)
        for line in sys.stdin:
            order = Order(**json.loads(line))
            print(json.dumps(_publish(broker, order)._asdict()), flush=True)


def _connect(broker: socket.socket) -> None:
    client_id = _text("fleet")
    variable = _text("MQTT") + b"\x04\x02\x00\x00"  # 3.1.1, clean session, no keepalive
    broker.sendall(b"\x10" + _length(len(variable) + len(client_id)) + variable + client_id)
    if broker.recv(4) != b"\x20\x02\x00\x00":
        raise ConnectionError("the broker refuses the fleet")


def _publish(broker: socket.socket, order: Order) -> Published:
    ahead = order.messages <= _MOST_AHEAD
    start = time.time() + _HEAD_START_S + (order.messages * _ENCODING_S if ahead else 0.0)
    chunks: Iterable[bytes] = list(_chunks(order, start)) if ahead else _chunks(order, start)
    time.sleep(max(0.0, start - time.time()))
    expected = _PINGRESP_BYTES + (_PUBACK_BYTES * order.messages if order.qos else 0)
    answered = 0
    began = time.perf_counter()
    for tick, chunk in enumerate(chunks):
        wait_s = began + tick * TICK_S - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        broker.sendall(chunk)
        if order.qos:
            answered += _waiting_bytes(broker)
    # mosquitto takes a client's packets in order, so its answer comes after all of them.
    broker.sendall(_PINGREQ)
    while answered < expected:
        received = len(broker.recv(65536))
        if not received:
            raise ConnectionError("the broker hung up on the fleet")
        answered += received
    return Published(order.messages, time.perf_counter() - began)


def _waiting_bytes(broker: socket.socket) -> int:
    # Asked first: a socket with a timeout would wait for something to read, MSG_DONTWAIT or not.
    return len(broker.recv(65536)) if select.select([broker], [], [], 0)[0] else 0


def _chunks(order: Order, start: float) -> Iterator[bytes]:
    """The packets of each tick, as one piece of bytes."""
    rng = random.Random(1)
    topics = [_text(topic.replace("{device}", device(n))) for n in range(order.devices) for topic in order.topics]
    a_tick = order.rate * TICK_S
    for tick in range(math.ceil(order.messages / a_tick)):
        numbers = range(round(tick * a_tick), min(order.messages, round((tick + 1) * a_tick)))
        due = (start + n / order.rate for n in numbers)
        payloads = (_payload(time_s, ODD if _is_odd(order, n) else ORDINARY, rng) for n, time_s in zip(numbers, due, strict=True))
        yield b"".join(_packet(topics[n % len(topics)], order.qos, n, payload) for n, payload in zip(numbers, payloads, strict=True))


def device(number: int) -> str:
    """A device's name."""
    return f"fridge-{number:03}"


def _is_odd(order: Order, number: int) -> bool:
    turn, place = divmod(number, order.devices * len(order.topics))
    return place < order.odd and turn % 2 == 1


def _payload(time_s: float, around: tuple[float, float], rng: random.Random) -> bytes:
    """About 80 bytes, as small sensors send them: two values that the model takes and two that it does not."""
    temperature, humidity = around[0] + rng.uniform(-2, 2), around[1] + rng.uniform(-10, 10)
    return b'{"ts":%.3f,"temperature":%.2f,"humidity":%.1f,"battery":%d,"rssi":-61}' % (time_s, temperature, humidity, 97)


def _packet(topic: bytes, qos: int, number: int, payload: bytes) -> bytes:
    message_id = (number % 65535 + 1).to_bytes(2, "big") if qos else b""
    return bytes([0x30 | qos << 1]) + _length(len(topic) + len(message_id) + len(payload)) + topic + message_id + payload


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _length(count: int) -> bytes:
    """A remaining length as MQTT writes it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while True:
        count, low = divmod(count, 128)
        encoded.append(low | (0x80 if count else 0))
        if not count:
            return bytes(encoded)


if __name__ == "__main__":
    main(int(sys.argv[1]))
