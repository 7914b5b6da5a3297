"""Every kind of connection to a real broker: floods, large messages in both directions, and a broker that comes back."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents import Watcher
from listeners import Listeners
from vedette.broker import Broker
from vedette.mqtt import Connection
from vedette.packets import Burst

KINDS = ("plain", "unix", "ws", "wss", "tls", "mutual")
LARGE = 50_000


class Agent:
    """A connection, and all that came by it."""

    def __init__(self, at: Listeners, kind: str, protocol: Any) -> None:
        self.kind = kind
        self.taken: list[bytes] = []
        broker = Broker(**at.settings(kind, protocol=protocol))
        self.status, self.topic = (f"vedette/gw-1/{kind}/{what}" for what in ("status", "large"))
        self.connection = Connection(broker, f"agent-{kind}", self.status, [("plant/#", 1)], 2 * LARGE, self._take, lambda: None)

    def online(self, watcher: Watcher) -> None:
        """Wait until it has subscribed."""
        wait_until(lambda: watcher.last(self.status) == b"online", self.kind)

    def arrived(self, payloads: list[bytes]) -> None:
        """Wait for messages, and for nothing else."""
        wait_until(lambda: len(self.taken) >= len(payloads), self.kind)
        assert self.taken == payloads, self.kind
        self.taken.clear()

    def publish(self, payloads: list[bytes], watcher: Watcher) -> None:
        """Publish, and see it arrive."""
        for payload in payloads:
            assert self.connection.publish(self.topic, payload, qos=1) is not None
        wait_until(lambda: sum(message.topic == self.topic for message in watcher.messages) >= len(payloads), self.kind)
        assert [bytes(message.payload) for message in watcher.messages if message.topic == self.topic] == payloads, self.kind

    def _take(self, burst: Burst) -> bool:
        self.taken.extend(message.payload for message in burst.messages)
        return True


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextlib.contextmanager
def running(agents: list[Agent]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for agent in agents:
            agent.connection.start()
            stack.callback(agent.connection.stop)
        yield


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_floods_and_large_messages_arrive_whole_and_in_order_before_and_after_the_broker_was_away(tmp_path: Path, protocol: Any) -> None:
    small = [b"%d" % number for number in range(2000)]
    large = [bytes([number]) * (LARGE + number) for number in range(20)]
    with Listeners(tmp_path / "listeners") as at:
        agents = [Agent(at, kind, protocol) for kind in KINDS]
        with running(agents):
            for payloads in (small, large, small[:100]):
                with Watcher(at.broker) as watcher:
                    for agent in agents:
                        agent.online(watcher)
                    watcher.publish("plant/a", *payloads)
                    for agent in agents:
                        agent.arrived(payloads)
                        if payloads is large:
                            agent.publish(payloads, watcher)
                at.broker.stop()
                at.broker.start()
