import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vedette.contract import bundle as bundles
from vedette.contract.errors import BundleError
from vedette.runtimes import load_scorer
from vedette_exporter.command import export
from vedette_training import run as runs

MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def forest(make_run: MakeRun) -> Path:
    return make_run("isolation_forest")


def test_golden_windows_span_the_scores(forest: Path, tmp_path: Path) -> None:
    export([str(forest), "-o", str(tmp_path / "pump.vedette")])
    bundle = bundles.open_bundle(tmp_path / "pump.vedette")
    scores = load_scorer(bundle).score(runs.read(forest)[1].windows)
    assert len(bundle.golden_scores) == 32
    assert bundle.golden_scores.min() <= scores.min()
    assert bundle.golden_scores.max() >= scores.max()


def test_folder_gets_a_bundle_of_its_name_and_version(forest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export([str(forest), "-o", str(tmp_path), "--name", "booster", "--version", "2.1.0", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    path = tmp_path / "booster-2.1.0.vedette"
    bundle = bundles.open_bundle(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert (printed["bundle"], printed["bytes"], printed["sha256"]) == (str(path), path.stat().st_size, bundle.sha256)
    size = len(bundle.files["isolation_forest.onnx"])
    route = {"route": "skl2onnx", "bytes": size, "us_per_window": {}, "refused": None, "is_taken": True}
    stage = {"name": "isolation_forest", "file": "isolation_forest.onnx", "bytes": size, "runtime": "onnx", "precision": "float32"}
    assert printed["stages"] == [{**stage, "routes": [route]}]
    assert printed["parity"]["windows"] >= 500
    assert printed["parity"]["allowed"]["usual"] == 1e-4
    assert set(printed["us_per_window"]) == {"1", "32", "256"}
    assert bundle.files["model-card.md"].decode().startswith("# booster 2.1.0\n")


def test_person_sees_each_stage_with_its_size_and_runtime(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pump.vedette"
    assert export([str(make_run("hybrid-any")), "-o", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[::2] for line in lines if line.startswith("stage")] == [
        ["stage       lstm_autoencoder.tflite", "litert"],
        ["stage       1_one_class_svm.onnx", "onnx"],
        ["stage       2_pca.onnx", "onnx"],
    ]
    assert any("2_pca, given the same input: at most" in line for line in lines)
    assert any(line.startswith("speed") for line in lines)
    assert lines[-1] == str(path)


def test_a_variant_is_shown_beside_float32(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pump.vedette"
    assert export([str(make_run("pca")), "--precision", "int8", "-o", str(path)]) == 0
    out = capsys.readouterr().out
    assert "pca.onnx, " in out
    table = [line.split() for line in out.splitlines() if line.split()[:1] in (["float32"], ["int8"])]
    assert [row[0] for row in table] == ["float32", "int8"]
    assert all(len(row) == 7 for row in table)  # weights, size and its unit, average precision, three times
    assert export([str(make_run("pca")), "--precision", "int8", "-o", str(path), "--json"]) == 0
    exact, narrower = json.loads(capsys.readouterr().out)["variants"]
    assert (exact["precision"], narrower["precision"]) == ("float32", "int8")
    assert narrower["bytes"] < exact["bytes"]
    assert set(narrower["us_per_window"]) == set(exact["us_per_window"]) == {"1", "32", "256"}
    assert abs(narrower["average_precision"] - exact["average_precision"]) <= 0.01


def test_routes_are_measured_and_the_quickest_within_the_size_limit_is_taken(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(make_run("lstm_autoencoder-steps")), "-o", str(tmp_path), "--json"]
    assert export(command) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    unrolled, loops = stage["routes"]
    assert (unrolled["route"], unrolled["is_taken"], unrolled["bytes"]) == ("unrolled", True, stage["bytes"])
    assert (loops["route"], loops["is_taken"], loops["refused"]) == ("loops", False, None)
    assert all(us > 0 for tried in (unrolled, loops) for us in tried["us_per_window"].values())

    assert loops["bytes"] < unrolled["bytes"]
    assert export([*command, "--max-bytes", str(unrolled["bytes"] - 1)]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["routes"][0]["refused"] == f"{unrolled['bytes']} bytes are more than the {unrolled['bytes'] - 1} that are allowed"
    assert [tried["is_taken"] for tried in stage["routes"]] == [False, True]
    bundle = bundles.open_bundle(tmp_path / "pump-1.0.0.vedette")
    assert len(bundle.files[stage["file"]]) == loops["bytes"]
    assert "route loops; unrolled was refused" in " ".join(bundle.files["model-card.md"].decode().split())

    with pytest.raises(BundleError, match=r"no conversion passes: unrolled: \d+ bytes are more .* loops: .* no bundle was made"):
        export([*command, "--max-bytes", "1"])


def test_refused_model_leaves_the_old_bundle_as_it_was(make_run: MakeRun, forest: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "out" / "pump.vedette"
    export([str(forest), "-o", str(bundle)])
    before = bundle.read_bytes()
    tampered = shutil.copytree(forest, tmp_path / "tampered.run")
    shutil.copy(make_run("isolation_forest", 2) / "isolation_forest.skops", tampered)
    with pytest.raises(BundleError, match="parity"):
        export([str(tampered), "-o", str(bundle)])
    assert bundle.read_bytes() == before
    assert [entry.name for entry in bundle.parent.iterdir()] == ["pump.vedette"]


def test_run_that_holds_another_kind_of_estimator_is_refused(forest: Path, tmp_path: Path) -> None:
    from sklearn.neighbors import LocalOutlierFactor

    from vedette_training.models.sklearn_model import SklearnModel

    other = shutil.copytree(forest, tmp_path / "other.run")
    rows = np.random.default_rng(0).normal(size=(50, 18))
    SklearnModel(LocalOutlierFactor(novelty=True).fit(rows)).save(other / "isolation_forest.skops")
    with pytest.raises(BundleError, match=r"LocalOutlierFactor|not a model that can be read"):
        export([str(other), "-o", str(tmp_path)])


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a run that can be read"):
        export([str(tmp_path)])


@pytest.mark.parametrize("option", [["--name", "Über"], ["--version", "1.0"]])
def test_name_that_no_bundle_can_have_is_a_usage_error(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        export(["run", *option])
    assert caught.value.code == 2
    assert f'got "{option[1]}"' in capsys.readouterr().err
