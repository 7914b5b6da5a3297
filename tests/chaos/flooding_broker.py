"""A broker that floods: it takes one agent's connection and sends it what it was told, as fast as the socket takes it.

Rules this module keeps: MQTT 3.1.1 on loopback and no more of it than an agent asks for; what is sent is made beforehand; it waits for no
acknowledgement, as a broker without limits would not.
"""

import json
import random
import select
import socket
import threading
import time
from collections import deque
from typing import Any, NamedTuple, Self

SPOOFED = 100_000
BLOCK = 100
"""Messages that are sent in one go; in between comes what honest devices have to say."""

_PUBACK, _PINGRESP, _CONNACK = 0x40, b"\xd0\0", b"\x20\2\0\0"


class State(NamedTuple):
    """A device's score as the agent published it; `time` is its reading's, `heard` when it came here, epoch seconds."""

    device: str
    time: float
    heard: float


class Sent(NamedTuple):
    """A reading of an honest device; epoch seconds."""

    device: str
    time: float
    qos: int


def publish(topic: str, payload: bytes, packet_id: int = 0) -> bytes:
    """A PUBLISH packet, of QoS 1 where there is an id."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (packet_id.to_bytes(2, "big") if packet_id else b"") + payload
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
    return bytes([0x32 if packet_id else 0x30]) + length + body


class FloodingBroker:
    """The broker, and the honest devices behind it: each sends a reading a second, half of them with QoS 1.

    Args:
        honest: How many.
        seed: Of the spoofed names' order.
        every: Of so many spoofed messages one asks to be acknowledged, which holds the connection back; 0 for none.

    Attributes:
        flooding: Whether spoofed names are sent, too.
        flooded: Messages of spoofed names so far.
        sent: Honest readings.
        states: What the agent scored of honest devices.
        stats: What the agent said, and when, by the monotonic clock.
    """

    def __init__(self, honest: int, seed: int, every: int) -> None:
        self._honest = honest
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"
        self.flooding = False
        self.flooded = 0
        self.sent: list[Sent] = []
        self.states: list[State] = []
        self.stats: list[tuple[float, dict[str, Any]]] = []
        self.subscribed = threading.Event()
        self._over = threading.Event()
        self._answers: deque[bytes] = deque()
        rng = random.Random(seed)
        names = list(range(SPOOFED))
        rng.shuffle(names)
        packets = [
            publish(
                f"f/spoofed-{name}",
                b'{"ts": 1790000000, "temperature": %d}' % rng.randrange(2, 7),
                0 if not every or number % every else 1 + number % 60_000,
            )
            for number, name in enumerate(names)
        ]
        self._blocks = [b"".join(packets[start : start + BLOCK]) for start in range(0, SPOOFED, BLOCK)]
        self._thread = threading.Thread(target=self._serve, name="flooding-broker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self._server.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            if select.select([self._server], [], [], 0.1)[0]:
                connection, _ = self._server.accept()
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection.settimeout(0)
                    try:
                        self._converse(connection)
                    except (ConnectionError, OSError):
                        self.subscribed.clear()

    def _converse(self, connection: socket.socket) -> None:
        waiting, came = memoryview(b""), b""
        block, due, number = 0, time.time(), 0
        while not self._over.is_set():
            busy = bool(waiting) or (self.flooding and self.subscribed.is_set())
            readable, writable, _ = select.select([connection], [connection] if busy or self._answers else [], [], 0.005)
            if readable:
                data = connection.recv(1 << 18)
                if not data:
                    return
                came = self._take(came + data)
            if not waiting:
                pieces = [self._answers.popleft() for _ in range(len(self._answers))]
                now = time.time()
                if self.subscribed.is_set():
                    if due <= now:
                        pieces.append(self._speak(number, now))
                        number += 1
                        # What is late is not made up for: a device's readings stay a second apart.
                        due = max(due + 1.0 / self._honest, now)
                    if self.flooding:
                        pieces.append(self._blocks[block])
                        block = (block + 1) % len(self._blocks)
                        self.flooded += BLOCK
                waiting = memoryview(b"".join(pieces))
            if waiting and writable:
                waiting = waiting[connection.send(waiting) :]

    def _speak(self, number: int, now: float) -> bytes:
        device = f"honest-{number % self._honest}"
        qos = number % self._honest % 2
        at = round(now, 3)
        self.sent.append(Sent(device, at, qos))
        return publish(f"f/{device}", b'{"ts": %.3f, "temperature": 4.2}' % at, 60_001 + number % 5000 if qos else 0)

    def _take(self, data: bytes) -> bytes:
        """Answer the agent's packets.

        Returns:
            The beginning of one that is not whole.
        """
        at = 0
        while len(data) - at >= 2:
            length, body, shift = 0, at + 1, 0
            while body < len(data):
                length |= (data[body] & 127) << shift
                shift, body = shift + 7, body + 1
                if data[body - 1] < 128:
                    break
            else:
                break
            if body + length > len(data):
                break
            self._answer(data[at], data[body : body + length])
            at = body + length
        return data[at:]

    def _answer(self, command: int, body: bytes) -> None:
        kind = command >> 4
        if kind == 1:
            self._answers.append(_CONNACK)
        elif kind == 8:
            self._answers.append(b"\x90\3" + body[:2] + b"\1")
            self.subscribed.set()
        elif kind == 12:
            self._answers.append(_PINGRESP)
        elif kind == 3:
            end = 2 + int.from_bytes(body[:2], "big")
            topic, qos = body[2:end].decode(), command >> 1 & 3
            if qos:
                self._answers.append(bytes([_PUBACK, 2]) + body[end : end + 2])
            self._heard(topic, body[end + 2 * bool(qos) :])

    def _heard(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/stats"):
            self.stats.append((time.monotonic(), json.loads(payload)))
        elif "/state/" in topic and (device := topic.rpartition("/")[2]).startswith("honest-"):
            self.states.append(State(device, json.loads(payload)["time"], time.time()))
