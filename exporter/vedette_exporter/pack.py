"""Packing: a run becomes a bundle.

Rules this module keeps: the parity gate stands before the writer; the bytes depend on the run and the name and version
given, nothing else: no clock, and all chance is seeded by the run.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vedette import runtimes
from vedette.contract import bundle
from vedette.contract.features import Rows
from vedette.contract.manifest import Manifest
from vedette.contract.scores import Scorer, Scores, Stage
from vedette_exporter import card, golden, parity
from vedette_exporter.choice import Candidate, Choice
from vedette_exporter.parity import Pair, Parity, Recorder
from vedette_exporter.recalibrate import recalibrated
from vedette_exporter.variants import Variant, average_precision, check, narrowed
from vedette_training import run as runs
from vedette_training.models import Model
from vedette_training.run import Holdout, Run, RunStage


class Packed(NamedTuple):
    """A bundle.

    Attributes:
        data: Its bytes.
        manifest: In it.
        parity: What the gate measured.
        variants: What is in it, and first, where that is a narrower variant, what float32 would have come to.
    """

    data: bytes
    manifest: Manifest
    parity: Parity
    variants: tuple[Variant, ...]


class _Proved(NamedTuple):
    """Models that passed the gate, and the exported ones' scores."""

    files: Mapping[str, bytes]
    pair: Pair
    parity: Parity
    scores: Scores
    variant: Variant


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
    given = _Given(run, holdout, models, windows)
    proved = _prove(given, choice)
    variants: tuple[Variant, ...] = (proved.variant,)
    if choice.precision != "float32":
        exact = _prove(given, choice._replace(precision="float32"))
        check(exact.variant, proved.variant)
        variants = (exact.variant, proved.variant)

    stages = proved.pair.exported_stages or proved.pair.stages
    chosen = golden.choose(proved.pair, windows, proved.scores, rng)
    name, version = name or run.recipe.name, version or run.recipe.version
    text = card.render(run, name, version, stages, proved.parity, variants)
    files = bundle.with_golden({**proved.files, card.FILE: text.encode()}, windows[chosen], proved.scores[chosen])
    manifest = Manifest(
        name=name,
        version=version,
        created=run.created,
        detector=run.recipe.detector.kind,
        features=run.features,
        window=run.recipe.window,
        stages=stages,
        combine=run.combine,
        calibration=proved.pair.exported_calibration if proved.pair.exported_stages else run.calibration,
        trained_on=run.trained_on,
        metrics=run.metrics,
        libraries={**run.libraries, **_versions(models, stages)},
        files=bundle.entries(files),
    )
    return Packed(bundle.write(manifest, files), manifest, proved.parity, variants)


class _Given(NamedTuple):
    """A run as it was read, and the windows that the gate looks at, the held-out ones first."""

    run: Run
    holdout: Holdout
    models: Sequence[Model]
    windows: Rows


def _prove(given: _Given, choice: Choice) -> _Proved:
    """Convert a run's models, recalibrate them where they are narrower, and take them through the gate.

    Raises:
        BundleError: they have no such form, or do not survive conversion.
    """
    run, holdout, models, windows = given
    stages = narrowed([stage_of(described, choice) for described in run.stages], models, choice.precision)
    converted = _convert(run, stages, models, windows[:2], choice)
    exported = [runtimes.load(stage, converted[stage.file]) for stage in stages]
    pair = Pair(stages, run.combine, run.calibration, models, exported)
    if choice.precision != "float32":
        pair = recalibrated(pair, holdout.raw, parity.raw_scores(pair.scorer(exported), holdout.windows))
    measured, scores = parity.check(pair, windows, holdout.raw)
    variant = Variant(
        choice.precision, sum(map(len, converted.values())), average_precision(scores, holdout.anomalous), pair.scorer(exported)
    )
    return _Proved(converted, pair, measured, scores, variant)


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


def _convert(run: Run, stages: Sequence[Stage], models: Sequence[Model], some: Rows, choice: Choice) -> dict[str, bytes]:
    """The stages' files by name.

    Args:
        run: Whose models they are.
        stages: As they will be in the bundle.
        models: The originals.
        some: Windows; how wide a stage's input is shows when they go through.
        choice: How Keras models are converted.
    """
    recorders = [Recorder(model) for model in models]
    Scorer(stages, recorders, run.combine, run.calibration).raw(some)
    converted = {}
    for stage, model, recorder in zip(stages, models, recorders, strict=True):
        as_asked = choice._replace(precision=stage.precision)
        converted[stage.file] = _candidates(model, recorder.inputs, as_asked)[0].model
    return converted


def _candidates(model: Model, inputs: Rows, choice: Choice) -> list[Candidate]:
    """Every conversion of a model that there is, the preferred one first."""
    if model.suffix == ".skops":
        from vedette_exporter import sklearn_onnx

        return [Candidate("skl2onnx", sklearn_onnx.convert(model.original, inputs.shape[1], choice.precision), "onnx")]
    if choice.runtime == "onnx":
        from vedette_exporter import keras_onnx

        return [Candidate("tf2onnx", keras_onnx.convert(model.original, choice.precision), "onnx")]
    from vedette_exporter import keras_tflite

    return [Candidate("unrolled", keras_tflite.convert(model.original, choice.precision), "litert")]


def _versions(models: Sequence[Model], stages: Sequence[Stage]) -> dict[str, str]:
    """Of what converted the models and ran the result."""
    used = {
        (".keras", "litert"): ("ai-edge-litert",),
        (".keras", "onnx"): ("tf2onnx", "onnx", "onnxruntime"),
        (".skops", "onnx"): ("skl2onnx", "onnx", "onnxruntime"),
    }
    pairs = zip(models, stages, strict=True)
    return {name: metadata.version(name) for model, stage in pairs for name in used[model.suffix, stage.runtime]}
