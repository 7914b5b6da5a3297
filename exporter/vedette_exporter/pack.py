"""Packing: a run becomes a bundle.

Rules this module keeps: the parity gate stands before the writer; the bytes depend on the run and the name and version
given, nothing else: no clock, and all chance is seeded by the run.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import numpy as np

from vedette.contract import bundle
from vedette.contract.features import Rows
from vedette.contract.manifest import Manifest
from vedette.contract.scores import Feed, Scorer, Scores, Stage
from vedette_exporter import card, golden, parity, routes, variants
from vedette_exporter.choice import Choice
from vedette_exporter.parity import Pair, Parity, Recorder
from vedette_exporter.recalibrate import recalibrated
from vedette_exporter.routes import Chosen, Route, Tried
from vedette_exporter.variants import Variant
from vedette_training import run as runs
from vedette_training.detectors.lstm_autoencoder import FEATURE_ERROR
from vedette_training.models import Model
from vedette_training.run import Holdout, Run, RunStage


class Packed(NamedTuple):
    """A bundle.

    Attributes:
        data: Its bytes.
        manifest: In it.
        parity: What the gate measured.
        routes: By stage, those that its model was converted by.
        variants: What is in it, and first, where that is a narrower variant, what float32 would have come to.
    """

    data: bytes
    manifest: Manifest
    parity: Parity
    routes: Mapping[str, tuple[Tried, ...]]
    variants: tuple[Variant, ...]


class _Given(NamedTuple):
    """A run as it was read, and the windows that the gate looks at, the held-out ones first."""

    run: Run
    holdout: Holdout
    models: Sequence[Model]
    windows: Rows


class _Proved(NamedTuple):
    """Models that passed the gate, in the order of their stages, and their scores."""

    chosen: Sequence[Chosen]
    pair: Pair
    parity: Parity
    scores: Scores
    variant: Variant

    @property
    def stages(self) -> tuple[Stage, ...]:
        """As they will be in the bundle."""
        return self.pair.exported_stages or self.pair.stages

    @property
    def tried(self) -> dict[str, tuple[Tried, ...]]:
        """Routes by stage."""
        return {stage.name: one.tried for stage, one in zip(self.stages, self.chosen, strict=True)}

    @property
    def files(self) -> dict[str, bytes]:
        """Model files by name."""
        return {stage.file: one.model for stage, one in zip(self.stages, self.chosen, strict=True)}


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
    variants.check_form(run.stages, models, choice.precision)
    proved = _prove(given, choice._replace(precision="float32"))
    made = [proved.variant]
    if choice.precision != "float32":
        # By the same routes: two variants that were converted otherwise would differ by more than their weights.
        proved = _prove(given, choice, {name: next(one.route for one in tried if one.is_taken) for name, tried in proved.tried.items()})
        made.append(proved.variant)
        variants.check(*made)

    picked = golden.choose(proved.pair, windows, proved.scores, rng)
    name, version = name or run.recipe.name, version or run.recipe.version
    text = card.render(run, name, version, proved.stages, proved.parity, proved.tried, made)
    files = bundle.with_golden({**proved.files, card.FILE: text.encode()}, windows[picked], proved.scores[picked])
    manifest = Manifest(
        name=name,
        version=version,
        created=run.created,
        detector=run.recipe.detector.kind,
        features=run.features,
        window=run.recipe.window,
        stages=proved.stages,
        combine=run.combine,
        calibration=proved.pair.exported_calibration if proved.pair.exported_stages else run.calibration,
        trained_on=run.trained_on,
        metrics=run.metrics,
        libraries={**run.libraries, **_versions(models, proved.stages)},
        files=bundle.entries(files),
    )
    return Packed(bundle.write(manifest, files), manifest, proved.parity, proved.tried, tuple(made))


def _prove(given: _Given, choice: Choice, like: Mapping[str, str] = MappingProxyType({})) -> _Proved:
    """Convert a run's models, recalibrate them where they are narrower, and take them through the gate.

    Args:
        given: The run.
        choice: How they are converted.
        like: By stage, the route that is taken unless it is refused; the quickest otherwise.

    Raises:
        BundleError: they do not survive conversion.
    """
    run, holdout, models, windows = given
    described = [_with_feature_error(stage_of(one, choice), model, windows) for one, model in zip(run.stages, models, strict=True)]
    stages = variants.narrowed(described, models, choice.precision)
    chosen = _convert(given, stages, choice, like)
    exported = [one.runtime for one in chosen]
    pair = Pair(stages, run.combine, run.calibration, models, exported)
    if choice.precision != "float32":
        pair = recalibrated(pair, holdout.raw, parity.raw_scores(pair.scorer(exported), holdout.windows))
    measured, scores = parity.check(pair, windows, holdout.raw)
    variant = Variant(
        precision=choice.precision,
        model_bytes=sum(len(one.model) for one in chosen),
        average_precision=variants.average_precision(scores, holdout.anomalous),
        scorer=pair.scorer(exported),
    )
    return _Proved(chosen, pair, measured, scores, variant)


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


def _with_feature_error(stage: Stage, model: Model, windows: Rows) -> Stage:
    """The stage, told which output says what of a window was given back badly, if its model has one."""
    if stage.input != "window" or FEATURE_ERROR not in model.run(windows[:1]):
        return stage
    return msgspec.structs.replace(stage, feature_error=FEATURE_ERROR)


_SUFFIXES = {"litert": "tflite", "onnx": "onnx"}


def _convert(given: _Given, stages: Sequence[Stage], choice: Choice, like: Mapping[str, str]) -> list[Chosen]:
    """The stages' converted models, each compared on what it is given when the windows go through the originals."""
    recorders = [Recorder(model) for model in given.models]
    Scorer(stages, recorders, given.run.combine, given.run.calibration).raw(given.windows)
    feeding = {stage.input.stage for stage in stages if isinstance(stage.input, Feed)}
    chosen = []
    for stage, model, recorder in zip(stages, given.models, recorders, strict=True):
        found = _routes(model, recorder.inputs.shape[1], choice._replace(precision=stage.precision))
        found.sort(key=lambda route: route.name != like.get(stage.name))
        feeds = stage.name in feeding
        chosen.append(routes.choose(stage, found, recorder, feeds=feeds, max_bytes=choice.max_bytes, first=stage.name in like))
    return chosen


def _routes(model: Model, width: int, choice: Choice) -> list[Route]:
    """Every way to convert a model that there is, the preferred one first."""
    original, precision = model.original, choice.precision
    if model.suffix == ".skops":
        from vedette_exporter import sklearn_onnx

        return [Route("skl2onnx", lambda: sklearn_onnx.convert(original, width, precision))]
    if choice.runtime == "onnx":
        from vedette_exporter import keras_onnx

        return [Route("tf2onnx", lambda: keras_onnx.convert(original, precision))]
    from vedette_exporter import keras_tflite

    return [
        Route("unrolled", lambda: keras_tflite.convert_unrolled(original, precision)),
        Route("loops", lambda: keras_tflite.convert_loops(original, precision)),
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
