"""One suite for every detector: what a gateway relies on when it is given a bundle."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from exports import AS_LOOPS, Exported, Exports
from vedette import runtimes
from vedette.contract import bundle as bundles
from vedette.contract.bundle import Bundle
from vedette.contract.errors import BundleError
from vedette.runtimes import load_scorer
from vedette_exporter.pack import Packed, pack
from vedette_training import run as runs

KINDS = (
    "lstm", "lstm_autoencoder", "lstm_autoencoder-deep", "lstm_autoencoder-steps", "isolation_forest",
    "isolation_forest-rotated", "one_class_svm", "dbscan", "pca", "hybrid-all", "hybrid-any", "hybrid-mean",
)  # fmt: skip
OTHERWISE = (
    "lstm to onnx", "lstm as loops", "lstm_autoencoder to onnx", "lstm_autoencoder as loops", "lstm_autoencoder-deep to onnx",
    "hybrid-mean to onnx",
)  # fmt: skip
SLOW = ("lstm_autoencoder-deep", "hybrid-mean", "lstm_autoencoder-deep to onnx", "hybrid-mean to onnx")
MakeRun = Callable[..., Path]


@pytest.fixture(scope="module", params=(*KINDS, *OTHERWISE))
def kind(request: pytest.FixtureRequest) -> str:
    """Each detector in turn, and Keras models as they are exported otherwise."""
    return str(request.param)


@pytest.fixture(scope="module")
def exported(kind: str, exports: Exports) -> Exported:
    """Its run and its bundle."""
    return exports(kind)


@pytest.fixture(scope="module")
def folder(exported: Exported) -> Path:
    """Its run."""
    return exported.folder


@pytest.fixture(scope="module")
def packed(exported: Exported) -> Packed:
    """What the run was exported to."""
    return exported.packed


@pytest.fixture(scope="module")
def bundle(packed: Packed) -> Bundle:
    """As a gateway opens it."""
    return bundles.read(packed.data)


def test_parity_is_measured_on_every_stage(packed: Packed, folder: Path) -> None:
    parity = packed.parity
    assert parity.windows >= 500
    assert list(parity.stages) == [stage.name for stage in runs.read(folder)[0].stages]
    assert max(parity.stages.values()) <= 1e-4
    assert parity.largest_difference <= (0.05 if parity.share_beyond else 1e-4)


def test_held_out_windows_score_as_the_original_scored_them(bundle: Bundle, folder: Path) -> None:
    run, holdout = runs.read(folder)
    original = runs.scorer(run.stages, runs.load_models(folder, run), run.combine, run.calibration)
    scores = load_scorer(bundle).score(holdout.windows)
    differ = ~np.isclose(scores, original.combine(holdout.raw), rtol=1e-4, atol=1e-4)
    assert differ.mean() <= (0.005 if "hybrid" in run.recipe.detector.kind else 0)


def test_gateway_takes_it(bundle: Bundle) -> None:
    bundles.self_test(bundle, load_scorer(bundle))
    assert len(bundle.golden_scores) == 32


def test_batch_of_any_size_gives_equal_bits(bundle: Bundle, folder: Path) -> None:
    windows = runs.read(folder)[1].windows[:60]
    whole = load_scorer(bundle).raw(windows)
    for sizes in ([1] * 60, [2] * 30, [7, 32, 1, 20]):
        scorer = load_scorer(bundle)
        parts = [scorer.raw(part) for part in np.split(windows, np.cumsum(sizes)[:-1])]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_models_are_of_built_in_operators_alone(bundle: Bundle) -> None:
    for stage in bundle.manifest.stages:
        if stage.runtime == "litert":
            model = schema.Model.GetRootAs(bundle.files[stage.file], 0)
            assert not any(model.OperatorCodes(number).CustomCode() for number in range(model.OperatorCodesLength()))


def test_model_takes_its_batch_as_it_was_exported(exported: Exported, bundle: Bundle, kind: str) -> None:
    for stage in bundle.manifest.stages:
        if stage.runtime == "litert":
            interpreter = Interpreter(model_content=bundle.files[stage.file])
            runners = [interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()]
            batches = [int(given["shape_signature"][0]) for runner in runners for given in runner.get_input_details().values()]
            (taken,) = (tried.route for tried in exported.packed.routes[stage.name] if tried.is_taken)
            assert taken == ("loops" if kind.endswith(AS_LOOPS) else "unrolled")
            assert sorted(batches) == ([1, 32] if taken == "loops" else [-1])


def test_bundle_says_what_the_run_said(bundle: Bundle, folder: Path, exported: Exported) -> None:
    manifest, run = bundle.manifest, runs.read(folder)[0]
    assert (manifest.name, manifest.version, manifest.created) == ("pump", "1.0.0", run.created)
    assert (manifest.detector, manifest.features, manifest.window) == (run.recipe.detector.kind, run.features, run.recipe.window)
    assert (manifest.combine, manifest.calibration) == (run.combine, run.calibration)
    assert (manifest.trained_on, manifest.metrics) == (run.trained_on, run.metrics)
    for stage, described in zip(manifest.stages, run.stages, strict=True):
        assert (stage.name, stage.input, stage.output) == (described.name, described.input, described.output)
        assert (stage.calibration, stage.smoothing) == (described.calibration, described.smoothing)
        assert stage.feature_error == ("feature_error" if stage.name.endswith("lstm_autoencoder") else None)
        assert stage.runtime == (exported.choice.runtime if described.file.endswith(".keras") else "onnx")
        assert Path(stage.file).suffix == {"litert": ".tflite", "onnx": ".onnx"}[stage.runtime]
    assert run.libraries.items() < manifest.libraries.items()


def test_model_card_travels_with_it(bundle: Bundle) -> None:
    card = bundle.files["model-card.md"].decode()
    assert card.startswith("# pump 1.0.0\n")
    assert all(stage.name in card for stage in bundle.manifest.stages)
    assert "model-card.md" not in [stage.file for stage in bundle.manifest.stages]


def test_equal_runs_give_equal_bytes(exported: Exported, kind: str) -> None:
    if kind in SLOW:
        pytest.skip(reason="others are the same code in a third of the time")
    assert pack(exported.folder, None, None, exported.choice).data == exported.packed.data


def test_model_of_another_training_is_refused(folder: Path, kind: str, make_run: MakeRun, tmp_path: Path) -> None:
    if kind in (*SLOW, *OTHERWISE, "hybrid-all"):
        pytest.skip(reason="others are the same code in a third of the time")
    other = make_run(kind, 2)
    run = runs.read(folder)[0]
    stage = next(stage for stage in run.stages if stage.calibration)
    tampered = shutil.copytree(folder, tmp_path / "tampered.run")
    shutil.copy(other / stage.file, tampered)
    with pytest.raises(BundleError, match=r"parity: .*\d+ of \d+ windows score differently .* no bundle was made"):
        pack(tampered, None, None)


def test_an_autoencoder_gives_the_same_whatever_sizes_of_batches_went_before(exports: Exports) -> None:
    """LiteRT gave wrong numbers for whole batches, now and then, after an interpreter was resized."""
    opened = bundles.read(exports("lstm_autoencoder").packed.data)
    (stage,) = opened.manifest.stages
    windows = np.concatenate([opened.golden_windows] * 20)[:600]
    single = runtimes.load(stage, opened.files[stage.file])
    expected = np.concatenate([single.run(windows[i : i + 1])[stage.output] for i in range(len(opened.golden_windows))])
    expected = np.concatenate([expected] * 20)[:600]
    rng = np.random.default_rng(0)
    for _ in range(10):
        runtime = runtimes.load(stage, opened.files[stage.file])
        for size in rng.integers(1, 600, 30).tolist():
            np.testing.assert_array_equal(runtime.run(windows[:size])[stage.output], expected[:size])
