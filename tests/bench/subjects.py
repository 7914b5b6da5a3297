"""What is measured: the agent and the bare subscriber, each a process of its own under the gateway's Python, and what they use up.

Rules this module keeps: a subject is stopped by its handle however the bench ends; a message that was sent and not accounted for is said.
"""

import json
import os
import queue
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bench.models import model_file

QOS = Literal[0, 1]

_UNIT = Path(__file__).resolve().parents[2] / "systemd" / "vedette.service"
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 10.0
_QUIET_S, _QUIET_TIMES = 0.1, 3
"""Three times in a row: a subject that is not given the processor for a moment is not done."""

_QUIET_TIMEOUT_S = 15.0


_ORDINARY = {"received", "readings", "scored", "waiting", "devices"}
"""Counters of a stream that may be other than 0 where all is well."""


class SubjectError(Exception):
    """A subject did not start, or did not answer."""


class Account(NamedTuple):
    """What a subject says that became of its messages: how many it dealt with, and others by counter; `waiting` are kept for windows that
    were not complete yet.
    """

    done: int
    others: Mapping[str, int]
    waiting: int = 0

    def fault(self, sent: int, waiting: int = 0) -> str | None:
        """What is wrong with it where `sent` messages were, `waiting` of which complete no window; None where each was dealt with and
        nothing else happened.
        """
        if self.done == sent - waiting and self.waiting == waiting and not self.others:
            return None
        others = ", ".join(f"{name} {count}" for name, count in self.others.items()) or "no counter tells why"
        beside = f", {self.waiting} waiting of {waiting}" if waiting or self.waiting else ""
        return f"{sent} sent, {self.done} dealt with{beside} ({others})"


