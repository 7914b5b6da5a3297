"""From publish to alert, at half of full load, beside the broker's own round trip at the same time.

Some devices send a value far out of the ordinary in every second reading. A listener, a process of its own, hears these readings from the
broker and the alerts that come of them; both times count from when a reading was due to be published.

Rules this module keeps: a model whose score is the value itself, so that each such reading is one alert, and one that does not come is a
fault; what the listener hears goes by one clock.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.models import DEVIATION
from bench.publisher import device
from bench.rig import DEVICES, GATEWAY, Figure, Plan, Rig, order, topic
from bench.subjects import Process
from bench.throughput import sustain

ODD_A_SECOND = 50.0
"""Readings that raise an alert."""

_SETTLED_S = 2.0
_P99 = f"publish -> alert p99 beyond the broker's round trip, half load, {DEVIATION}"
_OTHERS = {quantile: (f"publish -> alert p{quantile}, half load", f"broker's round trip p{quantile}, half load") for quantile in (50, 99)}
_P50 = "publish -> alert p50 beyond the broker's round trip, half load"
_LOAD = "half load, readings/s"

FIGURES = (
    Figure(_P99, "ms", 20.0),
    Figure(_P50, "ms"),
    *(Figure(name, "ms") for names in _OTHERS.values() for name in names),
    Figure(_LOAD, "readings/s", None, "higher"),
)


class Listener(Process):
    """alert_listener.py at work."""

    def __init__(self, python: str, folder: Path, port: int, *filters: str) -> None:
        program = Path(__file__).with_name("alert_listener.py")
        super().__init__([python, str(program), str(port), *filters], folder / "listener.log")

    def wait_until_subscribed(self) -> None:
        """Wait until it receives what is published."""
        assert self.child and self.child.stdout
        if self.child.stdout.readline() != "subscribed\n":
            raise self.complain("the listener did not start")

    def finish(self) -> Sequence[tuple[str, Mapping[str, Any], float]]:
        """Stop it. Returns: topic, payload and time of arrival (epoch seconds) of each message."""
        return [(topic, json.loads(payload), arrived) for topic, payload, arrived in json.loads(self.terminate())]


class Delays(NamedTuple):
    """Seconds from when each odd reading was due: until the listener heard the reading, and until it heard of its alert."""

    readings: list[float]
    alerts: list[float]


def measure(rig: Rig, plan: Plan) -> None:
    """Find full load, then listen at half of it."""
    rig.step(f"full load, {DEVIATION}")
    capacities: dict[str, float] = {}
    with rig.agent((DEVIATION,)) as agent:
        full = sustain(rig, plan, agent, (DEVIATION,), capacities).rate
    for _ in range(plan.runs):
        rig.step(f"publish -> alert at {full / 2:.0f} readings/s")
        delays = listen(rig, plan._replace(rate=full / 2, seconds=2.5 * plan.seconds))
        rig.samples[_LOAD].append(full / 2)
        for quantile, (of_alerts, of_readings) in _OTHERS.items():
            alert_ms, reading_ms = (1000 * float(np.percentile(found, quantile)) for found in (delays.alerts, delays.readings))
            rig.samples[of_alerts].append(alert_ms)
            rig.samples[of_readings].append(reading_ms)
            rig.samples[_P99 if quantile == 99 else _P50].append(alert_ms - reading_ms)


def listen(rig: Rig, plan: Plan) -> Delays:
    """Publish at the plan's rate, some of it odd, and see what the listener hears when."""
    odd = max(1, round(ODD_A_SECOND * 2 / (plan.rate / DEVICES)))
    topics = [topic(DEVIATION).replace("{device}", device(number)) for number in range(odd)]
    rules = {"raise": "1 of 1", "clear": "1 of 1", "cooldown": 0}
    with (
        rig.agent((DEVIATION,), alerts=rules) as agent,
        Listener(rig.python, rig.folder, rig.broker.port, f"vedette/{GATEWAY}/alerts/#", *topics) as listener,
    ):
        agent.wait_until_subscribed()
        listener.wait_until_subscribed()
        readings = order(DEVIATION, rate=plan.rate)
        rig.publisher.publish(readings._replace(messages=round(plan.rate * min(_SETTLED_S, plan.seconds))))
        agent.wait_until_quiet()
        readings = readings._replace(messages=plan.messages, odd=odd)
        rig.publisher.publish(readings)
        agent.wait_until_quiet()
        heard = listener.finish()
    delays = _delays(heard)
    if not len(delays.readings) == len(delays.alerts) == readings.odd_messages:
        said = f"{readings.odd_messages} odd readings, {len(delays.readings)} heard from the broker, {len(delays.alerts)} alerts"
        rig.faults.append(f"publish -> alert: {said}")
    return delays


def _delays(heard: Sequence[tuple[str, Mapping[str, Any], float]]) -> Delays:
    """Alerts belong to readings by device and time; what has no alert is not odd, or lost."""
    alerts = {
        (alert["device"], round(1000 * datetime.fromisoformat(alert["time"]).timestamp())): arrived
        for name, alert, arrived in heard
        if name.startswith("vedette/") and alert["type"] == "new"
    }
    readings = {(name.split("/")[2], round(1000 * reading["ts"])): arrived for name, reading, arrived in heard if name.startswith("plant/")}
    both = [key for key in alerts if key in readings]
    return Delays([readings[key] - key[1] / 1000 for key in both], list(itertools.chain(alerts[key] - key[1] / 1000 for key in both)))
