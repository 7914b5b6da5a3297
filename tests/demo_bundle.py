"""Make the demo's bundle from its recipe: simulate history, train, export. `make demo-bundle` puts it where it ships."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from vedette.contract.bundle import open_bundle
from vedette.contract.manifest import Manifest
from vedette.demo.command import BUNDLE
from vedette.store import Store

RECIPE = "cold-chain-lstm"
HISTORY = ["cold-chain", "--devices", "100", "--duration", "4d", "--fault-rate", "1", "--seed", "11"]
CREATED = "1795219200"  # 2026-11-21: a date of its own would make every build another file


def simulate(folder: Path) -> Path:
    """The history that the demo's model learns from."""
    path = folder / "history.csv"
    _vedette("simulate", *HISTORY, "-o", str(path))
    return path


def build(folder: Path) -> Path:
    """The bundle, made anew in `folder`."""
    _vedette("train", RECIPE, "--history", str(simulate(folder)), "-o", str(folder / "run"))
    path = folder / BUNDLE.name
    _vedette("export", str(folder / "run"), "-o", str(path), "--name", "cold-chain")
    return path


def describe(manifest: Manifest) -> str:
    """What went in and came out, on a few lines."""
    metrics = "".join(f"  {name:20} {value:.4g}\n" for name, value in manifest.metrics.items())
    return f"{manifest.name} {manifest.version}, {manifest.trained_on.windows} windows\n{metrics}"


def _vedette(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "vedette", *arguments], check=True, env={**os.environ, "SOURCE_DATE_EPOCH": CREATED})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = build(Path(scratch))
        Store(Path(scratch) / "state").install(made)
        BUNDLE.write_bytes(made.read_bytes())
    sys.stdout.write(f"{describe(open_bundle(BUNDLE).manifest)}{BUNDLE}\n")
