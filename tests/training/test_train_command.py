import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vedette.contract.errors import BundleError, ConfigError
from vedette_training import run as runs
from vedette_training.command import train
from vedette_training.detectors import Fitted, FittedStage
from vedette_training.recipe import SHIPPED

RECIPE = """
name: boiler
detector: {kind: isolation_forest, trees: 10}
history:
  device: {column: device}
  time: {field: ts}
  label: {column: label}
features:
  - {kind: number, name: temperature}
  - {kind: category, name: valve}
window: {steps: 3}
split: {by: device, train: 0.5, calibrate: 0.25, seed: 3}
threshold: {quantile: 0.99}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> str:
    path = tmp_path / "boiler.yaml"
    path.write_text(RECIPE)
    return str(path)


def test_training_leaves_a_run_that_says_what_was_learnt_from_what(
    recipe_file: str, boilers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a" / "boiler.run"
    assert train([recipe_file, "--history", str(boilers), "-o", str(output), "--seed", "5", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    run, holdout = runs.read(output)
    assert printed["run"] == str(output)
    assert printed["metrics"] == dict(run.metrics)
    assert run.metrics["roc_auc"] > 0.9
    assert run.recipe.seed == 5
    assert run.trained_on.windows == 4 * 58
    assert [(source.name, source.rows) for source in run.trained_on.sources] == [("history.csv", 480)]
    scorer = runs.scorer(run.stages, runs.load_models(output, run), run.combine, run.calibration)
    np.testing.assert_array_equal(scorer.raw(holdout.windows), holdout.raw)
    test = runs.read_test(output)
    assert len(test.times) == 120
    assert test.readings()[0].values == test.values[0]


def test_files_that_the_recipe_names_are_looked_for_beside_it(
    recipe_file: str, boilers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(recipe_file).write_text(RECIPE.replace("history:", "history:\n  files: ['hist*.csv']"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert train([recipe_file]) == 0
    assert runs.read(Path("boiler.run"))[0].recipe.name == "boiler"


def test_training_again_replaces_the_run(recipe_file: str, boilers: Path, tmp_path: Path) -> None:
    output = tmp_path / "boiler.run"
    for seed in ("1", "2"):
        train([recipe_file, "--history", str(boilers), "-o", str(output), "--seed", seed])
    assert runs.read(output)[0].recipe.seed == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_folder_that_is_not_a_run_is_left_alone(recipe_file: str, boilers: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="exists and is not a run"):
        train([recipe_file, "--history", str(boilers), "-o", str(precious)])
    assert (precious / "thesis.txt").exists()


def test_run_of_another_format_is_refused(recipe_file: str, boilers: Path, tmp_path: Path) -> None:
    output = tmp_path / "boiler.run"
    train([recipe_file, "--history", str(boilers), "-o", str(output)])
    text = (output / "run.json").read_text()
    (output / "run.json").write_text(text.replace('"format": 2', '"format": 1'))
    with pytest.raises(BundleError, match="format 1; this version reads format 2: train again"):
        runs.read(output)


def test_holdout_that_is_a_pickle_is_refused(recipe_file: str, boilers: Path, tmp_path: Path) -> None:
    output = tmp_path / "boiler.run"
    train([recipe_file, "--history", str(boilers), "-o", str(output)])
    np.savez(output / "holdout.npz", windows=np.array([{}], dtype=object))
    with pytest.raises(BundleError, match="not a run that can be read"):
        runs.read(output)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_command_is_imported_without_the_libraries_that_train() -> None:
    heavy = {"tensorflow", "keras", "sklearn", "skops", "tqdm"}
    done = python(f"import sys, vedette_training.command; print({heavy} & set(sys.modules))")
    assert done.stdout == "set()\n"


def test_missing_library_is_answered_with_what_to_install(boilers: Path, tmp_path: Path) -> None:
    done = python(
        "import sys\n"
        "sys.modules['sklearn'] = None\n"
        "from vedette.contract.errors import VedetteError\n"
        "from vedette_training.command import train\n"
        "try:\n"
        f"    train(['{SHIPPED}/fridge-isolation-forest.yaml', '--history', '{boilers}', '-o', '{tmp_path}/run'])\n"
        "except VedetteError as error:\n"
        "    print(error)\n"
    )
    assert done.stdout.strip().endswith("which is not installed: pip install 'vedette[train]'")


def test_run_is_written_as_it_is_read(recipe_file: str, boilers: Path, tmp_path: Path) -> None:
    output, copy = tmp_path / "boiler.run", tmp_path / "copy.run"
    train([recipe_file, "--history", str(boilers), "-o", str(output)])
    run, holdout = runs.read(output)
    (stage,), (model,) = run.stages, runs.load_models(output, run)
    fitted = Fitted((FittedStage(stage.name, model, stage.input, stage.output),))
    runs.write(copy, run, fitted, holdout, runs.read_test(output))
    again, held_again = runs.read(copy)
    assert msgspec.json.encode(again, order="sorted") == msgspec.json.encode(run, order="sorted")
    np.testing.assert_array_equal(held_again.windows, holdout.windows)