class Process:
    """A child process, what it uses up, and its end.

    Args:
        command: To run.
        log: Where its standard error goes.
        environment: On top of the bench's own.
        talks: What it prints is of interest only if it fails, and goes to the log.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, *, talks: bool = False) -> None:
        self._command, self._log, self._talks = list(command), log, talks
        self._environment = {**os.environ, **(environment or {})}
        self._errors: IO[bytes] | None = None
        self.child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it. Ctrl-C reaches the bench alone, which then stops it in order."""
        self._errors = self._log.open("wb")
        printed = self._errors if self._talks else subprocess.PIPE
        self.child = subprocess.Popen(
            self._command, stdout=printed, stderr=self._errors, text=True, start_new_session=True, env=self._environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Make sure that it is gone."""
        assert self.child and self._errors
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()
        self._errors.close()

    def cpu_s(self) -> float:
        """Processor time of all its threads so far, user and system, in seconds; see proc_pid_stat(5)."""
        # The program's name comes second, in brackets, and may hold anything.
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND

    def written_bytes(self) -> int:
        """What it has had written to disk so far."""
        return int(self._proc("io").split("\nwrite_bytes: ")[1].split()[0])

    def resident_bytes(self) -> int:
        """Memory that it holds."""
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def wait_until_quiet(self, timeout_s: float = _QUIET_TIMEOUT_S) -> float:
        """Wait until it has worked off what it was given.

        Args:
            timeout_s: It must be done by then.

        Returns:
            Seconds that it took.
        """
        began = last_busy = time.monotonic()
        before = self.cpu_s()
        while time.monotonic() < began + timeout_s:
            time.sleep(_QUIET_S)
            now = self.cpu_s()
            # One tick of the clock is as little as can be told from none.
            if now - before > 1 / _TICKS_A_SECOND:
                last_busy = time.monotonic()
            elif time.monotonic() - last_busy >= _QUIET_TIMES * _QUIET_S:
                return last_busy - began
            before = now
        raise SubjectError(f"still busy {timeout_s:.0f} s after the last message")

    def terminate(self) -> str:
        """Ask it to stop.

        Returns:
            What it printed and was not read before.
        """
        assert self.child
        self.child.terminate()
        printed, _ = self.child.communicate(timeout=_STOP_TIMEOUT_S)
        return printed

    def complain(self, what: str) -> SubjectError:
        """An error with the last that it wrote to standard error."""
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        return SubjectError("\n  ".join([what, *last]))

    def _proc(self, name: str) -> str:
        assert self.child
        return Path(f"/proc/{self.child.pid}/{name}").read_text(encoding="utf-8", errors="replace")


class BareSubscriber(Process):
    """bare_subscriber.py at work."""

    def __init__(self, python: str, folder: Path, port: int, topic_filter: str, qos: QOS) -> None:
        program = Path(__file__).with_name("bare_subscriber.py")
        super().__init__([python, str(program), str(port), topic_filter, str(qos)], folder / "bare-subscriber.log")

    def wait_until_subscribed(self) -> None:
        """Wait until it receives what is published."""
        assert self.child and self.child.stdout
        if self.child.stdout.readline() != "subscribed\n":
            raise self.complain("the bare subscriber did not start")

    def finish(self) -> Account:
        """Stop it and ask what it received."""
        return Account(int(self.terminate()), {})


class Baseline(Process):
    """baseline.py at work."""

    def __init__(self, python: str, folder: Path, port: int, topic_filter: str, model: str, steps: int) -> None:
        program, file = Path(__file__).with_name("baseline.py"), model_file(folder, model)
        super().__init__([python, str(program), str(port), topic_filter, str(file), str(steps), "1000"], folder / "baseline.log")

    def wait_until_subscribed(self) -> None:
        """Wait until it receives what is published."""
        assert self.child and self.child.stdout
        if self.child.stdout.readline() != "subscribed\n":
            raise self.complain("the baseline program did not start")

    def finish(self) -> Account:
        """Stop it and ask what it received and scored."""
        counts = json.loads(self.terminate())
        return Account(counts["scored"], {}, counts["received"] - counts["scored"])


def unit_environment() -> dict[str, str]:
    """What `systemd/vedette.service` sets for the agent."""
    lines = _UNIT.read_text(encoding="utf-8").splitlines()
    return dict(line.removeprefix("Environment=").split("=", 1) for line in lines if line.startswith("Environment="))


class Agent(Process):
    """`vedette run` at work, with the environment that its systemd unit gives it.

    Args:
        python: The gateway's.
        config: agent.yaml.
        monitor: Hears what the agent says.
        options: Further arguments.
    """

    def __init__(self, python: str, config: Path, monitor: "Monitor", *options: str) -> None:
        super().__init__([python, "-m", "vedette", "run", "-c", str(config), *options], config.with_suffix(".log"), unit_environment())
        self._monitor = monitor
        self._began = 0.0

    def __enter__(self) -> Self:
        """Start it."""
        self._monitor.forget()
        self._began = time.monotonic()
        return super().__enter__()

    def wait_until_subscribed(self) -> float:
        """Wait until its status is `online`.

        Returns:
            Seconds since it was executed.
        """
        assert self.child
        while time.monotonic() < self._began + _START_TIMEOUT_S and self.child.poll() is None:
            if (heard := self._monitor.hear("status", 0.5)) and heard.payload == b"online":
                return heard.time - self._began
        raise self.complain("the agent did not start")

    def finish(self) -> Account:
        """Stop it and read its last statistics: messages that were scored, and every other counter that is not 0."""
        self.terminate()
        heard = self._monitor.hear("stats", 2.0)
        if not heard:
            raise self.complain("the agent left without its statistics")
        while later := self._monitor.hear("stats", 0.0):
            heard = later
        stats = json.loads(heard.payload)
        others: dict[str, int] = {name: stats[name] for name in ("unmatched", "dropped", "queued", "spooled")}
        for name, counters in stats["streams"].items():
            others |= {f"{name}.{key}": n for key, n in counters.items() if key not in _ORDINARY}
        scored, waiting = (sum(counters[key] for counters in stats["streams"].values()) for key in ("scored", "waiting"))
        return Account(scored, {name: count for name, count in others.items() if count}, waiting)


class Heard(NamedTuple):
    """A message and when it arrived, by the monotonic clock."""

    payload: bytes
    time: float


class Monitor:
    """A subscriber to the agent's own status and statistics.

    Args:
        port: Of a broker on loopback.
        root: `PREFIX/GATEWAY`.
    """

    def __init__(self, port: int, root: str) -> None:
        self._port, self._root = port, root
        self._heard: dict[str, queue.SimpleQueue[Heard]] = {name: queue.SimpleQueue() for name in ("status", "stats")}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._on_message
        self._client.on_connect = self._on_connect

    def __enter__(self) -> Self:
        """Connect and subscribe."""
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def hear(self, name: str, timeout_s: float) -> Heard | None:
        """The next message on `ROOT/NAME`."""
        try:
            return self._heard[name].get(timeout=timeout_s) if timeout_s else self._heard[name].get_nowait()
        except queue.Empty:
            return None

    def ask(self, topic: str) -> None:
        """Publish an empty message."""
        self._client.publish(topic)

    def forget(self) -> None:
        """Leave out what was said before."""
        for name in self._heard:
            while self.hear(name, 0.0):
                pass

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        # Each time: a broker that has been started anew knows of no subscription.
        client.subscribe([(f"{self._root}/{name}", 1) for name in self._heard])

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._heard[message.topic.rpartition("/")[2]].put(Heard(bytes(message.payload), time.monotonic()))
