"""`make bench`: the cost of a reading beside a bare subscriber, readings a second beside a baseline program; latency; scale; memory; start.

Every part is a module of its own with FIGURES and `measure(rig, plan)`.

Rules this module keeps: an unclean run leaves no figures; nothing leaves this machine.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import cost, durability, figures, latency, machine, models, scale, throughput
from bench.figures import Figures, Line
from bench.publisher import Publisher
from bench.rig import DEVICES, GATEWAY, Figure, Plan, Progress, Rig
from bench.subjects import Monitor, SubjectError
from brokers import MOSQUITTO, Mosquitto

DISTRIBUTIONS = ("vedette", "paho-mqtt", "ai-edge-litert", "onnxruntime", "numpy", "msgspec")
PARTS: Mapping[str, ModuleType] = {"cost": cost, "throughput": throughput, "latency": latency, "scale": scale, "durability": durability}
OTHERS = "processors' time that others took meanwhile"
"""Where it is more than a few percent, the figures are rough."""

FIGURES: tuple[Figure, ...] = (*(figure for part in PARTS.values() for figure in part.FIGURES), Figure(OTHERS, "%"))
_ROUNDS = {"throughput": 3, "latency": 3, "scale": 3, "durability": 3}
"""At most so many of a part whose rounds are long."""

_MODELS: Mapping[str, tuple[str, ...]] = {
    "cost": cost.MODELS,
    "throughput": tuple(throughput.BARS),
    "latency": (models.DEVIATION,),
    "scale": (models.DEVIATION_5,),
    "durability": (models.DEVIATION,),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures.

    Returns:
        0 where every message was accounted for, whatever the figures say; 1 otherwise.
    """
    given = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    progress, others = Progress(), machine.Others()
    try:
        python = machine.gateway_python()
        versions = {**machine.versions(python, DISTRIBUTIONS), "mosquitto": machine.mosquitto_version(MOSQUITTO)}
        rig, plan = _measure(given, python, progress)
        rig.samples[OTHERS].append(100 * others.share())
    except KeyboardInterrupt:
        return 130
    except (OSError, RuntimeError, SubjectError, subprocess.SubprocessError, AssertionError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        progress.clear()
    found = Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=rig.rows(FIGURES))
    print(_report(found, plan, rig))
    if rig.faults:
        print("\nNOT CLEAN, so no figures were written:", *rig.faults, sep="\n  ")
        return 1
    whole = not given.quick and set(given.only) == set(PARTS)
    if path := given.figures or (figures.FOLDER / "engine.json" if whole else None):
        figures.write(found, path)
        print(f"\nevery message accounted for; figures in {os.path.relpath(path)}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description="Speed, latency, memory and start of the agent, beside others.")
    options.add_argument("--runs", type=int, default=5, help="rounds of whatever is compared, in turn, at most (default: %(default)s)")
    options.add_argument("--rate", type=float, default=10_000.0, help="messages a second, if the machine can (default: %(default).0f)")
    options.add_argument("--seconds", type=float, default=3.5, help="length of one measurement (default: %(default)s)")
    options.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="parts (default: all)")
    options.add_argument("--quick", action="store_true", help="see whether it works: one short round; figures only where --figures says")
    options.add_argument(
        "--figures", type=Path, metavar="FILE", help="where the figures go (default: build/figures/engine.json, if all was measured)"
    )
    given = options.parse_args(arguments)
    if given.runs < 1 or given.rate < 100 or given.seconds < 0.5:
        options.error("expected at least 1 run, 100 messages/s and 0.5 s")
    return given


def _measure(given: argparse.Namespace, python: str, progress: Progress) -> tuple[Rig, Plan]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vedette-bench-")))
        progress("making the models")
        needed = {model for part in given.only for model in _MODELS[part]} - ({models.AUTOENCODER_50} if given.quick else set())
        models.install(folder, sorted(needed))
        # The one bound that tests/brokers.py takes away, max_queued_messages, would have mosquitto drop what a slow subject has not taken.
        broker = stack.enter_context(Mosquitto(folder))
        publisher = stack.enter_context(Publisher(broker.port))
        monitor = stack.enter_context(Monitor(broker.port, f"vedette/{GATEWAY}"))
        rig = Rig(python, folder, broker, publisher, monitor, progress)
        plan = Plan(given.runs, given.rate, given.seconds, warm_up_s=0.7)
        if given.quick:
            plan = Plan(1, min(given.rate, 2_000.0), 0.5, warm_up_s=0.2, quick=True)
        elif "cost" in given.only:
            rate = cost.find_rate(rig, plan._replace(seconds=2.0))
            rig.laggards.clear()
            plan = plan._replace(rate=rate)
        for name in given.only:
            PARTS[name].measure(rig, plan._replace(runs=min(plan.runs, _ROUNDS.get(name, plan.runs))))
    return rig, plan


def _report(found: Figures, plan: Plan, rig: Rig) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    what = f"{plan.rate:.0f} messages/s where a rate is given, {plan.seconds:g} s each after warm-up, {DEVICES} devices"
    header = [
        f"vedette bench, commit {found.commit}",
        found.machine,
        versions,
        f"{what}, 1 reading of about 80 bytes a message; median, and smallest … largest",
    ]
    if laggards := rig.laggards:
        worst = max(laggards)
        header.append(f"behind the rate in {len(laggards)} measurements, at worst by {worst.behind_s:.1f} s ({worst.who})")
    header += rig.notes
    return "\n".join([*header, "", figures.table([Line("engine", row) for row in found.rows])])


if __name__ == "__main__":
    sys.exit(main())
