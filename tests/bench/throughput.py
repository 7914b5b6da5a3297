"""Readings a second that an agent and a baseline program sustain with the same model, each driven beyond its capacity; and what the
runtime alone would score.

Rules this module keeps: agent, baseline and runtime in turn, in one run; readings come half as fast again as a subject takes them, and
the time counts until the last is worked off; the broker keeps what a subject has not taken yet, without limit, and every reading is
accounted for.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.models import AUTOENCODER_50, LSTM_30, STEPS, model_file
from bench.publisher import Order
from bench.rig import DEVICES, Figure, Plan, Rig, order
from bench.subjects import Agent, Baseline

BARS: Mapping[str, float] = {LSTM_30: 5.0, AUTOENCODER_50: 8.0}
"""Of readings a second beside the baseline's, by model."""

RUNTIME_BAR = 0.5
BATCHES = (1, 256)
_BEYOND, _BEHIND = 1.5, 1.2
_PILOT, _PILOT_RATE, _TRIES = 2000, 20_000.0, 4
_TIMEOUT_S = 60.0


def _ratio(model: str) -> str:
    return f"agent/baseline readings/s, {model}"


def _share(model: str) -> str:
    return f"agent/runtime alone at batch 256 windows/s, {model}"


def _agent(model: str) -> str:
    return f"agent readings/s, {model}"


def _baseline(model: str) -> str:
    return f"baseline readings/s, {model}"


def _runtime(model: str, batch: int) -> str:
    return f"runtime alone windows/s, batch {batch}, {model}"


FIGURES = (
    *(Figure(_ratio(model), "ratio", bar, "higher") for model, bar in BARS.items()),
    Figure(_share(AUTOENCODER_50), "ratio", RUNTIME_BAR, "higher"),
    Figure(_share(LSTM_30), "ratio", None, "higher"),
    *(Figure(name(model), "readings/s", None, "higher") for model in BARS for name in (_agent, _baseline)),
    *(Figure(_runtime(model, batch), "windows/s", None, "higher") for model in BARS for batch in BATCHES),
)


class Sustained(NamedTuple):
    """Readings a second, and bytes held at the end."""

    rate: float
    resident_bytes: int


def measure(rig: Rig, plan: Plan) -> None:
    """Every model, in rounds of agent, baseline and runtime; the one that is quickly made where it is to be quick."""
    for model in (LSTM_30,) if plan.quick else tuple(BARS):
        capacities: dict[str, float] = {}
        for _ in range(plan.runs):
            rig.step(f"agent beyond its capacity, {model}")
            with rig.agent((model,)) as agent:
                ours = sustain(rig, plan, agent, (model,), capacities).rate
            rig.step(f"baseline beyond its capacity, {model}")
            with rig.baseline(model) as baseline:
                theirs = sustain(rig, plan, baseline, (model,), capacities).rate
            rig.step(f"runtime alone, {model}")
            alone = runtime_rates(rig.python, model_file(rig.folder, model), BATCHES, min(1.0, plan.seconds))
            rig.samples[_agent(model)].append(ours)
            rig.samples[_baseline(model)].append(theirs)
            rig.samples[_ratio(model)].append(ours / theirs)
            rig.samples[_share(model)].append(ours / alone[256])
            for batch, rate in alone.items():
                rig.samples[_runtime(model, batch)].append(rate)


def sustain(
    rig: Rig, plan: Plan, subject: Agent | Baseline, models: Sequence[str], capacities: dict[str, float], devices: int = DEVICES
) -> Sustained:
    """Readings a second that a subject works off while more than that arrive.

    Args:
        rig: To measure with.
        plan: `seconds` is about how long it takes.
        subject: Just started.
        models: That it scores with, each with as many of the devices.
        capacities: By kind of subject, what it was found to take; found and noted here where it is not known yet.
        devices: That send, in turn.
    """
    subject.wait_until_subscribed()
    kind, waiting = type(subject).__name__, sum(devices // len(models) * (STEPS[model] - 1) for model in models)
    readings = order(*models, devices=devices, rate=_PILOT_RATE)
    # Windows fill first: what completes none costs little.
    sent = devices * max(STEPS[model] for model in models)
    rig.flood(subject, readings._replace(messages=sent), _TIMEOUT_S)
    what = " and ".join(models)
    if kind not in capacities:
        capacities[kind], used = _find_capacity(rig, subject, readings)
        sent += used
    for _ in range(_TRIES):
        messages = round(capacities[kind] * plan.seconds)
        flood = rig.flood(subject, readings._replace(rate=_BEYOND * capacities[kind], messages=messages), _TIMEOUT_S)
        sent += messages
        # Where the broker takes them more slowly than they were to be sent, more of them would find out nothing.
        is_all = flood.published_s > _BEHIND * plan.seconds / _BEYOND
        if flood.was_too_much or is_all:
            break
        capacities[kind] *= _BEYOND
    if not flood.was_too_much:
        capacities[kind] = flood.rate
        rig.notes.append(f"{kind}, {what}, {devices} devices: what the broker takes, {flood.rate:.0f} readings/s, was not too much for it")
    resident_bytes = subject.resident_bytes()
    rig.account(f"{kind}, {what}, beyond its capacity, {devices} devices", sent, subject.finish(), waiting)
    return Sustained(flood.rate, resident_bytes)


def _find_capacity(rig: Rig, subject: Agent | Baseline, readings: Order) -> tuple[float, int]:
    """Roughly what a subject takes a second, and how many readings it took to find out: more and more until a second's worth."""
    messages, sent = _PILOT, 0
    for _ in range(_TRIES):
        flood = rig.flood(subject, readings._replace(messages=messages), _TIMEOUT_S)
        sent += messages
        if flood.worked_off_s >= 1.0:
            break
        messages = round(2 * flood.rate)
        readings = readings._replace(rate=max(readings.rate, 2 * flood.rate))
    return flood.rate, sent


def runtime_rates(python: str, model: Path, batches: tuple[int, ...], seconds: float) -> dict[int, float]:
    """Windows a second by size of batch, in the gateway's Python with nothing around the runtime."""
    command = [python, str(Path(__file__).with_name("runtime_rate.py")), str(model), str(seconds), *map(str, batches)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S).stdout
    return {int(batch): rate for batch, rate in json.loads(said).items()}
