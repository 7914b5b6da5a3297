import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vedette.contract.errors import ConfigError, VedetteError
from vedette_exporter.command import export
from vedette_exporter.evaluate import evaluate
from vedette_training import run as runs

MakeRun = Callable[..., Path]

RECIPE = """
name: pump
detector: {kind: isolation_forest}
history:
  device: {column: device}
  time: {field: ts}
  label: {column: label}
features:
  - {kind: number, name: pressure}
  - {kind: category, name: mode}
window: {steps: 6}
split: {by: device, train: 0.5, calibrate: 0.25}
threshold: {quantile: 0.95}
"""


@pytest.fixture(scope="session")
def forest(make_run: MakeRun) -> Path:
    return make_run("isolation_forest")


def judge(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert evaluate([*map(str, arguments), "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_windows_are_judged_as_training_judged_them_though_through_another_runtime(
    forest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = judge(capsys, forest, "-o", tmp_path / "report.html")
    (model,) = printed["models"]
    trained = runs.read(forest)[0].metrics
    assert model["windows"] == pytest.approx(dict(trained), rel=1e-4)
    assert model["episodes"]["labelled"] >= 1
    assert set(model["us_per_window"]) == {"1", "32", "256"}
    assert "<html" in (tmp_path / "report.html").read_text()


def test_a_run_gets_its_report_in_its_folder_and_people_read_lines(forest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate([str(forest)]) == 0
    assert (forest / "report.html").is_file()
    out = capsys.readouterr().out
    assert "pump 1.0.0 (isolation_forest)" in out
    assert "episodes detected" in out


def test_a_latent_space_is_studied_and_several_models_share_a_page(
    forest: Path, make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "both.html"
    printed = judge(capsys, forest, make_run("hybrid-any"), "-o", report)
    assert [model["detector"] for model in printed["models"]] == ["isolation_forest", "hybrid"]
    text = report.read_text()
    assert "latent[0]" in text
    assert "Wilks" in text


def test_a_bundle_is_judged_on_history_that_a_recipe_explains(forest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export([str(forest), "-o", str(tmp_path / "pump.vedette")])
    (tmp_path / "pump.yaml").write_text(RECIPE)
    test = runs.read_test(forest)
    with (tmp_path / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device", "ts", "pressure", "mode", "label"])
        for device, time, values, anomalous in zip(test.devices, test.times, test.values, test.anomalous, strict=True):
            writer.writerow([device, time, *values, int(anomalous)])
    given = ["--history", tmp_path / "history.csv", "--recipe", tmp_path / "pump.yaml", "-o", tmp_path / "report.html"]
    printed = judge(capsys, tmp_path / "pump.vedette", *given)
    assert printed["models"][0]["windows"] == judge(capsys, forest, "-o", tmp_path / "r.html")["models"][0]["windows"]


def test_a_bundle_beside_its_run_is_judged_on_the_runs_test_part(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("pca")
    export([str(run), "--precision", "int8", "-o", str(tmp_path / "int8.vedette")])
    report = tmp_path / "report.html"
    exact, narrower = judge(capsys, run, tmp_path / "int8.vedette", "-o", report)["models"]
    assert (exact["precision"], narrower["precision"]) == ("float32", "int8")
    assert narrower["bytes"] < exact["bytes"]
    assert narrower["windows"]["windows"] == exact["windows"]["windows"]
    assert narrower["windows"]["average_precision"] == pytest.approx(exact["windows"]["average_precision"], abs=0.01)
    assert "What each takes of a gateway" in report.read_text()
    with pytest.raises(ConfigError, match="name the run beside it"):
        evaluate([str(make_run("isolation_forest")), str(tmp_path / "int8.vedette"), "-o", str(report)])


def test_alert_rules_are_those_of_the_gateway_that_is_named(forest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(
        "gateway: g\nbroker: {url: mqtt://localhost}\nstreams: [{name: pumps, topic: '{device}', model: pump}]\nalerts: {raise: 64 of 64}\n"
    )
    printed = judge(capsys, forest, "-c", config, "-o", tmp_path / "report.html")
    assert printed["models"][0]["episodes"]["alerts"] == 0


@pytest.mark.parametrize(
    ("more", "fault"),
    [([], "a bundle holds no test data"), (["--history", "x.csv"], "a bundle does not say where label, device and time are")],
)
def test_a_bundle_without_history_or_recipe_says_what_is_missing(forest: Path, tmp_path: Path, more: list[str], fault: str) -> None:
    export([str(forest), "-o", str(tmp_path / "pump.vedette")])
    with pytest.raises(ConfigError, match=fault):
        evaluate([str(tmp_path / "pump.vedette"), *more])


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VedetteError, match="not a run"):
        evaluate([str(tmp_path)])
