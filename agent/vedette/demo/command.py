"""`vedette demo`: the real agent, in a process of its own, beside a simulated fleet at many times real speed."""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
import paho.mqtt.client as paho
import yaml
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from vedette.alerts import Alert
from vedette.contract.bundle import open_bundle
from vedette.contract.durations import Duration
from vedette.contract.errors import VedetteError
from vedette.demo.broker import DemoBroker
from vedette.demo.ledger import Ledger
from vedette.demo.view import View
from vedette.simulate.faults import KINDS, Fault
from vedette.simulate.fleet import ColdChain
from vedette.simulate.live import Publisher

BUNDLE = Path(__file__).parent / "cold-chain-1.0.0.vedette"
TOPIC = "plant/cold-store/fridge/{device}/telemetry"
GATEWAY = "demo"
START = datetime(2026, 1, 5, 6, tzinfo=UTC)
"""A Monday morning, the same for every demo: what the fleet does depends on the hour, and so do the figures at the end."""

_HOUR_S = 3600.0
_FIRST_FAULT_S = 2 * _HOUR_S
_BETWEEN_FAULTS_S = 1.25 * _HOUR_S
_FAULT_S = {"door_left_open": 1.0, "compressor_failure": 3.0, "sensor_stuck": 3.0, "sensor_drift": 4.0, "spoofed_readings": 2.0}  # hours
_READING_S = 60.0


class Scene(NamedTuple):
    """What is played, who keeps count, and who shows it; `end` is in epoch seconds of the fleet's clock."""

    fleet: ColdChain
    faults: Sequence[Fault]
    ledger: Ledger
    view: View
    end: float


def demo(arguments: Sequence[str]) -> int:
    """Watch the whole line at work on this machine: broker, simulated fridges with faults, agent, alerts."""
    options = argparse.ArgumentParser(prog="vedette demo", description=demo.__doc__)
    options.add_argument("--devices", type=int, default=20, help="fridges in the fleet, at least 5 (default: 20)")
    options.add_argument("--simulated", type=Duration.parse, default=Duration(12 * _HOUR_S), help="how long the fleet lives (default: 12h)")
    options.add_argument("--duration", type=Duration.parse, default=Duration(60), help="how long that takes (default: 60s)")
    options.add_argument("--seed", type=int, default=4, help="another seed is another fleet (default: 4)")
    options.add_argument("--broker", choices=("mosquitto", "amqtt"), help="default: mosquitto where it is installed, else amqtt")
    options.add_argument("--json", action="store_true", help="print the summary as JSON, and what happens on stderr")
    given = options.parse_args(arguments)
    if given.devices < len(KINDS) or given.simulated < 10 * _HOUR_S or not given.duration > 0:
        options.error(f"it needs at least {len(KINDS)} devices, 10h to simulate and more than 0s for it")
    start = START.timestamp()
    names = ColdChain(devices=given.devices, seed=given.seed, start=start).device_names
    faults = plan(names, start)
    fleet = ColdChain(devices=given.devices, seed=given.seed, start=start, interval_s=_READING_S, faults=faults)
    window = open_bundle(BUNDLE).manifest.window
    ledger = Ledger(faults, grace_s=window.steps * _READING_S)
    view = View(sys.stderr if given.json else sys.stdout)
    scene = Scene(fleet, faults, ledger, view, start + given.simulated)
    counters = _play(scene, given.simulated / given.duration, given.broker)
    verdicts = ledger.verdicts()
    if given.json:
        facts = {"faults": verdicts, "false_alerts": ledger.false_alerts(), "counters": counters}
        print(msgspec.json.encode(facts).decode())
    else:
        view.summary(verdicts, ledger.false_alerts(), counters)
    return 0 if all(verdict.delay_s is not None for verdict in verdicts) else 1


def plan(names: Sequence[str], start: float) -> list[Fault]:
    """One fault of each kind, one after the other, each on a fridge of its own."""
    apart = len(names) // len(KINDS)
    faults = []
    for number, kind in enumerate(KINDS):
        begin = start + _FIRST_FAULT_S + number * _BETWEEN_FAULTS_S
        faults.append(Fault(kind=kind, device=names[number * apart], start=begin, end=begin + _FAULT_S[kind] * _HOUR_S))
    return faults


