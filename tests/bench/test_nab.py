"""The scorer gives published detectors their published scores, and keeps NAB's rules where they can be worked out by hand."""

import numpy as np
import pytest

from bench import entities, nab
from bench.nab import Profile, Series

FOLDER = entities.DATA / "nab"
STANDARD = Profile(tp_weight=1.0, fn_weight=1.0, fp_weight=0.11)
PUBLISHED = [("windowedGaussian", 45.72, 36.06, 51.59), ("numenta", 66.96, 61.57, 71.30)]


def one_series(rows: int = 1000, *windows: tuple[int, int]) -> Series:
    times = np.datetime64("2026-01-01", "s") + np.arange(rows).astype("timedelta64[m]")
    return Series(name="a.csv", times=times, values=np.zeros(rows), windows=windows)


def alarms(*rows: int) -> dict[str, nab.Floats]:
    scores = np.zeros(1000)
    scores[list(rows)] = 1.0
    return {"a.csv": scores}


@pytest.mark.parametrize(("detector", "standard", "low_fp", "low_fn"), PUBLISHED)
def test_published_detectors_get_their_published_scores(detector: str, standard: float, low_fp: float, low_fn: float) -> None:
    if not (FOLDER / "published").exists():
        pytest.skip(reason="the Numenta Anomaly Benchmark is not here (../shared/data/nab)")
    series = nab.read_series(FOLDER)
    scores = {one.name: nab.read_published(FOLDER, detector, one.name) for one in series}
    profiles = nab.read_profiles(FOLDER)
    found = [nab.score(series, scores, profiles[name]) for name in ("standard", "reward_low_FP_rate", "reward_low_FN_rate")]
    assert [result.score for result in found] == pytest.approx([standard, low_fp, low_fn], abs=0.006)
    at_its_threshold = nab.score_at(series, scores, profiles["standard"], found[0].threshold)
    assert at_its_threshold == pytest.approx(found[0].score)


def test_an_alarm_at_the_start_of_the_only_window_is_perfect() -> None:
    assert nab.score([one_series(1000, (500, 599))], alarms(500), STANDARD).score == pytest.approx(100.0)


def test_the_earliest_row_of_a_window_counts_and_the_others_add_nothing() -> None:
    series = [one_series(1000, (500, 599))]
    alone = nab.score_at(series, alarms(520), STANDARD, 1.0)
    assert nab.score_at(series, alarms(520, 530, 590), STANDARD, 1.0) == pytest.approx(alone)
    assert nab.score_at(series, alarms(560), STANDARD, 1.0) < alone


def test_every_alarm_far_from_a_window_costs_its_weight() -> None:
    series = [one_series(1000, (500, 519))]
    assert nab.score_at(series, alarms(500, 300), STANDARD, 1.0) == pytest.approx(100.0 - 100.0 * 0.11 / 2)
    assert nab.score_at(series, alarms(500, 300, 900), STANDARD, 1.0) == pytest.approx(100.0 - 100.0 * 0.22 / 2)


def test_a_late_alarm_just_behind_a_window_costs_less_than_one_far_behind() -> None:
    series = [one_series(1000, (500, 599))]
    just_behind, far_behind = (nab.score_at(series, alarms(row), STANDARD, 1.0) for row in (602, 990))
    assert far_behind < just_behind < 0.0


def test_the_probation_neither_gains_nor_loses() -> None:
    series = [one_series(1000, (500, 599))]
    assert nab.probation(1000) == 150
    assert nab.score_at(series, alarms(0, 149, 500), STANDARD, 1.0) == pytest.approx(100.0)
    assert nab.score_at(series, alarms(0, 150, 500), STANDARD, 1.0) < 100.0
    assert nab.probation(100_000) == 750


def test_a_detector_that_only_harms_is_as_good_as_silence() -> None:
    result = nab.score([one_series(1000, (500, 599))], alarms(200, 900), STANDARD)
    assert result.score == 0.0
    assert result.threshold == np.inf


def test_after_an_alert_only_a_stranger_row_speaks_within_the_refractory_period() -> None:
    kept = nab.keep_first(np.array([1.0, 3.0, 2.0, 2.0, 2.0, 1.0]), 2)
    assert kept.tolist() == [1.0, 3.0, -np.inf, -np.inf, 2.0, -np.inf]
    unchanged = np.array([1.0, 1.0])
    assert nab.keep_first(unchanged, 0).tolist() == unchanged.tolist()


def test_scores_that_do_not_fit_the_series_are_refused() -> None:
    series = [one_series(1000, (500, 599))]
    with pytest.raises(ValueError, match=r"a\.csv: expected 1000 scores"):
        nab.score(series, {"a.csv": np.zeros(999)}, STANDARD)
    with pytest.raises(ValueError, match="NaN"):
        nab.score(series, {"a.csv": np.full(1000, np.nan)}, STANDARD)
    with pytest.raises(ValueError, match="no series"):
        nab.score([one_series()], alarms(), STANDARD)
