"""`vedette train`."""

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from vedette.contract.errors import VedetteError
from vedette.contract.manifest import TrainedOn
from vedette_training import recipe as recipes
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
    parser.add_argument("--history", metavar="FILE", nargs="+", help="tables to learn from, instead of those that the recipe names")
    parser.add_argument("-o", "--output", metavar="RUN", type=Path, help="the folder to write (default: NAME.run)")
    parser.add_argument("--seed", type=int, help="of training, instead of the recipe's; the split keeps its own")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    recipe = recipes.load(options.recipe)
    if options.seed is not None:
        recipe = msgspec.structs.replace(recipe, seed=options.seed)
    folder = Path() if options.history else recipes.find(options.recipe).parent
    output = options.output or Path(f"{recipe.name}.run")
    try:
        return _train(recipe, options.history or recipe.history.files, folder, output, as_json=options.json)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"vedette", "vedette_training"}:
            raise
        raise VedetteError(f"training needs {error.name}, which is not installed: pip install 'vedette[train]'") from error


def _train(recipe: Recipe, patterns: Sequence[str], folder: Path, output: Path, *, as_json: bool) -> int:
    import numpy as np

    from vedette_training import calibrate, dataset, detectors, evaluate, history, run

    run.check_folder(output)
    started = time.monotonic()
    read = history.read(recipe, history.find_files(patterns, folder))
    data = dataset.build(read, recipe)
    _say(f"{len(read.times)} readings of {len(set(read.devices))} devices in {time.monotonic() - started:.1f} s")
    _say(f"windows: {len(data.train.windows)} to train, {len(data.calibrate.windows)} to calibrate, {len(data.test.windows)} to test")

    started = time.monotonic()
    detector = detectors.find(recipe.detector)
    model = detector.fit(data.train, recipe.seed)
    training_s = time.monotonic() - started
    _say(f"trained in {training_s:.1f} s")

    held_out = [run.Holdout(part.windows, model.raw(part.windows), part.anomalous) for part in (data.calibrate, data.test)]
    calibrated, tested = held_out
    calibration = calibrate.fit(calibrated.raw[~calibrated.anomalous], recipe.threshold, higher_is_stranger=model.higher_is_stranger)
    metrics = evaluate.measure(calibration.apply(tested.raw).astype(np.float32), tested.anomalous)
    finished = run.Run(
        created=int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()),
        recipe=recipe,
        features=data.features,
        calibration=calibration,
        metrics=metrics,
        trained_on=TrainedOn(
            recipe=hashlib.sha256(msgspec.json.encode(recipe, order="deterministic")).hexdigest(),
            sources=read.sources,
            windows=len(data.train.windows),
            first=data.first,
            last=data.last,
        ),
        libraries=_versions(("numpy", *detector.libraries)),
    )
    holdout = run.Holdout(*(np.concatenate(arrays) for arrays in zip(*held_out, strict=True)))
    run.write(output, finished, model, run.sample(holdout, np.random.default_rng(recipe.seed)))
    if as_json:
        print(json.dumps({"run": str(output), "training_s": round(training_s, 3), "metrics": metrics}))
    else:
        print(evaluate.table(metrics))
        print(f"\n{output}: export it with: vedette export {output}")
    return 0


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
