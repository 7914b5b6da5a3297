"""A site under test: a broker that keeps its sessions on disk, the agent, the proxy between them and the fleet.

Rules this module keeps: the agent is a process under the gateway's Python, with its defaults; only processes that were started here are
stopped or killed; whatever happens, all of them are gone at the end.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

from bench.subjects import unit_environment
from brokers import Mosquitto
from chaos import packets
from chaos.devices import Fleet
from chaos.proxy import Proxy
from chaos.scenario import SILENT_S, Expected, Scenario, write_config
from chaos.tap import Tap
from chaos.verdict import Verdict, compare

MqttVersion = Literal[5, "3.1.1"]
PROTOCOLS: tuple[MqttVersion, ...] = (5, "3.1.1")
KEEPALIVE_S = 5.0

_SETTLED_S = 1.5
_STOP_S = 20.0


class Site:
    """One run; a context manager that starts everything.

    Args:
        folder: For everything; not there yet.
        scenario: What the fleet publishes.
        expected: Of it.
        python: The gateway's.
        protocol: Of agent and fleet.
        rate: Readings a second.
        seed: Of the fleet's bursts and the proxy's jitter.
        settings: Of agent.yaml, where they are other than its defaults.
    """

    def __init__(
        self,
        folder: Path,
        scenario: Scenario,
        expected: Expected,
        python: str,
        protocol: MqttVersion,
        rate: float,
        seed: int,
        **settings: Any,
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self._expected, self._python = folder, expected, python
        scenario.install(folder / "state")
        self.broker = Mosquitto(folder, settings=_persistent(folder))
        self.tap = Tap(scenario.readings)
        self.proxy = Proxy(self.broker.port, self.tap, seed)
        level = packets.LEVEL_5 if protocol == 5 else packets.LEVEL_3
        self.fleet = Fleet(scenario, self.tap, self.broker.port, level, rate, seed)
        self._config = write_config(folder, f"mqtt://127.0.0.1:{self.proxy.port}", protocol, **settings)
        self._log = folder / "agent.log"
        self._agent: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        self._starts = 0
        self._stops: list[str] = []
        self._began_s = time.monotonic()

    def __enter__(self) -> Self:
        self._stack.callback(self.kill_agent)
        self._stack.callback(self.broker.kill)
        try:
            self._stack.enter_context(self.proxy)
            self.start_broker()
            self.start_agent()
            self._stack.enter_context(self.fleet)
            self.wait(lambda: self.fleet.is_past_prelude, 30.0, "the first readings were not acknowledged")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_agent(self) -> None:
        """Start the agent, with a file of scores of its own."""
        assert not self._agent
        self._starts += 1
        scores = self.folder / f"scores-{self._starts:04}.jsonl"
        command = [self._python, "-m", "vedette", "run", "-c", str(self._config), "--scores", str(scores)]
        with self._log.open("ab") as log:
            self._agent = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **unit_environment()})

    def kill_agent(self) -> None:
        """SIGKILL the agent."""
        if self._agent:
            if (code := self._agent.poll()) is not None:
                self._stops.append(f"the agent ended with {code}: {self._last_words()}")
            self._agent.kill()
            self._agent.wait()
            self._agent = None

    def signal_agent(self, number: signal.Signals) -> None:
        """Send the agent a signal."""
        assert self._agent
        self._agent.send_signal(number)

    def start_broker(self) -> None:
        """Start the broker on what the one before has left."""
        self.fleet.broker_began()
        self.broker.start()

    def wait(self, condition: Callable[[], Any], timeout_s: float, complaint: str) -> None:
        """Wait until something holds.

        Raises:
            TimeoutError: with the complaint, and what the agent said last.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{complaint} within {timeout_s:.0f} s; the agent said: {self._last_words()}")
            time.sleep(0.02)

    def finish(self, timeout_s: float = 60.0, settle_s: float = 20.0) -> Verdict:
        """Let all be published and drained, stop the agent in order, and compare.

        Args:
            timeout_s: For the agent to acknowledge every reading.
            settle_s: For all that is expected to be delivered.
        """
        self.fleet.hurry()
        deadline = time.monotonic() + timeout_s
        while not self.fleet.is_done and time.monotonic() < deadline:
            time.sleep(0.05)
        deadline = time.monotonic() + settle_s
        while time.monotonic() < deadline and not self._all_delivered():
            time.sleep(0.05)
        quiet_from_s = max(time.monotonic(), self._began_s + SILENT_S)
        while time.monotonic() - max(quiet_from_s, self.tap.progress_s) < _SETTLED_S and time.monotonic() < deadline + settle_s:
            time.sleep(0.05)
        self._check()
        unacknowledged = len(self.fleet.readings) - self.tap.safe
        self._stop_agent()
        scores = sorted(self.folder.glob("scores-*.jsonl"))
        verdict = compare(self._expected, list(self.tap.sent), list(self.tap.delivered), scores)
        return verdict._replace(unacknowledged=unacknowledged, stops=len(self._stops), words=(*verdict.words, *self._stops))

    def _check(self) -> None:
        """See that the harness itself is well."""
        for failure in (self.fleet.failure, self.proxy.failure):
            if failure:
                raise RuntimeError("a thread of the chaos run has failed") from failure

    def _all_delivered(self) -> bool:
        got = {seen.key for seen in list(self.tap.delivered)}
        silent = {seen.alert["device"] for seen in list(self.tap.delivered) if seen.alert["kind"] == "silent"}
        return self._expected.alerts.keys() <= got and self._expected.silent <= silent

    def _stop_agent(self) -> None:
        assert self._agent
        if (code := self._agent.poll()) is None:
            self._agent.terminate()
            try:
                code = self._agent.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._stops.append(f"the agent did not stop within {_STOP_S:.0f} s")
                self.kill_agent()
                return
        if code:
            self._stops.append(f"the agent ended with {code}: {self._last_words()}")
        self._agent = None

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return " | ".join(lines[-4:])


def _persistent(folder: Path) -> str:
    """Saved every second: a broker that is killed has forgotten the last second, what it acknowledged and what was acknowledged to it.

    Saving after every change would forget less, but is done in the broker's only thread for every packet: with a few thousand readings in
    its queue it then answers no ping within a keepalive, and what is tested is mosquitto's patience.
    """
    data = folder / "broker"
    data.mkdir()
    return "\n".join(
        [
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {data}/",
            "autosave_interval 1",
            # As root it would become a user who may not write here.
            *(["user root"] if os.geteuid() == 0 else []),
        ]
    )
