"""`make chaos`: whatever dies, fails or floods, no alert is lost and no window is wrong.

Every part is a module of its own with `run(progress, amount, seed)`, which returns its figures. `--only` runs some of them, `--seed`
repeats a run, `--amount` makes one shorter or longer.
"""

import argparse
import importlib
import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import figures, machine
from bench.figures import Figures, Line, Row
from brokers import MOSQUITTO
from chaos.progress import Progress


class Part(NamedTuple):
    """A part: its module, how much of it is the long form, and of what."""

    module: str
    amount: int
    unit: str


PARTS: Mapping[str, Part] = {
    "kills": Part("chaos.kills", 1000, "kills"),
    "faults": Part("chaos.faults", 3, "times each, over MQTT 5 and 3.1.1"),
    "torn": Part("chaos.torn", 10_000, "copies"),
    "disk": Part("chaos.disk", 3, "times each"),
    "flood": Part("chaos.flood", 60, "seconds"),
    "spooled": Part("chaos.spooled", 24, "hours"),
}
_DISTRIBUTIONS = ("vedette", "paho-mqtt", "msgspec", "numpy", "onnxruntime")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, print the table and write the figures.

    Returns:
        0 where every bar is reached; 1 otherwise.
    """
    options = argparse.ArgumentParser(prog="chaos", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", choices=PARTS, nargs="+", default=tuple(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    options.add_argument("--seed", type=int, default=1, help="of everything that is drawn (default: %(default)s); -1 draws it, too")
    options.add_argument("--amount", type=int, help="how much of each part, instead of its long form")
    options.add_argument("-o", "--output", type=Path, default=figures.FOLDER / "chaos.json", help="(default: build/figures/chaos.json)")
    given = options.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = given.seed if given.seed >= 0 else random.SystemRandom().randrange(1_000_000)
    versions = {**machine.versions(machine.gateway_python(), _DISTRIBUTIONS), "mosquitto": machine.mosquitto_version(MOSQUITTO)}
    print(f"vedette chaos, commit {machine.commit()}, seed {seed}\n{machine.machine()}", flush=True)
    progress = Progress()
    rows: list[Row] = []
    failed: list[str] = []
    try:
        for name in given.only:
            rows += _rows(name, given.amount, seed, progress, failed)
    except KeyboardInterrupt:
        return 130
    finally:
        progress.clear()
    rows.append(Row(name="seed", value=seed, unit="", runs=1))
    figures.write(Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=tuple(rows)), given.output)
    print(figures.table(figures.in_order(Line("chaos", row) for row in rows)))
    for fault in failed:
        print(f"chaos: {fault}", file=sys.stderr)
    print(f"\nfigures in {os.path.relpath(given.output)}")
    return 1 if failed or any(row.missed for row in rows) else 0


def _rows(name: str, amount: int | None, seed: int, progress: Progress, failed: list[str]) -> tuple[Row, ...]:
    """The figures of a part; a part that cannot be run to its end is a fault, and the others are run all the same."""
    part = PARTS[name]
    try:
        found: tuple[Row, ...] = importlib.import_module(part.module).run(progress, amount or part.amount, seed)
        return found
    except Exception as error:  # noqa: BLE001 because hours of other parts' figures are not lost for one that fails
        failed.append(f"{name} (seed {seed}) has failed: {type(error).__name__}: {error}")
        return ()
    finally:
        progress.clear()


if __name__ == "__main__":
    sys.exit(main())
