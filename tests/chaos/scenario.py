"""A fleet with known faults, the model that finds them, and what an undisturbed agent makes of it.

Four streams share one model. Fridges have episodes that begin mildly, get worse and end: `new`, `update` and `end`. Meters get stuck.
Racks fail together and are told as a group. Beacons send a few readings at the beginning and never again: they fall silent.

Rules this module keeps: every payload has a time of its own, and a device's readings are in its order; the score depends on every value
of a window and, through an average and smoothing, on all readings before it, so that one that was lost or taken twice shows in all that
follow; readings and faults are drawn from a seed; what is expected comes from `vedette replay`, the agent's path without a network.
"""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper

import bundles
from agents import vedette
from vedette.contract.features import Number
from vedette.contract.scores import Calibration, Stage
from vedette.contract.windows import WindowSpec

GATEWAY = "gw-1"
START, PERIOD_S = 1_790_000_000, 10
STEPS = 4
FRIDGES, METERS, RACKS, BEACONS = "fridges", "meters", "racks", "beacons"
DEVICES: Mapping[str, int] = {FRIDGES: 24, METERS: 6, RACKS: 8, BEACONS: 4}
BEACON_READINGS = 6
SILENT_S = 6.0
"""Of the clock, not of the readings: long after the last of a beacon's readings, and well within the shortest round."""

_EPISODE_EVERY = 40
_MILD, _SEVERE = 9.0, 18.0

WindowKey = tuple[str, str, float]
"""A window: its stream, device and event time."""


class AlertKey(NamedTuple):
    """One message of an episode: an episode may have several updates, each at its time."""

    id: str
    type: str
    time: str


class Reading(NamedTuple):
    """A message that a device publishes."""

    topic: str
    payload: bytes


class Expected(NamedTuple):
    """What an agent makes of the readings: its alerts, but for those of silence, and every window's score.

    Attributes:
        silent: Devices that fall silent, once each, and are never heard again.
    """

    alerts: Mapping[AlertKey, Mapping[str, Any]]
    scores: Mapping[WindowKey, float]
    silent: frozenset[str]


def key_of(alert: Mapping[str, Any]) -> AlertKey:
    """What tells an alert's message from others."""
    return AlertKey(alert["id"], alert["type"], alert["time"])