def _play(scene: Scene, speed: float, broker_name: str | None) -> dict[str, int]:
    """Let the fleet live, at `speed` times real speed, and return the agent's closing counters."""
    view = scene.view
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vedette-demo-")))
        broker = stack.enter_context(DemoBroker(folder, broker_name))
        view.note(f"broker: {broker.name} on {broker.url}")
        subscriber = stack.enter_context(_Subscriber(broker, scene.ledger, view))
        agent = stack.enter_context(_agent(folder, broker))
        subscriber.wait_online(agent)
        view.note(f"agent:  scoring {TOPIC} with {BUNDLE.name}; its alerts: vedette/{GATEWAY}/alerts/#")
        view.note(f"fleet:  {len(scene.fleet.device_names)} fridges at {speed:.0f} times real speed, {len(scene.faults)} faults to come\n")
        publisher = Publisher(broker.url, topic=TOPIC, speed=speed, protocol=broker.protocol, say=lambda _: None)
        publisher.open()
        try:
            _live(scene, publisher)
        finally:
            publisher.close()
        agent.terminate()
        agent.wait(15)
        return subscriber.closing_counters()


def _live(scene: Scene, publisher: Publisher) -> None:
    fleet, faults, ledger, view, end = scene
    start, readings = fleet.time, 0
    news = sorted([(f.start, f.device, f"{_words(f)} begins") for f in faults] + [(f.end, f.device, f"{_words(f)} ends") for f in faults])
    while fleet.time < end:
        for sample in fleet.step():
            publisher.publish(sample)
            ledger.sent(sample)
            readings += 1
        while news and news[0][0] <= fleet.time:
            view.fault(*news.pop(0))
        view.progress(fleet.time, (fleet.time - start) / (end - start), readings)


def _words(fault: Fault) -> str:
    return fault.kind.replace("_", " ")


@contextmanager
def _agent(folder: Path, broker: DemoBroker) -> Iterator[subprocess.Popen[bytes]]:
    """The agent as a gateway runs it, with the bundle installed as an operator would."""
    state = folder / "state"
    install = [sys.executable, "-m", "vedette", "model", "install", str(BUNDLE), "--state-dir", str(state)]
    if (done := subprocess.run(install, capture_output=True, text=True, check=False)).returncode:
        raise VedetteError(f"the demo's bundle cannot be installed: {done.stderr.strip()}")
    configuration = {
        "gateway": GATEWAY,
        "broker": {"url": broker.url, "protocol": 5 if broker.protocol == "5" else broker.protocol},
        "state_dir": str(state),
        # Readings come every simulated minute: ten minutes of trouble make an alert, ten quiet ones end it.
        "alerts": {"raise": "8 of 10", "clear": "10 of 10", "critical": 1.5},
        "streams": [{"name": "fridges", "topic": TOPIC, "model": "cold-chain", "payload": {"time": {"field": "ts"}}}],
    }
    file = folder / "agent.yaml"
    file.write_text(yaml.safe_dump(configuration))
    with (folder / "agent.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "vedette", "run", "-c", str(file)], stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


class _Subscriber:
    """Whoever listens to the agent: shows its alerts and keeps its last counters."""

    def __init__(self, broker: DemoBroker, ledger: Ledger, view: View) -> None:
        self._ledger, self._view = ledger, view
        self._online, self._offline = threading.Event(), threading.Event()
        self._stats: dict[str, Any] = {}
        version = MQTTProtocolVersion.MQTTv5 if broker.protocol == "5" else MQTTProtocolVersion.MQTTv311
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._client.on_message = self._received
        host, port = broker.url.removeprefix("mqtt://").split(":")
        self._client.connect(host, int(port))
        self._client.subscribe([(f"vedette/{GATEWAY}/{what}", 1) for what in ("status", "stats", "alerts/#")])

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_online(self, agent: subprocess.Popen[bytes], timeout_s: float = 20.0) -> None:
        """Wait until the agent has subscribed.

        Raises:
            VedetteError: it does not.
        """
        deadline = time.monotonic() + timeout_s
        while not self._online.wait(0.1):
            if agent.poll() is not None or time.monotonic() > deadline:
                raise VedetteError("the demo's agent does not come up; try: vedette check")

    def closing_counters(self, timeout_s: float = 10.0) -> dict[str, int]:
        """The stream's counters as the agent left them."""
        self._offline.wait(timeout_s)
        counters: dict[str, int] = self._stats["streams"]["fridges"]
        return counters

    def _received(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        kind = message.topic.split("/")[2]
        if kind == "alerts":
            alert = msgspec.json.decode(message.payload, type=Alert)
            self._ledger.alerted(alert)
            self._view.alert(alert)
        elif kind == "stats":
            self._stats = msgspec.json.decode(message.payload)
        elif message.payload == b"online":
            self._online.set()
        elif self._online.is_set():
            self._offline.set()
