"""What passed between agent and broker, for those who compare.

What counts as delivered: an alert counts when the broker's acknowledgement of it was on its way to the agent. That is all that an agent can
know: mosquitto, killed a moment later, may forget what it has acknowledged, and a subscriber behind it would miss what the agent has
rightly taken off its disk. The tap lives on whoever is killed, so what it has seen is complete. It is strict where it can be:

* A reading counts as the agent's from the moment that its acknowledgement left the agent, whether or not the broker got it. From there on
  it is the agent's to lose.
* An alert that was acknowledged when the agent could no longer hear it counts as delivered; that the agent sends it again is a duplicate.
* Every PUBLISH of an alert to the broker beyond the first counts as sent again, whether or not the broker acknowledged it.

Rules this module keeps: only what one connection carries explains what it carries: packet ids begin anew with the next.
"""

import bisect
import json
import math
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from chaos import packets
from chaos.packets import Cutter, Packet
from chaos.scenario import GATEWAY, AlertKey, Reading, key_of

ALERTS = f"vedette/{GATEWAY}/alerts/"
STATS = f"vedette/{GATEWAY}/stats"


class Seen(NamedTuple):
    """An alert that passed: what tells it from others, its document, and its payload."""

    key: AlertKey
    alert: dict[str, Any]
    payload: bytes


class _Connection:
    """What is known of one connection."""

    def __init__(self) -> None:
        self.up, self.down = Cutter(), Cutter()
        self.protocol = packets.LEVEL_5
        self.is_mqtt: bool | None = None  # None before the first byte; a second look at a broker that gave no answer speaks anything
        self.readings: dict[int, list[int]] = {}  # by packet id: numbers of readings that the agent has not acknowledged yet
        self.alerts: dict[int, Seen] = {}  # by packet id: what the broker has not acknowledged yet
        self.opened_s = time.monotonic()
        self.subscribed_s = self.left_s = -math.inf


class Tap:
    """Looks at what passes, and remembers.

    Args:
        readings: All that are published, in their order.

    Attributes:
        sent: Alerts that reached the broker, in order, each as often as it did.
        delivered: Those that the broker has acknowledged, in order.
        stats: The agent's latest counters.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._numbers = {reading: number for number, reading in enumerate(readings)}
        self._acknowledged = bytearray(len(readings))
        self._acknowledged_s: list[float] = []
        self._first_open = 0
        self._connections: dict[int, _Connection] = {}
        self._lock = threading.Lock()
        self.sent: list[Seen] = []
        self.delivered: list[Seen] = []
        self.stats: dict[str, Any] = {}
        self.progress_s = time.monotonic()

    @property
    def safe(self) -> int:
        """Number of the first reading that the agent has not acknowledged."""
        with self._lock:
            while self._first_open < len(self._acknowledged) and self._acknowledged[self._first_open]:
                self._first_open += 1
            return self._first_open

    def subscribed_since(self, moment_s: float) -> float | None:
        """When, by the monotonic clock, the agent's subscriptions first stood anew after a moment; None if not yet."""
        times = [each.subscribed_s for each in list(self._connections.values()) if each.subscribed_s >= moment_s]
        return min(times, default=None)

    def acknowledged_since(self, moment_s: float) -> float | None:
        """When the agent first acknowledged a reading after a moment; None if not yet."""
        with self._lock:
            place = bisect.bisect_left(self._acknowledged_s, moment_s)
            return self._acknowledged_s[place] if place < len(self._acknowledged_s) else None

    def noticed_since(self, moment_s: float) -> float | None:
        """When the agent first hung up, or connected anew, after a moment; None if not yet."""
        times = [moment for each in list(self._connections.values()) for moment in (each.left_s, each.opened_s)]
        return min((each for each in times if each >= moment_s), default=None)

    def opened(self, connection: int) -> None:
        """See Observer."""
        self._connections[connection] = _Connection()

    def left(self, connection: int) -> None:
        """See Observer."""
        self._connections[connection].left_s = time.monotonic()

    def from_agent(self, connection: int, data: bytes, *, passed_on: bool) -> None:
        """See Observer."""
        known = self._connections[connection]
        if known.is_mqtt is None:
            known.is_mqtt = data[:1] == bytes([packets.CONNECT << 4])
        for packet in known.up.feed(data) if known.is_mqtt else ():
            if packet.kind == packets.CONNECT:
                known.protocol = packets.level(packet.body)
            elif packet.kind == packets.PUBACK:
                self._take(known.readings.pop(int.from_bytes(packet.body[:2], "big"), []))
            elif packet.kind == packets.PUBLISH and passed_on:
                self._say(known, packet)

    def from_broker(self, connection: int, data: bytes) -> None:
        """See Observer."""
        known = self._connections[connection]
        for packet in known.down.feed(data) if known.is_mqtt else ():
            if packet.kind == packets.PUBLISH:
                published = packets.read_publish(packet, known.protocol)
                number = self._numbers.get(Reading(published.topic, published.payload))
                if number is not None and published.qos:
                    known.readings.setdefault(published.packet_id, []).append(number)
            elif packet.kind == packets.PUBACK:
                packet_id = packets.acknowledges(packet)
                if packet_id is not None and (seen := known.alerts.pop(packet_id, None)):
                    self.delivered.append(seen)
                    self.progress_s = time.monotonic()
            elif packets.is_subscribed(packet, known.protocol):
                known.subscribed_s = time.monotonic()

    def _take(self, numbers: Sequence[int]) -> None:
        with self._lock:
            for number in numbers:
                self._acknowledged[number] = 1
            self.progress_s = time.monotonic()
            self._acknowledged_s.append(self.progress_s)

    def _say(self, known: _Connection, packet: Packet) -> None:
        published = packets.read_publish(packet, known.protocol)
        if published.topic.startswith(ALERTS):
            alert = json.loads(published.payload)
            seen = Seen(key_of(alert), alert, published.payload)
            self.sent.append(seen)
            known.alerts[published.packet_id] = seen
        elif published.topic == STATS:
            self.stats = json.loads(published.payload)
