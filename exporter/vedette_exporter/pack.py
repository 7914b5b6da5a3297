"""Packing: a run becomes a bundle.

Rules this module keeps: the parity gate stands before the writer; the bytes depend on the run and the name and version
given, nothing else: no clock, and all chance is seeded by the run.
"""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vedette import runtimes
from vedette.contract import bundle
from vedette.contract.features import Rows
from vedette.contract.manifest import Manifest
from vedette.contract.scores import Scorer, Stage
from vedette_exporter import card, golden, parity
from vedette_exporter.parity import Pair, Parity, Recorder
from vedette_training import run as runs
from vedette_training.models import Model
from vedette_training.run import Run, RunStage


class Packed(NamedTuple):
    """A bundle's bytes, its manifest, and what the parity gate measured."""

    data: bytes
    manifest: Manifest
    parity: Parity


def pack(folder: Path, name: str | None, version: str | None) -> Packed:
    """Convert, check and pack the run in `folder`. None takes name and version from the recipe.

    Raises:
        BundleError: the run cannot be read, or its models do not survive conversion unchanged.
    """
    run, holdout = runs.read(folder)
    models = runs.load_models(folder, run)
    rng = np.random.default_rng(run.recipe.seed)
    windows = np.concatenate([parity.enough_windows(holdout.windows, rng), parity.extremes(run.features, holdout.windows.shape[1:], rng)])
    stages = tuple(stage_of(described) for described in run.stages)
    converted = _convert(run, stages, models, windows[:2])
    exported = [runtimes.load(stage, converted[stage.file]) for stage in stages]
    pair = Pair(stages, run.combine, run.calibration, models, exported)
    measured, scores = parity.check(pair, windows, holdout.raw)

    chosen = golden.choose(pair, windows, scores, rng)
    name, version = name or run.recipe.name, version or run.recipe.version
    text = card.render(run, name, version, stages, measured)
    files = bundle.with_golden({**converted, card.FILE: text.encode()}, windows[chosen], scores[chosen])
    manifest = Manifest(
        name=name,
        version=version,
        created=run.created,
        detector=run.recipe.detector.kind,
        features=run.features,
        window=run.recipe.window,
        stages=stages,
        combine=run.combine,
        calibration=run.calibration,
        trained_on=run.trained_on,
        metrics=run.metrics,
        libraries={**run.libraries, **_versions(stages)},
        files=bundle.entries(files),
    )
    return Packed(bundle.write(manifest, files), manifest, measured)


def stage_of(described: RunStage) -> Stage:
    """A run's stage as the contract's."""
    is_keras = described.file.endswith(".keras")
    return Stage(
        name=described.name,
        runtime="litert" if is_keras else "onnx",
        file=f"{described.name}.tflite" if is_keras else f"{described.name}.onnx",
        input=described.input,
        output=described.output,
        calibration=described.calibration,
        smoothing=described.smoothing,
    )


def _convert(run: Run, stages: Sequence[Stage], models: Sequence[Model], some: Rows) -> dict[str, bytes]:
    """The stages' files by name.

    Args:
        run: Whose models they are.
        stages: As they will be in the bundle.
        models: The originals.
        some: Windows; how wide a stage's input is shows when they go through.
    """
    recorders = [Recorder(model) for model in models]
    Scorer(stages, recorders, run.combine, run.calibration).raw(some)
    converted = {}
    for stage, model, recorder in zip(stages, models, recorders, strict=True):
        if stage.runtime == "litert":
            from vedette_exporter import keras_tflite

            converted[stage.file] = keras_tflite.convert(model.original)
        else:
            from vedette_exporter import sklearn_onnx

            converted[stage.file] = sklearn_onnx.convert(model.original, recorder.inputs.shape[1])
    return converted


def _versions(stages: Sequence[Stage]) -> dict[str, str]:
    """Of what converted the models and ran the result."""
    used = {"litert": ("ai-edge-litert",), "onnx": ("skl2onnx", "onnx", "onnxruntime")}
    return {name: metadata.version(name) for stage in stages for name in used[stage.runtime]}
