"""The shipped recipes still find what they found: two entities and a series, in seconds; `make bench-quality` measures them all."""

from pathlib import Path

import numpy as np
import pytest

from bench import entities, figures, quality
from bench.quality import DEFAULT, SUBJECTS, Settings, Subject
from vedette_training import recipe


@pytest.mark.parametrize(("dataset", "floor"), [("smd", 0.85), ("skab", 0.95)])
def test_the_default_recipe_finds_what_it_found(dataset: entities.Dataset, floor: float) -> None:
    if why := entities.missing(dataset):
        pytest.skip(reason=why)
    entity = next(entities.read(dataset))
    outcome = quality.score(entity, quality.adapted(recipe.load("telemetry"), entity, Subject(None)))
    assert outcome.average_precision > floor
    # At its threshold, too, it finds many of them and flags few others.
    flagged = outcome.scores >= 1.0
    assert flagged[outcome.labels].mean() > 0.3
    assert flagged[~outcome.labels].mean() < 0.15


def test_the_streaming_recipe_scores_a_series_and_its_figures_name_what_they_are() -> None:
    if why := entities.missing("nab"):
        pytest.skip(reason=why)
    found = quality.measure(Settings(entities.DATA, ("nab", "smap"), (DEFAULT,), at_most=8))
    assert all(np.isfinite(row.value) for row in found.rows)
    assert {row.name for row in found.rows if row.bar} <= set(quality.BARS)


def test_every_bar_is_on_a_figure_of_a_shipped_recipe() -> None:
    assert all(name.endswith((f", {DEFAULT}", f", {quality.STREAMING}")) for name in quality.BARS)
    assert SUBJECTS[DEFAULT].detector is None


def test_a_data_set_that_is_not_here_is_said_to_be_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality.main(["--data", str(tmp_path), "--quick", "-o", str(tmp_path / "quality.json")]) == 2
    assert capsys.readouterr().err.count("skipped") == 5


def test_parts_end_where_an_entity_says() -> None:
    rng = np.random.default_rng(0)
    entity = entities.Entity("asd", "e", rng.normal(size=(101, 2)), rng.normal(size=(50, 2)), np.arange(50) == 9, None, None, 300.0)
    outcome = quality.score(entity, quality.adapted(recipe.load("telemetry"), entity, Subject(None)))
    assert len(outcome.scores) == 50
    assert (outcome.scores != 0).all()


def test_figures_of_a_quick_run_can_be_read_back(tmp_path: Path) -> None:
    if why := entities.missing("skab"):
        pytest.skip(reason=why)
    path = tmp_path / "quality.json"
    assert quality.main(["--dataset", "skab", "smap", "--quick", "-o", str(path)]) == 0
    rows = {row.name: row for row in figures.read(path).rows}
    assert rows["skab f1, pca"].bar == 0.85
    assert any("skipped" in name for name in rows)
