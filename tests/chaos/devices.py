"""The fleet as it publishes: in order, in bursts, and again from a safe point when the broker has died.

A broker that is killed may have lost what it had acknowledged to the devices, and no agent can help that. Devices with a store of their own
go back and send again; so does this one. How far is the harshest that is fair: to the first reading that the agent has not acknowledged,
which is the moment from which on it is the agent's to lose. It begins only when the agent's subscriptions stand on the broker that is
there now: what a broker without subscriptions takes is nobody's, and a later reading would make an earlier one late.

Rules this module keeps: QoS 1, one connection, the order of the readings; it knows of the broker's death what a device knows, that its
connection is gone; the same bytes are sent again.
"""

import contextlib
import random
import selectors
import socket
import threading
import time
from typing import Self

from chaos import packets
from chaos.packets import Cutter
from chaos.scenario import Scenario
from chaos.tap import Tap

_MOST_AHEAD = 400
"""Readings that the broker has not acknowledged, at most."""

_STUCK_S = 6.0
"""Without any progress for so long, after all was sent, what the agent has not acknowledged is sent again: a broker lost it."""

_LARGEST_BURST = 120


class Fleet:
    """Publishes a scenario's readings, in a thread of its own.

    Args:
        scenario: What to publish.
        tap: Knows what the agent has.
        port: Of the broker itself.
        protocol: Level, as in `packets`.
        rate: Readings a second, in bursts.
        seed: Of the bursts.

    Attributes:
        readings: In their order.
        sent: Readings, each as often as it was sent.
        went_back: How often.
    """

    def __init__(self, scenario: Scenario, tap: Tap, port: int, protocol: int, rate: float, seed: int) -> None:
        self._scenario, self.readings, self._tap = scenario, scenario.readings, tap
        self._port, self._protocol, self._rate = port, protocol, rate
        self._rng = random.Random(seed)
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        self._stop = threading.Event()
        self._broker_began_s = 0.0
        self.sent = self.went_back = 0
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)

    @property
    def is_done(self) -> bool:
        """Whether the agent has acknowledged every reading."""
        return self._tap.safe == len(self.readings)

    @property
    def is_past_prelude(self) -> bool:
        """Whether the agent has the readings that the beacons send."""
        return self._tap.safe >= self._scenario.prelude

    def hurry(self) -> None:
        """Publish the rest as fast as agent and broker take it."""
        self._rate = 1000.0

    def broker_began(self) -> None:
        """A broker has been started: what an earlier one knew may be lost."""
        self._broker_began_s = time.monotonic()

    def _run(self) -> None:
        while not self._stop.is_set() and not self.is_done:
            try:
                self._publish()
            except OSError:
                self._stop.wait(0.05)
            except Exception as error:  # noqa: BLE001 because whatever it is, whoever waits for this thread has to know
                self.failure = error
                return

    def _publish(self) -> None:
        """Go back, and publish until the connection or the readings end."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=5.0) as broker, selectors.DefaultSelector() as selector:
            broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            broker.sendall(packets.make_connect("fleet", self._protocol))
            began_s = self._broker_began_s
            broker.setblocking(False)
            selector.register(broker, selectors.EVENT_READ)
            cutter, ahead, pinged_s = Cutter(), 0, time.monotonic()
            next_: int | None = None
            due_s, last_s = 0.0, time.monotonic()
            while not self._stop.is_set() and not self.is_done:
                now = time.monotonic()
                if selector.select(0.01):
                    if not (data := broker.recv(65536)):
                        raise ConnectionError("the broker hung up")
                    ahead -= sum(packet.kind == packets.PUBACK for packet in cutter.feed(data))
                if now - pinged_s > 15.0:
                    _send(broker, packets.PING)
                    pinged_s = now
                if next_ is None or (next_ == len(self.readings) and now - max(self._tap.progress_s, last_s) > _STUCK_S):
                    if self._tap.subscribed_since(began_s) is None:
                        continue
                    next_ = self._tap.safe
                    self.went_back += 1
                if next_ < len(self.readings) and now >= due_s and ahead < _MOST_AHEAD:
                    # The beacons' readings come first and all at once, and are acknowledged before anything is killed.
                    most = self._scenario.prelude if next_ < self._scenario.prelude else self._rng.randint(1, _LARGEST_BURST)
                    burst = self.readings[next_ : next_ + most]
                    ids = range(next_, next_ + len(burst))
                    data = b"".join(
                        packets.make_publish(topic, payload, n % 65535 + 1, self._protocol)
                        for n, (topic, payload) in zip(ids, burst, strict=True)
                    )
                    _send(broker, data)
                    ahead, next_, self.sent = ahead + len(burst), next_ + len(burst), self.sent + len(burst)
                    due_s, last_s = now + len(burst) / self._rate, now
            with contextlib.suppress(OSError):
                _send(broker, packets.FAREWELL)


def _send(broker: socket.socket, data: bytes) -> None:
    broker.settimeout(30.0)
    broker.sendall(data)
    broker.setblocking(False)
