"""The agent as a process of its own, and a subscriber that watches it."""

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from brokers import Mosquitto
from schemas import faults_of_message

PATIENCE = float(os.environ.get("VEDETTE_PATIENCE", "1"))
"""How many times as long everything may take: more where the processor is emulated."""

STREAM: dict[str, Any] = {
    "name": "fridges",
    "topic": "plant/+/fridge/{device}/telemetry",
    "model": "fridge",
    "payload": {"time": {"field": "ts"}},
}


def write_config(folder: Path, url: str, **changes: Any) -> Path:
    """An agent.yaml in `folder`, with the state beside it."""
    path = folder / "agent.yaml"
    settings = {"gateway": "gw-1", "broker": {"url": url}, "state_dir": str(folder / "state"), "streams": [STREAM], **changes}
    path.write_text(yaml.safe_dump(settings))
    return path


def vedette(*arguments: str | Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run([python, "-m", "vedette", *arguments], capture_output=True, text=True, timeout=240 * PATIENCE, check=False)


class Agent:
    """`vedette run` in a `with` block.

    Args:
        config: Its agent.yaml.
        options: Further arguments.
        python: The interpreter of its environment.
        prefix: A command that runs the agent in its turn.
        env: Its whole environment; None for this process's.
    """

    def __init__(
        self,
        config: Path,
        *options: str | Path,
        python: str = sys.executable,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [*prefix, python, "-m", "vedette", "run", "-c", str(config), *map(str, options)]
        self._env = env
        self.said = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True, env=self._env)
        return self

    def stop(self) -> int:
        """Ask it to stop, as systemd does, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            _, said = self.process.communicate(timeout=30 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, said = self.process.communicate()
        self.said += said or ""
        return self.process.returncode

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


class Reader:
    """Reads what an agent logs, while it runs."""

    def __init__(self, agent: Agent) -> None:
        self._lines: list[str] = []
        self._said = threading.Condition()
        assert agent.process.stderr
        self._stderr, agent.process.stderr = agent.process.stderr, None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stderr:
            with self._said:
                self._lines.append(line)
                self._said.notify_all()

    def wait(self, words: str, times: int = 1) -> None:
        """Wait until so many lines have the words."""
        with self._said:
            found = self._said.wait_for(lambda: self.count(words) >= times, 30)
        assert found, f"{words!r} was not said {times} times: {self._lines}"

    def count(self, words: str) -> int:
        """How many lines so far have the words."""
        return sum(words in line for line in self._lines)

    def lines(self) -> list[str]:
        """All lines, once the agent has ended."""
        self._thread.join(30)
        return self._lines


@contextlib.contextmanager
def service_manager(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What an agent that starts meanwhile takes for systemd's notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        yield manager


class Watcher:
    """A client that keeps all that the agent publishes, holds it to the schemas, and can publish itself.

    Args:
        broker: Where.
        protocol: MQTT's.
        topics: Filters.
    """

    def __init__(self, broker: Mosquitto, protocol: str = "5", topics: Sequence[str] = ("vedette/#",)) -> None:
        version = MQTTProtocolVersion.MQTTv5 if protocol == "5" else MQTTProtocolVersion.MQTTv311
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
        # Everything at once: a test publishes thousands and waits for all of them.
        self.client.max_inflight_messages_set(0)
        self.messages: list[paho.MQTTMessage] = []
        self.faults: list[str] = []
        self._arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.client.on_message = self._received
        self.client.connect("127.0.0.1", broker.port)
        self.client.subscribe([(topic, 1) for topic in topics])
        self.client.loop_start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        assert not self.faults

    def publish(self, topic: str, *payloads: bytes | dict[str, Any], qos: int = 1) -> None:
        """Publish payloads, in order, and wait until the broker has them."""
        sent = [self.client.publish(topic, p if isinstance(p, bytes) else json.dumps(p), qos) for p in payloads]
        for info in sent:
            info.wait_for_publish(60)

    def wait(self, condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        """Wait until a condition on what has arrived holds, and return it."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while not (found := condition()):
            left = deadline - time.monotonic()
            assert left > 0, f"not seen within {timeout_s} s; last: {[(m.topic, m.payload[:200]) for m in self.messages[-5:]]}"
            try:
                self._arrived.get(timeout=min(left, 0.1))
            except queue.Empty:
                continue
        return found

    def wait_online(self) -> None:
        """Wait until the agent has subscribed."""
        self.wait(lambda: self.last("vedette/gw-1/status") == b"online")

    def last(self, topic: str) -> bytes | None:
        """The latest payload on a topic."""
        return next((bytes(m.payload) for m in reversed(self.messages) if m.topic == topic), None)

    def alerts(self) -> list[dict[str, Any]]:
        """All alerts so far, with the topic of each."""
        return [{"topic": m.topic, "payload": json.loads(m.payload)} for m in self.messages if m.topic.startswith("vedette/gw-1/alerts/")]

    def counters(self, stream: str = "fridges") -> dict[str, int]:
        """A stream's latest counters; empty before the first."""
        stats = self.last("vedette/gw-1/stats")
        counters: dict[str, int] = json.loads(stats)["streams"][stream] if stats else {}
        return counters

    def _received(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self.messages.append(message)
        self.faults += faults_of_message(message.topic, message.payload)
        self._arrived.put(None)


def episode(temperatures: Sequence[float], start: int = 1_790_000_000) -> list[dict[str, Any]]:
    """A fridge's payloads, a minute apart."""
    return [{"ts": start + 60 * i, "temperature": t} for i, t in enumerate(temperatures)]
