"""Packing: a run becomes a bundle.

Rules this module keeps: the parity gate stands before the writer; the bytes depend on the run and the name and version
given, nothing else: no clock, and all chance is seeded by the run.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vedette.contract import bundle
from vedette.contract.features import Rows
from vedette.contract.manifest import Manifest
from vedette.contract.scores import Feed, Scorer, Stage
from vedette_exporter import card, golden, parity, routes
from vedette_exporter.choice import Choice
from vedette_exporter.parity import Pair, Parity, Recorder
from vedette_exporter.routes import Chosen, Route, Tried
from vedette_training import run as runs
from vedette_training.models import Model
from vedette_training.run import Run, RunStage


class Packed(NamedTuple):
    """A bundle's bytes, its manifest, what the parity gate measured, and by stage the routes that its model was converted by."""

    data: bytes
    manifest: Manifest
    parity: Parity
    routes: Mapping[str, tuple[Tried, ...]]


def pack(folder: Path, name: str | None, version: str | None, choice: Choice = Choice()) -> Packed:
    """Convert, check and pack the run in `folder`. None takes name and version from the recipe.

    Args:
        folder: Of the run.
        name: The bundle's.
        version: The bundle's.
        choice: How its models are converted.

    Raises:
        BundleError: the run cannot be read, or its models do not survive conversion unchanged.
    """
    run, holdout = runs.read(folder)
    models = runs.load_models(folder, run)
    rng = np.random.default_rng(run.recipe.seed)
    windows = np.concatenate([parity.enough_windows(holdout.windows, rng), parity.extremes(run.features, holdout.windows.shape[1:], rng)])
    stages = tuple(stage_of(described, choice) for described in run.stages)
    chosen = _convert(run, stages, models, windows, choice)
    tried = {stage.name: one.tried for stage, one in zip(stages, chosen, strict=True)}
    pair = Pair(stages, run.combine, run.calibration, models, [one.runtime for one in chosen])
    measured, scores = parity.check(pair, windows, holdout.raw)

    picked = golden.choose(pair, windows, scores, rng)
    name, version = name or run.recipe.name, version or run.recipe.version
    text = card.render(run, name, version, stages, measured, tried)
    models_by_file = {stage.file: one.model for stage, one in zip(stages, chosen, strict=True)}
    files = bundle.with_golden({**models_by_file, card.FILE: text.encode()}, windows[picked], scores[picked])
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
        libraries={**run.libraries, **_versions(models, stages)},
        files=bundle.entries(files),
    )
    return Packed(bundle.write(manifest, files), manifest, measured, tried)


def stage_of(described: RunStage, choice: Choice = Choice()) -> Stage:
    """A run's stage as the contract's."""
    runtime = choice.runtime if described.file.endswith(".keras") else "onnx"
    return Stage(
        name=described.name,
        runtime=runtime,
        file=f"{described.name}.{_SUFFIXES[runtime]}",
        input=described.input,
        output=described.output,
        calibration=described.calibration,
        smoothing=described.smoothing,
    )


_SUFFIXES = {"litert": "tflite", "onnx": "onnx"}


def _convert(run: Run, stages: Sequence[Stage], models: Sequence[Model], windows: Rows, choice: Choice) -> list[Chosen]:
    """The stages' converted models, each compared on what it is given when the windows go through the originals."""
    recorders = [Recorder(model) for model in models]
    Scorer(stages, recorders, run.combine, run.calibration).raw(windows)
    feeding = {stage.input.stage for stage in stages if isinstance(stage.input, Feed)}
    return [
        routes.choose(
            stage, _routes(model, recorder.inputs.shape[1], choice), recorder, feeds=stage.name in feeding, max_bytes=choice.max_bytes
        )
        for stage, model, recorder in zip(stages, models, recorders, strict=True)
    ]


def _routes(model: Model, width: int, choice: Choice) -> list[Route]:
    """Every way to convert a model that there is, the preferred one first."""
    original = model.original
    if model.suffix == ".skops":
        from vedette_exporter import sklearn_onnx

        return [Route("skl2onnx", lambda: sklearn_onnx.convert(original, width))]
    if choice.runtime == "onnx":
        from vedette_exporter import keras_onnx

        return [Route("tf2onnx", lambda: keras_onnx.convert(original))]
    from vedette_exporter import keras_tflite

    return [
        Route("unrolled", lambda: keras_tflite.convert_unrolled(original)),
        Route("loops", lambda: keras_tflite.convert_loops(original)),
    ]


def _versions(models: Sequence[Model], stages: Sequence[Stage]) -> dict[str, str]:
    """Of what converted the models and ran the result."""
    used = {
        (".keras", "litert"): ("ai-edge-litert",),
        (".keras", "onnx"): ("tf2onnx", "onnx", "onnxruntime"),
        (".skops", "onnx"): ("skl2onnx", "onnx", "onnxruntime"),
    }
    pairs = zip(models, stages, strict=True)
    return {name: metadata.version(name) for model, stage in pairs for name in used[model.suffix, stage.runtime]}
