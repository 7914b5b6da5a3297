"""`kill -9` at random moments of what changes the models on a gateway: whatever the moment, what is live is a bundle that was verified.

Rules this module keeps: the moments are drawn from a seed, over the whole run of a command and, as often, over its second half, where the
disk is written; after every kill the live version is loaded and scores its golden windows; a command that is run to its end must work on
what the killed ones left.
"""

import random
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from agents import write_config
from bench import machine
from bench.figures import Row
from bundles import make_bundle
from publishers import Gateway, Publisher
from vedette.contract import bundle as bundles
from vedette.contract.errors import VedetteError
from vedette.store import Store

VERSIONS = 6


class Kills:
    """One gateway's store, and a command against it at a time.

    Args:
        folder: For everything.
        python: The gateway's.
        seed: Of the moments and commands.
    """

    def __init__(self, folder: Path, python: str, seed: int) -> None:
        self._folder, self._python = folder, python
        self._rng = random.Random(seed)
        self.store = Store(folder / "state")
        self._files: list[Path] = []
        for number in range(VERSIONS):
            path = folder / f"fridge-1.{number}.0.vedette"
            path.write_bytes(make_bundle(version=f"1.{number}.0", threshold=4.0 + number))
            self._files.append(path)
        self._verified = {bundles.open_bundle(path).sha256 for path in self._files}
        self._took_s: dict[str, float] = {}
        self.store.install(self._files[0])
        self._publisher = Publisher(folder / "publisher")
        gateway = Gateway(folder, self._publisher)
        settings = {"repository": str(self._publisher.repo), "root": str(gateway.root)}
        self._config = write_config(folder, "mqtt://nobody", updates=settings, trial=False)
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []

    @property
    def count(self) -> int:
        """Commands that were killed before they had ended."""
        return sum(count for what, count in self.outcomes.items() if what.startswith("killed"))

    def once(self) -> None:
        """Start a command, kill it at some moment, and look at what is live."""
        name, command = self._command()
        took_s = self._took_s.get(name) or self._run_whole(name, command)
        at_s = took_s * (self._rng.random() if self._rng.random() < 0.5 else 0.5 + 0.5 * self._rng.random())
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(at_s)
            self.outcomes["ended before the kill"] += 1
            self._took_s[name] = min(took_s, at_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.outcomes[f"killed in {name}"] += 1
        self._look(f"{name}, killed after {at_s:.3f} s")

    def finish(self) -> None:
        """Every command still works on what was left."""
        for name in ("install", "rollback", "update"):
            self._run_whole(name, self._of(name))
            self._look(name)
        kept = sorted(path.name for path in self.store.record_file("fridge").parent.iterdir())
        record = self.store.record("fridge")
        named = {f"{entry.version}.vedette" for entry in (record.live, record.previous, record.candidate) if entry}
        if set(kept) != named | {"record.json"}:
            self.faults.append(f"left behind: {kept}")

    def _look(self, when: str) -> None:
        try:
            live = self.store.open_live("fridge")
        except VedetteError as error:
            self.faults.append(f"{when}: {error}")
            return
        if live.bundle.sha256 not in self._verified:
            self.faults.append(f"{when}: {live.bundle.manifest.version} is live and was never verified")

    def _command(self) -> tuple[str, list[str]]:
        name = self._rng.choice(["install", "update", "activate", "rollback"])
        return name, self._of(name)

    def _of(self, name: str) -> list[str]:
        record = self.store.record("fridge")
        model = [self._python, "-m", "vedette", "model", name, "--state-dir", str(self._folder / "state")]
        if name == "activate" and record.previous:
            return [*model, "fridge", record.previous.version]
        if name == "rollback" and record.previous and not record.refusal_of(record.previous.sha256):
            return [*model, "fridge"]
        live = record.live.version if record.live else ""
        other = self._rng.choice([path for path in self._files if live not in path.name])
        if name == "update":
            self._publisher.publish(other.read_bytes(), now=datetime.now(UTC))
            return [*model[:4], "update", "-c", str(self._config)]
        return [*model[:4], "install", *model[5:], str(other)]

    def _run_whole(self, name: str, command: list[str]) -> float:
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        self._took_s[name] = time.monotonic() - began
        if done.returncode:
            self.faults.append(f"{name} to its end: {done.stderr.strip()}")
        return self._took_s[name]


def measure(folder: Path, *, quick: bool) -> tuple[list[Row], str]:
    """Kill 500 commands, or 8."""
    rows = kill(folder, 8 if quick else 500, seed=1, python=machine.gateway_python())
    return rows, "\n".join(f"{row.value:8.0f}  {row.name}" for row in rows)


def kill(folder: Path, count: int, seed: int, python: str) -> list[Row]:
    """Kill `count` commands."""
    kills = Kills(folder, python, seed)
    with tqdm(total=count, desc="kill -9", disable=None, leave=False) as bar:
        while kills.count < count:
            kills.once()
            bar.update(kills.count - bar.n)
    kills.finish()
    for fault in kills.faults:
        print(f"after kill -9: {fault}", file=sys.stderr)
    return [
        Row(name=f"kill -9 of {count} commands: live not verified", value=len(kills.faults), unit="times", bar=0, better="lower", runs=1),
        *(Row(name=f"kill -9: {what}", value=n, unit="times", runs=1) for what, n in sorted(kills.outcomes.items())),
    ]  # fmt: skip
