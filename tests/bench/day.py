"""`make bench-day`: a recorded day of the simulated cold chain with faults, replayed through every detector as a gateway would judge it.

Rules this module keeps: everything goes through the commands that an operator would use (simulate, train, export, model install, replay);
the alert rules are the agent's defaults, the recipes the shipped ones, and history is as large as they ask for; seeds are fixed; a day's
faults were seen by no model.

An alert is a fault's if it was open at some time while readings of its device carried the fault's label, or began within a window's length
after; any other is false. The delay runs from the fault's beginning to the first such alert.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import msgspec
import yaml

from bench import figures, machine
from bench.figures import Figures, Row
from vedette.contract.bundle import open_bundle
from vedette.contract.recordings import read_objects

RECIPES = ("lstm", "lstm_autoencoder", "isolation_forest", "one_class_svm", "dbscan", "pca", "hybrid")

_FLEET = ("--devices", "100", "--duration", "4d")
_HISTORY_SEED, _FAULTY_SEED = 11, 12
DAYS = {"known fridges": 11, "other fridges": 21, "others again": 31}
"""Seeds of the fleets that are recorded; the first is the one that the history is of, a week later."""

_DAY = ("--devices", "40", "--duration", "1d", "--fault-rate", "1", "--start", "2026-01-12T00:00:00Z")
_QUICK = {"_FLEET": ("--devices", "8", "--duration", "1d"), "_DAY": ("--devices", "8", "--duration", "12h", "--fault-rate", "2")}

FAULTY = {
    "door_left_open": "door",
    "compressor_failure": "power",
    "sensor_stuck": "temperature",
    "sensor_drift": "temperature",
}
"""Which feature shows a fault. Spoofed readings forge all of them."""

_DISTRIBUTIONS = ("vedette", "ai-edge-litert", "onnxruntime", "tensorflow-cpu", "keras", "scikit-learn", "numpy")


class Fault(NamedTuple):
    """A run of labelled readings of a device, epoch seconds, both ends included."""

    kind: str
    device: str
    start: float
    end: float


class Episode(NamedTuple):
    """An alert from its beginning to its end, and the feature that its explanation names first."""

    device: str
    start: float
    end: float
    top: str | None


class Result(NamedTuple):
    """What a detector made of a day.

    Attributes:
        delays: Seconds, of each detected fault in the order of `faults`; None where it was missed.
        tops: Of the first alert of each detected fault that shows in one feature, whether its explanation names that one first.
    """

    faults: list[Fault]
    delays: list[float | None]
    tops: list[bool]
    alerts: int
    false_alerts: int
    replay_s: float

    @property
    def found(self) -> list[float]:
        """The delays of those that were detected."""
        return [delay for delay in self.delays if delay is not None]


def read_faults(recording: Path) -> list[Fault]:
    """The faults of a recording that `vedette simulate` wrote."""
    running: dict[str, Fault] = {}
    found = []
    for _, line in read_objects(recording):
        record = msgspec.json.decode(line)
        device, at, kind = record["topic"].split("/")[-2], record["time"], record["fault"]
        before = running.get(device)
        if before and before.kind != kind:
            found.append(running.pop(device))
        if kind:
            start = running[device].start if device in running else at
            running[device] = Fault(kind, device, start, at)
    return sorted([*found, *running.values()], key=lambda fault: (fault.start, fault.device))


def read_episodes(lines: Sequence[str]) -> list[Episode]:
    """The alerts that `vedette replay --json` printed. Drift goes on with the anomaly before it and is none of its own."""
    found: dict[str, Episode] = {}
    for line in lines:
        alert: dict[str, Any] = msgspec.json.decode(line)["payload"]
        at = datetime.fromisoformat(alert["time"]).timestamp()
        if alert["type"] == "new" and alert["kind"] == "anomaly":
            causes = alert["explanation"]
            found[alert["id"]] = Episode(alert["device"], at, float("inf"), causes[0]["feature"] if causes else None)
        elif alert["type"] == "end" and alert["id"] in found:
            found[alert["id"]] = found[alert["id"]]._replace(end=at)
    return list(found.values())


def match(faults: Sequence[Fault], episodes: Sequence[Episode], grace_s: float, replay_s: float) -> Result:
    """Set alerts beside faults."""
    delays: list[float | None] = []
    tops: list[bool] = []
    true: set[Episode] = set()
    for fault in faults:
        mine = [e for e in episodes if e.device == fault.device and e.start <= fault.end + grace_s and e.end >= fault.start]
        true.update(mine)
        first = min(mine, key=lambda episode: episode.start, default=None)
        delays.append(max(0.0, first.start - fault.start) if first else None)
        if first and fault.kind in FAULTY and first.start >= fault.start:
            tops.append(first.top == FAULTY[fault.kind])
    return Result(list(faults), delays, tops, len(episodes), len(episodes) - len(true), replay_s)


def train(name: str, history: Path, folder: Path) -> tuple[Path, float]:
    """Train and export a detector; its bundle, and how many seconds it took."""
    began = time.monotonic()
    recipe = "cold-chain-" + name.replace("_", "-")
    _vedette("train", recipe, "--history", history, "-o", folder / "run")
    _vedette("export", folder / "run", "-o", folder / "day.vedette", "--name", "day")
    return folder / "day.vedette", time.monotonic() - began


def replay(bundle: Path, recording: Path, folder: Path) -> tuple[list[str], float]:
    """The alerts of a day as JSON, and how many seconds they took."""
    folder.mkdir()
    config = folder / "agent.yaml"
    stream = {"name": "fridges", "topic": "plant/+/fridge/{device}/telemetry", "model": "day", "payload": {"time": {"field": "ts"}}}
    state = str(folder / "state")
    config.write_text(yaml.safe_dump({"gateway": "gw", "broker": {"url": "mqtt://nobody"}, "state_dir": state, "streams": [stream]}))
    _vedette("model", "install", bundle, "--state-dir", state)
    began = time.monotonic()
    *alerts, _ = _vedette("replay", "-c", config, "--json", recording).splitlines()
    return alerts, time.monotonic() - began


def measure(folder: Path, names: Sequence[str], *, quick: bool) -> tuple[list[Row], str]:
    """Train and replay; the figures and two tables."""
    fleet, day = (_QUICK["_FLEET"], _QUICK["_DAY"]) if quick else (_FLEET, _DAY)
    history, faulty = folder / "history.csv", folder / "faulty.csv"
    _vedette("simulate", "cold-chain", *fleet, "--seed", str(_HISTORY_SEED), "-o", history)
    _vedette("simulate", "cold-chain", *fleet, "--fault-rate", "1", "--seed", str(_FAULTY_SEED), "-o", faulty)
    days = dict(list(DAYS.items())[: 1 if quick else None])
    for which, seed in days.items():
        _vedette("simulate", "cold-chain", *day, "--seed", str(seed), "-o", folder / f"{which}.jsonl.gz")
    faults = {which: read_faults(folder / f"{which}.jsonl.gz") for which in days}
    rows: list[Row] = []
    results: dict[str, dict[str, Result]] = {}
    for name in names:
        (folder / name).mkdir()
        bundle, train_s = train(name, faulty if name == "lstm" else history, folder / name)
        window = open_bundle(bundle).manifest.window
        found = {}
        for which in days:
            alerts, replay_s = replay(bundle, folder / f"{which}.jsonl.gz", folder / name / which)
            found[which] = match(faults[which], read_episodes(alerts), window.steps * 60.0, replay_s)
        results[name] = found
        rows += _rows(name, found, train_s)
        print(_line(name, found, train_s), file=sys.stderr, flush=True)
    return rows, f"{_table(results)}\n\n{_kinds(results)}"


def _line(name: str, found: dict[str, Result], train_s: float) -> str:
    counts = ", ".join(f"{len(r.found)} of {len(r.faults)} and {r.false_alerts} false" for r in found.values())
    return f"{name}: trained and exported in {train_s:.0f} s; {counts}"


def _rows(name: str, found: dict[str, Result], train_s: float) -> list[Row]:
    """A detector's figures; each is the median of the days, with the smallest and the largest."""

    def row(what: str, unit: str, values: Sequence[float]) -> list[Row]:
        if not values:
            return []
        return [
            Row(
                name=f"{name}: {what}",
                value=statistics.median(values),
                unit=unit,
                runs=len(values),
                spread=(min(values), max(values)),
            )
        ]

    days = list(found.values())
    return [
        *row("faults detected", "share", [len(day.found) / len(day.faults) for day in days]),
        *row("false alerts", "a day, all fridges", [float(day.false_alerts) for day in days]),
        *row("delay", "s", [statistics.median(day.found) for day in days if day.found]),
        *row("faulty feature named first", "share", [statistics.fmean(day.tops) for day in days if day.tops]),
        *row("replay of a day", "s", [day.replay_s for day in days]),
        *row("training and export", "s", [train_s]),
    ]


