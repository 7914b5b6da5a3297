"""Packing: a run becomes a bundle.

Rules this module keeps: the parity gate stands before the writer; the bytes depend on the run and the name and version
given, nothing else: no clock, and all chance is seeded by the run.
"""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vedette import runtimes
from vedette.contract import bundle
from vedette.contract.manifest import Manifest
from vedette.contract.scores import Scorer, Scores, Stage
from vedette_exporter import parity
from vedette_exporter.parity import Parity
from vedette_training import run as runs
from vedette_training.detectors import Fitted
from vedette_training.recipe import Lstm
from vedette_training.run import Run

GOLDEN_WINDOWS = 32


class Packed(NamedTuple):
    """A bundle's bytes, its manifest, and what the parity gate measured."""

    data: bytes
    manifest: Manifest
    parity: Parity


def pack(folder: Path, name: str | None, version: str | None) -> Packed:
    """Convert, check and pack the run in `folder`. None takes name and version from the recipe.

    Raises:
        BundleError: the run cannot be read, or its model does not survive conversion unchanged.
    """
    run, holdout = runs.read(folder)
    model = runs.load_model(folder, run)
    stage, converted, libraries = _convert(model, run, holdout.windows.shape[1:])
    scorer = Scorer([stage], [runtimes.load(stage, converted)], "all")

    rng = np.random.default_rng(run.recipe.seed)
    others = np.concatenate(
        [
            parity.enough_windows(holdout.windows, rng)[len(holdout.windows) :],
            parity.extremes(run.features, holdout.windows.shape[1:], rng),
        ]
    )
    # Held-out windows are compared with what the model gave when it was trained: a model that changed since is found as
    # well.
    windows = np.concatenate([holdout.windows, others])
    original = np.concatenate([holdout.raw, model.raw(others)])
    measured, scores = parity.check(windows, original, stage.calibration, scorer)

    golden = _choose_golden(scores)
    files = bundle.with_golden({stage.file: converted}, windows[golden], scores[golden])
    manifest = Manifest(
        name=name or run.recipe.name,
        version=version or run.recipe.version,
        created=run.created,
        detector=stage.name,
        features=run.features,
        window=run.recipe.window,
        stages=(stage,),
        trained_on=run.trained_on,
        metrics=run.metrics,
        libraries={**run.libraries, **libraries},
        files=bundle.entries(files),
    )
    return Packed(bundle.write(manifest, files), manifest, measured)


def _convert(model: Fitted, run: Run, shape: tuple[int, ...]) -> tuple[Stage, bytes, Mapping[str, str]]:
    """The stage, its file, and the versions of what converted it."""
    calibration = run.calibration
    if isinstance(run.recipe.detector, Lstm):
        from vedette_exporter import keras_tflite

        stage = Stage(
            name="lstm",
            runtime="litert",
            file="model.tflite",
            input="window",
            output="probability",
            calibration=calibration,
        )
        return stage, keras_tflite.convert(model.original, stage.output), _versions("ai-edge-litert")
    from vedette_exporter import sklearn_onnx

    stage = Stage(
        name="isolation_forest",
        runtime="onnx",
        file="model.onnx",
        input="flat",
        output="score_samples",
        calibration=calibration,
    )
    converted = sklearn_onnx.convert(model.original, int(np.prod(shape)))
    return stage, converted, _versions("skl2onnx", "onnx", "onnxruntime")


def _choose_golden(scores: Scores) -> list[int]:
    """Positions spread evenly over the range of scores, the lowest and the highest among them."""
    order = np.argsort(scores, kind="stable")
    places = np.linspace(0, len(order) - 1, min(GOLDEN_WINDOWS, len(order)))
    return sorted({int(order[round(place)]) for place in places})


def _versions(*distributions: str) -> dict[str, str]:
    return {name: metadata.version(name) for name in distributions}
