"""`vedette train`."""

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vedette.contract.errors import ConfigError, VedetteError
from vedette.contract.manifest import TrainedOn

if TYPE_CHECKING:
    from vedette_training.detectors import Fitted, Workshop
    from vedette_training.recipe import Recipe


def train(arguments: Sequence[str]) -> int:
    """Train a detector on recorded telemetry.

    Args:
        arguments: The command line after `vedette train`.

    Returns:
        The exit code, 0.

    Raises:
        VedetteError: the recipe, the history or the installation is at fault.
    """
    parser = argparse.ArgumentParser(prog="vedette train", description="Train a detector on recorded telemetry.")
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's path, or the name of a shipped one")
    parser.add_argument(
        "--history", metavar="FILE", nargs="+", help="CSV, Parquet, JSON or JSON lines to learn from, instead of what the recipe names"
    )
    parser.add_argument("-o", "--output", metavar="RUN", type=Path, help="the folder to write (default: NAME.run)")
    parser.add_argument("--seed", type=int, help="of training, instead of the recipe's; the split keeps its own")
    parser.add_argument("--resume", action="store_true", help="go on with a training of the same recipe and history that was cut off")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    try:
        return _train(options)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"vedette", "vedette_training"}:
            raise
        raise VedetteError(f"training needs {error.name}, which is not installed: pip install 'vedette[train]'") from error


def _train(options: argparse.Namespace) -> int:
    from vedette_training import audit, dataset, evaluate, fitting, history, recipe, run

    asked = recipe.load(options.recipe)
    if options.seed is not None:
        if not 0 <= options.seed < 2**32:
            raise ConfigError(f"--seed: expected 0 to {2**32 - 1}, got {options.seed}")
        asked = msgspec.structs.replace(asked, seed=options.seed)
    output: Path = options.output or Path(f"{asked.name}.run")
    folder = Path() if options.history else recipe.find(options.recipe).parent
    run.check_folder(output)

    started = time.monotonic()
    read = history.read(asked, history.find_files(options.history or asked.history.files, folder))
    _say(f"{len(read.times)} readings of {len(set(read.devices))} devices in {time.monotonic() - started:.1f} s")
    parts = dataset.divide(read, asked.split)
    findings = audit.audit(read, asked, parts)
    _say(audit.table(findings))
    data = dataset.build(read, asked)
    counts = {"train": len(data.train.windows), "calibrate": len(data.calibrate.windows), "test": len(data.test.windows)}
    _say("windows: " + ", ".join(f"{count} to {name}" for name, count in counts.items()))

    started = time.monotonic()
    trained_on = TrainedOn(
        recipe=hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest(),
        sources=read.sources,
        windows=len(data.train.windows),
        first=data.first,
        last=data.last,
    )
    workshop = _workshop(output, asked, trained_on, resume=options.resume)
    trained = fitting.fit(read, asked, data, workshop)
    training_s = time.monotonic() - started
    _say(f"trained in {training_s:.1f} s{_learnt(trained.fitted)}")

    metrics = evaluate.measure(trained.scores, data.test.anomalous)
    finished = run.Run(
        created=int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()),
        recipe=asked,
        features=data.features,
        stages=trained.stages,
        combine=trained.fitted.combine,
        calibration=trained.calibration,
        tail=trained.tail,
        curves=trained.fitted.curves,
        findings=findings,
        windows=counts,
        metrics=metrics,
        trained_on=trained_on,
        libraries=_versions(("numpy", *sorted({name for stage in trained.fitted.stages for name in stage.model.libraries}))),
    )
    run.write(output, finished, trained.fitted, trained.holdout, run.Labelled.of(read, parts["test"]))
    if workshop.checkpoints:
        shutil.rmtree(workshop.checkpoints, ignore_errors=True)
    if options.json:
        print(
            json.dumps(
                {
                    "run": str(output),
                    "training_s": round(training_s, 3),
                    "metrics": metrics,
                    "findings": msgspec.to_builtins(findings),
                }
            )
        )
    else:
        print("\n".join(filter(None, [audit.headline(findings), evaluate.table(metrics)])))
        print(f"\n{output}: judge it with: vedette evaluate {output}\n{' ' * len(str(output))}  export it with: vedette export {output}")
    return 0


def _workshop(output: Path, recipe: "Recipe", trained_on: TrainedOn, *, resume: bool) -> "Workshop":
    """Seed, and a folder beside the run for what training has reached: of this recipe and history, or none."""
    from vedette_training.detectors import Workshop

    folder = output.parent / f".{output.name}.checkpoints"
    mark = folder / "training"
    this = hashlib.sha256(msgspec.json.encode(trained_on, order="deterministic")).hexdigest()
    if resume and not mark.is_file():
        _say(f"nothing to resume: no training to {output} was cut off; starting at the beginning")
    elif resume and mark.read_text() != this:
        raise ConfigError(f"--resume: what was cut off at {output} had another recipe or history; leave --resume away to start afresh")
    if not resume or not mark.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.write_text(this)
    return Workshop(recipe.seed, folder)


def _learnt(fitted: "Fitted") -> str:
    """What the learning curves come to."""
    lines = []
    for name, curve in fitted.curves.items():
        line = f"\n{name}: {len(curve.loss)} epochs, {curve.windows_per_s:.0f} windows/s, loss {curve.loss[-1]:.4f}"
        if curve.validation_loss and curve.baseline:
            line += f", validation {min(curve.validation_loss):.4f} (of a model that knows only the mean: {curve.baseline:.4f})"
        lines.append(line)
    return "".join(lines)


def _say(text: str) -> None:
    """Tell a person what goes on; standard output is for the result."""
    print(text, file=sys.stderr)


def _versions(distributions: Sequence[str]) -> dict[str, str]:
    """Installed versions; of names for one library (tensorflow-cpu, tensorflow) those that are there."""
    versions = {"python": platform.python_version()}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
