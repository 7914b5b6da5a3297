from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from vedette.contract.features import Category, DayOfWeek, Number
from vedette_exporter import card
from vedette_exporter.pack import stage_of
from vedette_exporter.parity import Parity
from vedette_exporter.routes import Tried
from vedette_training import run as runs
from vedette_training.calibrate import Tail
from vedette_training.detectors.lstm import Lstm
from vedette_training.findings import Finding
from vedette_training.recipe import Threshold
from vedette_training.run import Run

PARITY = Parity(658, {"isolation_forest": 1e-6}, 2e-6, 0.0, 0, (1, 2, 7, 32))
ROUTES = {
    "isolation_forest": (Tried("skl2onnx", 900, {}, None, is_taken=True),),
    "lstm_autoencoder": (
        Tried("unrolled", 0, {}, "it needs too much", is_taken=False),
        Tried("loops", 800, {1: 2.0}, None, is_taken=True),
        Tried("fused", 700, {1: 3.0}, None, is_taken=False),
    ),
}
MakeRun = Callable[..., Path]


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    return runs.read(make_run("isolation_forest"))[0]


def render(run: Run, parity: Parity = PARITY, **changes: object) -> str:
    run = msgspec.structs.replace(run, **changes)
    return card.render(run, "pump", "1.2.3", [stage_of(stage) for stage in run.stages], parity, ROUTES)


def changed_recipe(run: Run, **changes: object) -> Run:
    return msgspec.structs.replace(run, recipe=msgspec.structs.replace(run.recipe, **changes))


def test_card_names_what_was_learnt_from_and_what_was_measured(run: Run) -> None:
    text = render(run)
    source = run.trained_on.sources[0]
    assert f"- pumps.csv: 480 readings, SHA-256 `{source.sha256}`" in " ".join(text.split())
    assert "windows: 225 to train, 150 to calibrate, 75 to test; divided by device" in text
    assert f"| roc auc | {run.metrics['roc_auc']:.4f} |" in text
    assert "- the score: at most 2.0e-06; verdicts that flip: 0" in text
    assert "vedette model install pump-1.2.3.vedette" in text
    assert "## What the audit of the data found\n\nNothing." in text


def test_artefact_stands_first_and_every_finding_below(run: Run) -> None:
    findings = (Finding("leak", "artefact", "mode", "tells the label"), Finding("drift", "warning", "pressure", "moved"))
    text = render(run, findings=findings)
    assert text.splitlines()[2].startswith("**These results are an artefact: mode: tells the label")
    assert "- artefact, mode: tells the label" in text
    assert "- warning, pressure: moved" in text


def test_threshold_is_said_in_words(run: Run) -> None:
    assert "At the 0.95 quantile" in render(run)
    classifier = changed_recipe(run, detector=Lstm(), threshold=Threshold(probability=0.7))
    assert "At a probability of 0.7" in render(classifier)
    tail = Tail(level=0.5, scale=0.1, shape=0.05, device_days=12.0, count=40, peaks=(0.6,), threshold=0.9)
    text = " ".join(render(changed_recipe(run, threshold=Threshold(alerts_per_day=0.01)), tail=tail).split())
    assert "should raise one in 100 days" in text
    assert "12 device-days, has 40 peaks over 0.5" in text
    assert "it is extrapolated" in text


def test_features_are_described_as_they_were_fitted(run: Run) -> None:
    features = (
        Number(name="pressure", mean=4.0, scale=0.2, minimum=0.0, clip=5.0),
        Category(name="mode", values=("auto", "hand")),
        DayOfWeek(),
    )
    text = render(run, features=features)
    assert "- pressure: a number, usually 4 ± 0.2, possible from 0 to any, softly clipped beyond 5 deviations" in text
    assert '- mode: one of "auto", "hand"' in text
    assert "- day_of_week: day of week" in text


def test_windows_that_cross_a_cut_are_told(run: Run) -> None:
    text = " ".join(render(run, PARITY._replace(share_beyond=0.002, largest_difference=0.003, verdicts_flipped=1)).split())
    assert "0.20% of the windows differ by more" in text
    assert "verdicts that flip: 1" in text


def test_routes_are_told_without_times_which_differ_from_one_export_to_the_next(run: Run) -> None:
    text = " ".join(render(run).split())
    assert "- isolation_forest was converted by the route skl2onnx - lstm" in text
    assert (
        "- lstm_autoencoder was converted by the route loops; unrolled was refused (it needs too much), fused passed (700 bytes), but is "
        "not clearly quicker"
    ) in text


def test_lines_are_short_but_for_code_and_tables(run: Run) -> None:
    finding = Finding("drift", "warning", "pressure", "word " * 60)
    digests = [len(line) for line in render(run, findings=(finding,)).splitlines() if "`" not in line]
    assert max(digests) <= 100
