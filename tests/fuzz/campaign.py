"""`make fuzz`: every reader of what somebody else wrote, under coverage-guided fuzzing; whatever it raises beyond what it declares is kept.

Rules this module keeps: as many targets at a time as there are cores, and never more than two; seeds and executions are printed and can be
repeated; what is found lies in `tests/fuzz/found`, where `make test` tries it for ever.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import figures, machine
from bench.figures import Figures, Line, Row
from bench.rig import Progress
from fuzz.seeds import seeds
from fuzz.targets import TARGETS, shares

FOUND = Path(__file__).with_name("found")
PYTHON = Path(__file__).resolve().parents[2] / ".venv-fuzz" / "bin" / "python"
LEAST = 100_000
ALL = 10_000_000
_LONGEST_S = 7200.0


class Hunted(NamedTuple):
    """What became of one target: `coverage` is libFuzzer's count of edges, `raised` what was raised by the file that leads there."""

    name: str
    executions: int
    coverage: int
    corpus: int
    seconds: float
    raised: Mapping[str, str]


def hunt(name: str, executions: int, seed: int, folder: Path) -> Hunted:
    """Run one target.

    Raises:
        RuntimeError: it ended before its time; with the last that it said.
    """
    corpus = folder / name
    began = time.monotonic()
    command = [str(PYTHON), str(Path(__file__).with_name("hunt.py")), name, str(executions), str(seed), str(corpus), str(FOUND)]
    # Crashes of the interpreter itself, time and memory run out: libFuzzer leaves the bytes where it stands.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_LONGEST_S, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith('{"executions"')]
    if not told:
        for file in [*folder.glob("crash-*"), *folder.glob("timeout-*"), *folder.glob("oom-*")]:
            file.replace(FOUND / f"{name}-{file.name}")
        raise RuntimeError("\n  ".join([f"{name} ended after {time.monotonic() - began:.0f} s", *done.stderr.splitlines()[-12:]]))
    result = json.loads(told[-1])
    coverage = [int(count) for count in re.findall(r"cov: (\d+)", done.stderr)]
    return Hunted(
        name, result["executions"], max(coverage, default=0), len(list(corpus.iterdir())), time.monotonic() - began, result["raised"]
    )


def rows_of(hunted: Sequence[Hunted], failed: Sequence[str], asked: int) -> tuple[Row, ...]:
    """The figures."""
    total = sum(each.executions for each in hunted)
    raised = sum(len(each.raised) for each in hunted) + len(failed)
    return (
        Row(name="exceptions that no reader declares", value=float(raised), unit="exceptions", bar=0.0, better="lower", runs=1),
        Row(name="executions in all", value=float(total), unit="executions", bar=float(asked), better="higher", runs=1),
        Row(
            name="executions of the target that had fewest",
            value=float(min((each.executions for each in hunted), default=0)),
            unit="executions",
            bar=float(min(LEAST, asked // len(TARGETS))),
            better="higher",
            runs=1,
        ),
        *(Row(name=f"{each.name}: executions", value=float(each.executions), unit="executions", runs=1) for each in hunted),
        *(Row(name=f"{each.name}: edges covered", value=float(each.coverage), unit="edges", runs=1) for each in hunted),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt, print the table and write the figures.

    Returns:
        0 where nothing was raised that is not declared; 1 otherwise.
    """
    options = argparse.ArgumentParser(description="Coverage-guided fuzzing of every reader of what somebody else wrote.")
    options.add_argument("--executions", type=int, default=ALL, help="of all targets together (default: %(default)d)")
    options.add_argument("--seed", type=int, help="(default: another each time)")
    options.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TARGET", help="(default: all)")
    options.add_argument(
        "--figures", type=Path, metavar="FILE", default=figures.FOLDER / "fuzz.json", help="(default: build/figures/fuzz.json)"
    )
    given = options.parse_args(arguments)
    seed = random.randrange(1, 2**31) if given.seed is None else given.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"vedette fuzz, commit {machine.commit()}, seed {seed}", flush=True)
    executions = shares(given.executions, min(LEAST, given.executions // len(given.only)), given.only)
    progress, began = Progress(), time.monotonic()
    hunted: list[Hunted] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="vedette-fuzz-") as name:
        folder = Path(name)
        for target, samples in seeds().items():
            (folder / target).mkdir()
            for number, sample in enumerate(samples):
                (folder / target / f"seed-{number:03}").write_bytes(sample)
            for file in FOUND.glob(f"{target}-*"):
                (folder / target / file.name).write_bytes(file.read_bytes())

        def follow(target: str) -> None:
            try:
                hunted.append(found := hunt(target, executions[target], seed, folder))
            except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
                failed.append(target)
                progress.clear()
                print(error, file=sys.stderr)
                return
            progress.clear()
            rate = found.executions / found.seconds
            print(
                f"{target:15} {found.executions:9} executions, {rate:6.0f}/s, {found.coverage:5} edges, {found.corpus:5} inputs", flush=True
            )
            for file, what in found.raised.items():
                print(f"  found/{file}: {what}", flush=True)
            progress(f"{len(hunted)} of {len(given.only)} targets")

        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            # The longest first, so that no core is idle at the end.
            list(pool.map(follow, sorted(given.only, key=lambda each: -executions[each] / TARGETS[each].weight)))
    progress.clear()
    hunted.sort(key=lambda each: given.only.index(each.name))
    versions = machine.versions(str(PYTHON), ("atheris", "msgspec", "numpy", "pyyaml"))
    result = Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=rows_of(hunted, failed, given.executions))
    figures.write(result, given.figures)
    print(figures.table(figures.in_order(Line("fuzz", row) for row in result.rows)))
    print(f"{time.monotonic() - began:.0f} s; figures in {os.path.relpath(given.figures)}")
    return 1 if any(row.missed for row in result.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
