"""Flood: 100,000 spoofed names, as fast as the agent's socket takes them, and fifty honest devices in between. First with QoS 0, which
nothing holds back, then with every tenth message of QoS 1.

Rules this module keeps: an honest reading counts as scored only where its score is among those that the agent wrote down; memory is looked
at from outside.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bench.figures import Row
from bench.machine import gateway_python
from bench.subjects import Process, unit_environment
from bundles import install, make_bundle
from chaos.flooding_broker import FloodingBroker, Sent, State

HONEST = 50
CALM_S = 3.0
"""Before the flood; and as long, at most, after it until all is as it was."""

LONGEST_RECOVERY_S = 30.0
USUAL_S = 0.5
"""What a reading takes to its score, at most, when all is well."""


class Seen(NamedTuple):
    """What a flood came to.

    Attributes:
        peak: Bytes that the agent held at most.
        states: What the agent published of honest devices: of several readings in one batch, the last one's.
        scored: Device and time of every reading that was scored.
        stats: The agent's, with when they came, by the monotonic clock: from just before the flood until it was over.
        recovered_s: From the flood's end until the queue was empty and readings took as long as usual; None where they never did.
        flooded_s: How long it flooded.
    """

    sent: Sequence[Sent]
    states: Sequence[State]
    scored: frozenset[tuple[str, float]]
    stats: Sequence[tuple[float, dict[str, Any]]]
    peak: int
    flooded: int
    flooded_s: float
    recovered_s: float | None


def run(progress: Callable[[str], None], seconds: float, seed: int) -> tuple[Row, ...]:
    """Flood an agent twice, for half as long each, and see what it makes of it.

    Raises:
        SubjectError: the agent did not start, or ended.
    """
    rows: list[Row] = []
    for name, every in (("flood, QoS 0", 0), ("flood, some QoS 1", 10)):
        progress(f"{name}, {seconds / 2:.0f} s")
        with tempfile.TemporaryDirectory(prefix="vedette-flood-") as folder, FloodingBroker(HONEST, seed, every) as broker:
            install(Path(folder), make_bundle(threshold=100.0))
            with _agent(Path(folder), broker.url) as agent:
                seen = _watch(agent, broker, seconds / 2)
                agent.terminate()
            scores = map(json.loads, (Path(folder) / "scores.jsonl").read_text(encoding="utf-8").splitlines())
            seen = seen._replace(scored=frozenset((each["device"], round(each["time"], 3)) for each in scores))
            rows += rows_of(name, seen, is_held_back=every > 0)
    return tuple(rows)


def _agent(folder: Path, url: str) -> Process:
    path = folder / "agent.yaml"
    stream = {"name": "f", "topic": "f/{device}", "model": "fridge", "payload": {"time": {"field": "ts"}, "repeats": "keep"}}
    # Every score is told, so that an honest reading can be followed.
    settings = {"gateway": "g", "state_every": "1ms", "stats_every": "500ms", "state_dir": str(folder), "streams": [stream]}
    path.write_text(json.dumps({**settings, "broker": {"url": url, "protocol": "3.1.1"}}), encoding="utf-8")
    command = [gateway_python(), "-m", "vedette", "run", "-c", str(path), "--scores", str(folder / "scores.jsonl")]
    return Process(command, folder / "agent.log", unit_environment(), talks=True)


def _watch(agent: Process, broker: FloodingBroker, seconds: float) -> Seen:
    if not broker.subscribed.wait(20):
        raise agent.complain("the agent did not start")
    _look(agent, CALM_S)
    first, began = len(broker.sent), time.monotonic()
    before = len(broker.stats) - 1
    broker.flooding = True
    peak = _look(agent, seconds)
    broker.flooding, ended = False, time.monotonic()
    last, flooded_s = len(broker.sent), ended - began
    recovered_s = None
    while recovered_s is None and time.monotonic() < ended + LONGEST_RECOVERY_S:
        peak = max(peak, _look(agent, 0.2))
        now, heard = time.time(), broker.states[-HONEST:]
        fresh = [state for state in heard if now - state.time < 2.0]
        if len(fresh) >= HONEST // 2 and all(s.heard - s.time < USUAL_S for s in fresh) and not broker.stats[-1][1]["queued"]:
            recovered_s = time.monotonic() - ended
    return Seen(
        broker.sent[first:last], list(broker.states), frozenset(), broker.stats[before:], peak, broker.flooded, flooded_s, recovered_s
    )


def _look(agent: Process, seconds: float) -> int:
    """Wait so long, and give the most that the agent held."""
    peak, until = 0, time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
        assert agent.child
        if agent.child.poll() is not None:
            raise agent.complain("the agent ended")
        peak = max(peak, agent.resident_bytes())
    return peak


def rows_of(what: str, seen: Seen, *, is_held_back: bool) -> tuple[Row, ...]:
    """The figures; where the agent's pace holds the flood back, how much is offered says nothing."""
    took = {(state.device, round(state.time, 3)): state.heard - state.time for state in seen.states}
    shares = [_share([s for s in seen.sent if s.qos == qos], seen.scored) for qos in (0, 1)]
    latencies = [took[key] for s in seen.sent if (key := (s.device, s.time)) in took]
    at, first, last = [when for when, _ in seen.stats], seen.stats[0][1], seen.stats[-1][1]
    counted = {
        name: last["streams"]["f"].get(name, 0) - first["streams"]["f"].get(name, 0) for name in ("scored", "rejected.newcomer", "evicted")
    }
    received, dropped = last["received"] - first["received"], last["dropped"] - first["dropped"]

    def row(name: str, value: float, unit: str, bar: float | None = None, *, higher: bool = False) -> Row:
        better: Literal["higher", "lower"] | None = None if bar is None else "higher" if higher else "lower"
        return Row(name=f"{what}: {name}", value=float(value), unit=unit, bar=bar, better=better, runs=1)

    return (
        row("rss at most", seen.peak / 1e6, "MB", 200.0),
        row("honest readings scored, QoS 1", shares[1], "share", 0.99, higher=True),
        row("longest wait for statistics", float(np.diff(at).max()), "s", 5.0),
        row("recovered after", float("nan") if seen.recovered_s is None else seen.recovered_s, "s", 5.0),
        row(
            "messages offered to one scored", seen.flooded / max(1, counted["scored"]), "ratio", None if is_held_back else 10.0, higher=True
        ),
        row("honest readings scored, QoS 0", shares[0], "share"),
        row("honest readings took, median", float(np.median(latencies)) if latencies else float("nan"), "s"),
        row("honest readings took, 99th percentile", float(np.quantile(latencies, 0.99)) if latencies else float("nan"), "s"),
        row("messages offered", seen.flooded / seen.flooded_s, "messages/s"),
        row("messages received", received / seen.flooded_s, "messages/s"),
        row("messages without room in the queue", dropped / max(1, received), "share"),
        row("readings scored", counted["scored"] / seen.flooded_s, "readings/s"),
        row("readings of newcomers refused", counted["rejected.newcomer"], "readings"),
        row("devices that had to give way", counted["evicted"], "devices"),
    )


def _share(sent: Sequence[Sent], scored: frozenset[tuple[str, float]]) -> float:
    return sum((s.device, s.time) in scored for s in sent) / max(1, len(sent))