def _table(results: dict[str, dict[str, Result]]) -> str:
    """Every detector on every day, for people and docs/detection.md."""
    lines = ["| detector | fleet | faults detected | false alerts a day | median delay | faulty feature named first |"]
    lines.append("| --- | --- | --: | --: | --: | --: |")
    for name, found in results.items():
        for which, day in found.items():
            delay = f"{statistics.median(day.found) / 60:.0f} min" if day.found else "-"
            top = f"{sum(day.tops)} of {len(day.tops)}" if day.tops else "-"
            lines.append(f"| `{name}` | {which} | {len(day.found)} of {len(day.faults)} | {day.false_alerts} | {delay} | {top} |")
    return "\n".join(lines)


def _kinds(results: dict[str, dict[str, Result]]) -> str:
    """Which kinds of faults each detector finds, all days together."""
    kinds = sorted({fault.kind for found in results.values() for day in found.values() for fault in day.faults})
    lines = ["| detector | " + " | ".join(kind.replace("_", " ") for kind in kinds) + " |", "| --- |" + " --: |" * len(kinds)]
    for name, found in results.items():
        pairs = [pair for day in found.values() for pair in zip(day.faults, day.delays, strict=True)]
        cells = []
        for kind in kinds:
            of_kind = [delay for fault, delay in pairs if fault.kind == kind]
            cells.append(f"{sum(delay is not None for delay in of_kind)} of {len(of_kind)}")
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _vedette(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "vedette", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"vedette {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the figures.

    Returns:
        0, whatever the figures say.
    """
    parser = argparse.ArgumentParser(prog="bench-day", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=RECIPES, nargs="+", default=RECIPES, help="detectors (default: all)")
    parser.add_argument("--quick", action="store_true", help="see whether the bench works, in a minute; the figures say little")
    parser.add_argument("-o", "--output", type=Path, default=figures.FOLDER / "day.json", help="figures file (default: %(default)s)")
    given = parser.parse_args(arguments)
    os.nice(10)
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as folder:
        rows, text = measure(Path(folder), given.only, quick=given.quick)
    versions = machine.versions(sys.executable, _DISTRIBUTIONS)
    figures.write(Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=tuple(rows)), given.output)
    print(f"{text}\n\n{given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
