import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vedette.contract import bundle as bundles
from vedette.contract.errors import BundleError
from vedette.runtimes import load_scorer
from vedette_exporter.command import export
from vedette_training import run as runs


def test_equal_runs_give_equal_bytes(run: Path, tmp_path: Path) -> None:
    for name in ("one.vedette", "two.vedette"):
        assert export([str(run), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.vedette").read_bytes() == (tmp_path / "two.vedette").read_bytes()


def test_bundle_scores_held_out_windows_as_the_original_did(run: Path, tmp_path: Path) -> None:
    export([str(run), "-o", str(tmp_path / "pump.vedette")])
    trained, holdout = runs.read(run)
    scores = load_scorer(bundles.open_bundle(tmp_path / "pump.vedette")).score(holdout.windows)
    np.testing.assert_allclose(scores, trained.calibration.apply(holdout.raw), rtol=1e-4, atol=1e-4)


def test_bundle_says_what_the_run_said(run: Path, tmp_path: Path) -> None:
    export([str(run), "-o", str(tmp_path / "pump.vedette")])
    manifest, trained = bundles.open_bundle(tmp_path / "pump.vedette").manifest, runs.read(run)[0]
    assert (manifest.name, manifest.version, manifest.created) == ("pump", "1.0.0", trained.created)
    assert manifest.features == trained.features
    assert manifest.window == trained.recipe.window
    assert manifest.trained_on == trained.trained_on
    assert manifest.metrics == trained.metrics
    assert manifest.stages[0].calibration == trained.calibration
    assert trained.libraries.items() < manifest.libraries.items()


def test_golden_windows_span_the_scores(run: Path, tmp_path: Path) -> None:
    export([str(run), "-o", str(tmp_path / "pump.vedette")])
    bundle = bundles.open_bundle(tmp_path / "pump.vedette")
    scores = load_scorer(bundle).score(runs.read(run)[1].windows)
    assert len(bundle.golden_scores) == 32
    assert bundle.golden_scores.min() <= scores.min()
    assert bundle.golden_scores.max() >= scores.max()


def test_folder_gets_a_bundle_of_its_name_and_version(forest_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export([str(forest_run), "-o", str(tmp_path), "--name", "booster", "--version", "2.1.0", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    path = tmp_path / "booster-2.1.0.vedette"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert (printed["bundle"], printed["bytes"]) == (str(path), path.stat().st_size)
    assert printed["parity"]["windows"] >= 500
    assert printed["sha256"] == bundles.open_bundle(path).sha256


def test_refused_model_leaves_the_old_bundle_as_it_was(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    run, other = two_runs
    bundle = tmp_path / "out" / "pump.vedette"
    export([str(run), "-o", str(bundle)])
    before = bundle.read_bytes()
    tampered = shutil.copytree(run, tmp_path / "tampered.run")
    (model,) = other.glob("model.*")
    shutil.copy(model, tampered)
    with pytest.raises(BundleError, match="parity"):
        export([str(tampered), "-o", str(bundle)])
    assert bundle.read_bytes() == before
    assert [entry.name for entry in bundle.parent.iterdir()] == ["pump.vedette"]


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a run that can be read"):
        export([str(tmp_path)])


@pytest.mark.parametrize("option", [["--name", "Über"], ["--version", "1.0"]])
def test_name_that_no_bundle_can_have_is_a_usage_error(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        export(["run", *option])
    assert caught.value.code == 2
    assert f'got "{option[1]}"' in capsys.readouterr().err
