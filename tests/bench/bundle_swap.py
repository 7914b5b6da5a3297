"""A swap under load: versions of a model change places in an agent that thousands of readings a second go through.

Rules this module keeps: every reading's score is compared with what the one version or the other gives for it; a reading that was scored
twice, or not at all, or by neither, is counted.
"""

import random
import threading
import time
from pathlib import Path

import msgspec
import numpy as np

from agents import Watcher, write_config
from bench import machine
from bench.figures import Row
from bench.publisher import Order, Publisher
from bench.subjects import Agent, Monitor
from brokers import Mosquitto
from bundles import make_bundle
from vedette.store import Store

TOPIC = "plant/north/fridge/{device}/telemetry"
THRESHOLDS = {"1.0.0": 4.0, "1.1.0": 8.0}
DEVICES = 100


def measure(folder: Path, *, quick: bool) -> tuple[list[Row], str]:
    """Swap for 20 s at 4,000 readings a second, or for 3 s at 1,000."""
    rows = swap(folder, 1000.0 if quick else 4000.0, 3.0 if quick else 20.0, machine.gateway_python())
    return rows, "\n".join(f"{row.value:8.3g} {row.unit}  {row.name}" for row in rows)


def swap(folder: Path, rate: float, seconds: float, python: str) -> list[Row]:
    """Swap as often as it goes while `rate` readings a second arrive for `seconds`."""
    store = Store(folder / "state")
    for version, threshold in THRESHOLDS.items():
        path = folder / f"{version}.vedette"
        path.write_bytes(make_bundle(version=version, threshold=threshold))
        store.install(path)
    order = Order((TOPIC,), DEVICES, 1, rate, round(rate * seconds))
    scores = folder / "scores.jsonl"
    with Mosquitto(folder) as broker, Monitor(broker.port, "vedette/gw-1") as monitor, Watcher(broker) as watcher:
        config = write_config(folder, broker.url, state_every=0)
        with Publisher(broker.port) as publisher, Agent(python, config, monitor, "--scores", str(scores)) as agent:
            agent.wait_until_subscribed()
            swaps = _Swaps(store, watcher)
            with swaps:
                publisher.publish(order)
            agent.wait_until_quiet()
            agent.finish()
    found = np.array([msgspec.json.decode(line)["score"] for line in scores.read_bytes().splitlines()])
    expected = _deviations(order.messages)
    wrong = abs(len(found) - len(expected))
    if not wrong:
        by = [np.isclose(found, expected / threshold, atol=1e-6) for threshold in THRESHOLDS.values()]
        wrong = int((~np.logical_or(*by)).sum())
    return [
        Row(
            name=f"swap under load, {rate:.0f}/s: of {len(expected)} not scored once",
            value=wrong,
            unit="readings",
            bar=0,
            better="lower",
            runs=1,
        ),
        Row(name="swap under load: swaps", value=len(swaps.took_s), unit="times", runs=1),
        Row(
            name="swap under load: from the switch on disk to live",
            value=float(np.median(swaps.took_s)),
            unit="s",
            bar=1.0,
            better="lower",
            runs=len(swaps.took_s),
            spread=(min(swaps.took_s), max(swaps.took_s)),
        ),
    ]


class _Swaps:
    """Activates the version that is not live, again and again, in a thread of its own."""

    def __init__(self, store: Store, watcher: Watcher) -> None:
        self._store, self._watcher = store, watcher
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="swaps")
        self.took_s: list[float] = []

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        versions = list(THRESHOLDS)
        while not self._done.is_set():
            version = versions[len(self.took_s) % 2]
            self._store.activate("fridge", version)
            began = time.monotonic()
            self._wait_for(version)
            self.took_s.append(time.monotonic() - began)

    def _wait_for(self, version: str) -> None:
        def is_live() -> bool:
            report = self._watcher.last("vedette/gw-1/models/fridge")
            return report is not None and msgspec.json.decode(report)["live"] == version

        self._watcher.wait(is_live)


def _deviations(messages: int) -> np.ndarray:
    """How far each of the publisher's readings is from the mean, in sigma; drawn as it draws them."""
    rng = random.Random(1)
    found = []
    for _ in range(messages):
        temperature = 4.0 + rng.uniform(-2, 2)
        rng.uniform(-10, 10)
        found.append(abs(float(f"{temperature:.2f}") - 4.0))
    return np.array(found)