def make_bundle() -> bytes:
    """A model that weighs every distance from the mean in a window, each differently, in ONNX Runtime."""
    number = Number(name="temperature", minimum=-50.0, maximum=80.0, mean=4.0, scale=1.0, averages=(4.0,))
    weights = np.random.default_rng(5).uniform(0.5, 1.5, size=(1, STEPS, 2))
    weights = (weights / weights.sum()).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Abs", ["window"], ["distance"]),
            helper.make_node("Mul", ["distance", "weights"], ["weighed"]),
            helper.make_node("ReduceSum", ["weighed", "axes"], ["raw"], keepdims=0),
        ],
        "weighed_distance",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["n", STEPS, 2])],
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["n"])],
        initializer=[
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    stage = Stage(
        name="distance",
        runtime="onnx",
        file="model.onnx",
        input="window",
        output="raw",
        calibration=Calibration(centre=0.0, threshold=3.0),
        smoothing=1.5,
    )
    return bundles.pack(stage, bytes(model.SerializeToString()), "distance", "1.0.0", (number,), WindowSpec(steps=STEPS))


class Scenario:
    """A fleet's readings.

    Args:
        readings_each: Of every device but the beacons.
        seed: Of values, faults and the order in which devices take turns.

    Attributes:
        readings: In the order in which they are published.
        prelude: How many of them are the beacons', at the beginning.
    """

    def __init__(self, readings_each: int, seed: int) -> None:
        self._each, self._rng = readings_each, random.Random(seed)
        beacons = [(BEACONS, f"beacon-{n}", step) for step in range(BEACON_READINGS) for n in range(DEVICES[BEACONS])]
        self.prelude = len(beacons)
        others = [(stream, f"{stream[:-1]}-{n:02}") for stream in (FRIDGES, METERS, RACKS) for n in range(DEVICES[stream])]
        offsets = {device: self._rng.randrange(6, _EPISODE_EVERY) for _, device in others}
        turns: list[tuple[str, str, int]] = []
        for step in range(readings_each):
            turns += [(stream, device, step) for stream, device in self._rng.sample(others, len(others))]
        self.readings = [self._reading(*turn, offsets) for turn in [*beacons, *turns]]

    def _reading(self, stream: str, device: str, step: int, offsets: Mapping[str, int]) -> Reading:
        temperature = 4.0 + self._rng.gauss(0.0, 1.0)
        place = step - offsets.get(device, 0)
        if stream == FRIDGES and place >= 0:
            turn = place % _EPISODE_EVERY
            temperature += _MILD if turn < 4 else _SEVERE if turn < 8 else 0.0
        elif stream == RACKS and device < f"rack-{DEVICES[RACKS] - 2:02}" and 0 <= step - self._each // 2 < 8:
            temperature += _SEVERE
        elif stream == METERS and 0 <= place % 60 < 25 and place >= 0:
            temperature = 4.5 + int(device[-1]) / 8
        time = START + PERIOD_S * step
        payload = json.dumps({"ts": time, "temperature": round(temperature, 3)}).encode()
        return Reading(f"plant/{stream}/{device}/telemetry", payload)

    def install(self, state_dir: Path) -> None:
        """Put the model into a state folder."""
        bundles.install(state_dir, make_bundle())

    def expect(self, folder: Path, python: str) -> Expected:
        """Replay the readings, in a folder of its own, under a gateway's Python."""
        folder.mkdir(parents=True, exist_ok=True)
        self.install(folder / "state")
        path, scores = folder / "readings.jsonl", folder / "scores.jsonl"
        config = write_config(folder, "mqtt://nobody", 5)
        arrived = START + PERIOD_S * self._each + 3600
        lines = (
            json.dumps({"topic": topic, "payload": payload.decode(), "time": arrived + n / 1000})
            for n, (topic, payload) in enumerate(self.readings)
        )
        path.write_text("\n".join(lines) + "\n")
        done = vedette("replay", "-c", config, path, "--json", "--scores", scores, python=python)
        if done.returncode:
            raise RuntimeError(f"the readings cannot be replayed: {done.stderr}")
        found = [document["payload"] for line in done.stdout.splitlines() if "topic" in (document := json.loads(line))]
        alerts = [alert for alert in found if alert["kind"] != "silent"]
        silent = frozenset(f"beacon-{n}" for n in range(DEVICES[BEACONS]))
        return Expected({key_of(alert): alert for alert in alerts}, dict(read_scores(scores)), silent)


def write_config(folder: Path, url: str, protocol: int | str, **settings: Any) -> Path:
    """agent.yaml for the fleet, with a keepalive as short as may be."""
    rules: dict[str, dict[str, Any]] = {
        FRIDGES: {},
        METERS: {"stuck": "150s"},
        RACKS: {"group": "4 within 1h"},
        BEACONS: {"silent": f"{SILENT_S:.0f}s"},
    }
    streams = [
        {
            "name": name,
            "topic": f"plant/{name}/{{device}}/telemetry",
            "model": "distance",
            "payload": {"time": {"field": "ts"}},
            **({"alerts": own} if own else {}),
        }
        for name, own in rules.items()
    ]
    whole = {
        "gateway": GATEWAY,
        "broker": {"url": url, "protocol": protocol, "keepalive": "5s"},
        "state_dir": str(folder / "state"),
        "alerts": {"raise": "2 of 3", "clear": "3 of 3", "update": "20s", "drift_share": None},
        "streams": streams,
        "stats_every": "2s",
        **settings,
    }
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


def read_scores(path: Path) -> Iterable[tuple[WindowKey, float]]:
    """A file of scores, up to where a kill cut it off."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    # What follows the last end of a line was cut off, or is nothing.
    for line in lines[:-1]:
        score = json.loads(line)
        yield (score["stream"], score["device"], score["time"]), score["score"]
