"""The devices and a subscriber, by mosquitto's own clients, with TLS and passwords."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from install.gateway import until

SHARED = Path(__file__).resolve().parents[1]
CA = Path("/etc/vedette/ca.pem")
PASSWORDS = {"vedette": "agents-own-4711", "devices": "devices-own-4711", "watcher": "watchers-own-4711"}


def login(user: str | None) -> list[str]:
    """Arguments of mosquitto's clients."""
    where = ["-h", "localhost", "-p", "8883", "--cafile", str(CA)]
    return where + (["-u", user, "-P", PASSWORDS[user]] if user else [])


def publish_one(user: str | None) -> int:
    """The exit code of a publish."""
    command = ["mosquitto_pub", *login(user), "-t", "plant/a/test", "-m", "hello"]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode


def day(number: int) -> list[tuple[str, str]]:
    """Topics and payloads of a simulated day."""
    lines = (SHARED / f"day-{number}.tsv").read_text().splitlines()
    return [(topic, payload) for topic, _, payload in (line.partition("\t") for line in lines)]


def feed(telemetry: list[tuple[str, str]]) -> None:
    """Publish each device's readings in their order."""
    devices: dict[str, list[str]] = {}
    for topic, payload in telemetry:
        devices.setdefault(topic, []).append(payload)
    for topic, payloads in devices.items():
        subprocess.run(
            ["mosquitto_pub", *login("devices"), "-q", "1", "-l", "-t", topic],
            input="\n".join(payloads) + "\n",
            text=True,
            check=True,
            timeout=120,
        )


def detects(number: int) -> bool:
    """Whether a day's fault leads to an alert."""
    with watching() as watcher:
        watcher.wait_online()
        feed(day(number))
        return bool(until("an alert of the day's fault", lambda: watcher.alerts("fridge-01")))


class Watcher:
    """All that is published below vedette/."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._messages: list[tuple[str, str]] = []
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            topic, _, payload = line.rstrip("\n").partition("\t")
            self._messages.append((topic, payload))

    def last(self, end: str) -> str:
        """The latest payload on a topic with this end; empty where there is none."""
        return next((payload for topic, payload in reversed(self._messages) if topic.endswith(end)), "")

    def wait_online(self) -> None:
        """Wait until the agent is at work: its stats say so after its start."""
        until("the agent is online", lambda: self.last("/status") == "online" and self.last("/stats"))

    def scored(self, stream: str = "fridges") -> int:
        """Readings of a stream that the agent has done with."""
        stats = self.last("/stats")
        counters: dict[str, int] = json.loads(stats)["streams"].get(stream, {}) if stats else {}
        return sum(counters.get(name, 0) for name in ("scored", "waiting", "late", "repeated"))

    def alerts(self, device: str) -> list[dict[str, Any]]:
        """A device's alerts."""
        return [json.loads(payload) for topic, payload in list(self._messages) if topic.endswith(f"/alerts/fridges/{device}")]


@contextlib.contextmanager
def watching() -> Iterator[Watcher]:
    """A subscriber."""
    command = ["mosquitto_sub", *login("watcher"), "-q", "1", "-t", "vedette/#", "-F", "%t\t%p"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Watcher(process)
        finally:
            process.terminate()
