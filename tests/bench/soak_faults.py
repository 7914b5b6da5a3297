"""What `soak.py --faults` does to an agent while it is at work: lost brokers, cuts, stalls, hostile payloads, newcomers, models.

Rules this module keeps: what happens, and when, is drawn from a seed; between two faults there is quiet, in which the agent is looked at;
of devices there are as many as the agent remembers before the first look, so that newcomers alone make nothing grow.
"""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bench.models import DEVIATION, FEATURES
from bench.rig import topic
from brokers import Mosquitto
from bundles import make_bundle
from chaos.proxy import End, Proxy
from vedette.store import Store

REMEMBERED = 10_000
"""Devices: the agent's default cap."""

KEEPALIVE_S = 5.0
_NEWCOMERS, _HOSTILE = 1500, 2000
_SAMPLES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b'{"ts":1e400,"temperature":4,"humidity":50}',
    b'{"ts":1790000000,"temperature":NaN,"humidity":50}',
    b'{"ts":1790000000,"temperature":true,"humidity":"50"}',
    b'{"ts":99999999999,"temperature":4,"humidity":50}',
    b'{"ts":1790000000}trailing',
    b"[" * 5000,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b"{" + b",".join(b'"k%d":1' % n for n in range(3000)) + b"}",
    b'"' + b"x" * 70_000 + b'"',
    b"null",
)


class NobodyLooks:
    """An observer that sees nothing: at half load, looking would cost as much as the agent."""

    def opened(self, connection: int) -> None:
        """See Observer."""

    def from_agent(self, connection: int, data: bytes, *, passed_on: bool) -> None:
        """See Observer."""

    def from_broker(self, connection: int, data: bytes) -> None:
        """See Observer."""

    def left(self, connection: int) -> None:
        """See Observer."""


class Faults:
    """Faults, one at a time.

    Args:
        broker: Running.
        proxy: Between it and the agent.
        models: The agent's, by name; their topics are what hostile devices publish on.
        state_dir: The agent's.
        seed: Of what happens.

    Attributes:
        done: How often each kind of fault has happened.
    """

    def __init__(self, broker: Mosquitto, proxy: Proxy, models: Sequence[str], state_dir: Path, seed: int) -> None:
        self._broker, self._proxy, self._models = broker, proxy, models
        self._store, self._folder = Store(state_dir), state_dir
        self._rng = random.Random(seed)
        self._versions = 0
        self._names = 0
        self.done: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], None]] = {
            "broker stopped": self._stop_broker,
            "broker killed": self._kill_broker,
            "connection reset": lambda: self._proxy.cut(End.RESET),
            "connection closed": lambda: self._proxy.cut(End.FINISH),
            "connection stalled": self._stall,
            "connection half-open": self._swallow,
            "hostile payloads": self._send_hostile,
            "newcomers": self._send_newcomers,
            "model swapped": self._swap,
        }

    def fill(self) -> None:
        """Let the agent remember as many devices as it can."""
        for model in self._models:
            self._send(model, [(self._newcomer(), self._reading()) for _ in range(REMEMBERED)])

    def happen(self) -> str:
        """Let one of them happen; what it was is returned once it is over."""
        kind = self._rng.choice(list(self._kinds))
        self._kinds[kind]()
        self.done[kind] += 1
        return kind

    def _stop_broker(self) -> None:
        self._broker.stop()
        time.sleep(self._rng.uniform(0.0, 3.0))
        self._broker.start()

    def _kill_broker(self) -> None:
        self._broker.kill()
        self._broker.start()

    def _stall(self) -> None:
        self._proxy.stall(self._rng.choice(("up", "down", "both")))
        time.sleep(self._rng.uniform(0.5, 2.5 * KEEPALIVE_S))
        self._proxy.flow()

    def _swallow(self) -> None:
        self._proxy.swallow()
        time.sleep(2.5 * KEEPALIVE_S)
        self._proxy.flow()

    def _send_hostile(self) -> None:
        whole = self._reading()
        payloads = [*_SAMPLES, *(self._mutated(whole) for _ in range(_HOSTILE))]
        for model in self._models:
            self._send(model, [(f"fridge-{n % 50:03}", payload) for n, payload in enumerate(payloads)])

    def _send_newcomers(self) -> None:
        for model in self._models:
            self._send(model, [(self._newcomer(), self._reading()) for _ in range(_NEWCOMERS)])

    def _swap(self) -> None:
        self._versions += 1
        name = f"1.0.{self._versions}"
        path = self._folder / f"{DEVIATION}-{name}.vedette"
        path.write_bytes(make_bundle(name=DEVIATION, version=name, features=FEATURES[:1], threshold=1000.0))
        self._store.install(path)
        path.unlink()

    def _newcomer(self) -> str:
        self._names += 1
        return f"newcomer-{self._names}-{self._rng.randrange(10**9)}"

    def _reading(self) -> bytes:
        temperature = 4.0 + self._rng.uniform(-2, 2)
        return b'{"ts":%.3f,"temperature":%.2f,"humidity":%.1f}' % (time.time(), temperature, 55.0)

    def _mutated(self, payload: bytes) -> bytes:
        altered = bytearray(payload)
        for _ in range(self._rng.randint(1, 6)):
            altered[self._rng.randrange(len(altered))] = self._rng.randrange(256)
        return bytes(altered[: self._rng.randint(1, len(altered))])

    def _send(self, model: str, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish, by QoS 0 and 1 in turn, and wait until the broker has all; a broker that is not there yet gets none."""
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(0)
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            client.connect("127.0.0.1", self._broker.port)
            client.loop_start()
            sent = [client.publish(topic(model).replace("{device}", name), payload, n % 2) for n, (name, payload) in enumerate(messages)]
            for info in sent:
                info.wait_for_publish(10.0)
        client.disconnect()
        client.loop_stop()
