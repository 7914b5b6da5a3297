import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from vedette.alerts import Model, ScoreJudge
from vedette.config import Alerts
from vedette.contract.errors import ConfigError
from vedette.contract.scores import Calibration, Scorer, Stage
from vedette.contract.windows import WindowSpec
from vedette_training import calibrate, windows
from vedette_training.calibrate import Held
from vedette_training.recipe import Threshold

Floats = npt.NDArray[np.float64]

RAW = np.linspace(0, 1, 101)


def held(*raw: npt.NDArray[np.float64], device_days: float = 1.0) -> Held:
    return Held(np.column_stack(raw), np.zeros(len(raw[0]), np.intp), device_days)


def scorer(voters: int = 1, combine: str = "all") -> Scorer:
    stages = [
        Stage(name=str(i), runtime="onnx", file="", input="flat", output="", calibration=Calibration(centre=0, threshold=1))
        for i in range(voters)
    ]
    return Scorer(stages, [None] * voters, combine)  # type: ignore[arg-type, list-item] # because nothing is run, and pytest's parameters are plain text


def test_quantile_puts_the_median_at_0_and_its_share_of_normal_windows_under_1() -> None:
    (calibration,) = calibrate.fit(held(RAW), Threshold(quantile=0.9), scorer()).stages
    scores = calibration.apply(RAW)
    assert scores[50] == pytest.approx(0)
    assert (scores >= 1).sum() == 11


def test_probability_is_the_threshold_itself_on_the_scale_of_log_odds() -> None:
    log_odds = np.log(np.array([0.1, 0.2, 0.3]) / np.array([0.9, 0.8, 0.7]))
    (calibration,) = calibrate.fit(held(log_odds), Threshold(probability=0.7), scorer()).stages
    assert calibration.apply(np.array([math.log(0.7 / 0.3), math.log(0.2 / 0.8)])).tolist() == pytest.approx([1, 0])


def test_a_sure_classifier_scores_far_above_the_threshold() -> None:
    (calibration,) = calibrate.fit(held(np.full(9, -6.0)), Threshold(probability=0.5), scorer()).stages
    assert calibration.apply(np.array([9.0])) == pytest.approx([2.5])


def test_classifier_that_flags_most_normal_windows_still_scores_the_probable_ones_higher() -> None:
    log_odds = np.linspace(1, 3, 9)
    (calibration,) = calibrate.fit(held(log_odds), Threshold(probability=0.5), scorer()).stages
    assert (np.diff(calibration.apply(log_odds)) > 0).all()
    assert calibration.apply(np.zeros(1)) == pytest.approx([1])


def test_a_margin_widens_a_quantile() -> None:
    (calibration,) = calibrate.fit(held(RAW), Threshold(quantile=0.9, margin=2), scorer()).stages
    assert calibration.threshold == pytest.approx(1.8)


def test_a_margin_is_from_the_least_score_wherever_a_scale_begins() -> None:
    (calibration,) = calibrate.fit(held(RAW - 5), Threshold(quantile=0.9, margin=2), scorer()).stages
    assert calibration.threshold == pytest.approx(1.8 - 5)


def test_threshold_that_is_the_median_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose a higher quantile"):
        calibrate.fit(held(np.zeros(100)), Threshold(quantile=0.99), scorer())


@pytest.mark.parametrize("combine", ["all", "any", "mean"])
def test_several_stages_together_meet_what_was_asked_for(combine: str) -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 20_000))
    subject = scorer(2, combine)
    found = calibrate.fit(held(one, other), Threshold(quantile=0.99), subject)
    together = subject.merge(np.column_stack([c.apply(raw) for c, raw in zip(found.stages, (one, other), strict=True)]))
    assert found.combined
    assert (found.combined.apply(together) >= 1).mean() == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize("scale", [lambda x: x, lambda x: x - 50, lambda x: 1e6 + x], ids=["as it is", "negative", "far from 0"])
def test_an_adapting_threshold_is_as_rare_as_was_asked_for_on_whatever_scale(scale: Callable[[Floats], Floats]) -> None:
    history, future = scale(np.random.default_rng(1).exponential(size=(2, 20_000)))
    (calibration,) = calibrate.fit(held(history), Threshold(quantile=0.99, adapt=5000), scorer()).stages
    assert (calibration.centre, calibration.threshold) == pytest.approx((0.30, 2.0), abs=0.002)
    assert (calibration.apply(future) >= 1).mean() == pytest.approx(0.01, abs=0.003)
    assert (calibration.apply(future) >= 0).mean() == pytest.approx(0.5, abs=0.05)


def test_adapting_stages_need_no_calibration_of_their_combination() -> None:
    found = calibrate.fit(held(RAW, RAW), Threshold(quantile=0.9, adapt=100), scorer(2, "mean"))
    assert found.combined is None


def test_scores_that_do_not_differ_cannot_be_adapted_to() -> None:
    with pytest.raises(ConfigError, match="nothing to adapt to"):
        calibrate.fit(held(np.zeros(100)), Threshold(quantile=0.9, adapt=100), scorer())


def test_a_surprisal_beyond_where_they_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="where they end"):
        calibrate.fit(held(RAW), Threshold(quantile=0.99, margin=5, adapt=100), scorer())


def alerts_of(scores: npt.NDArray[np.float64]) -> int:
    alerts = ScoreJudge(Alerts(), Model(name="m", version="1.0.0")).judge(["d"] * len(scores), 60.0 * np.arange(len(scores)), scores)
    return sum(alert.type == "new" for alert in alerts)


def slow_noise(windows_: int, seed: int) -> npt.NDArray[np.float64]:
    """Scores whose peaks last for a few windows, as smoothed ones do."""
    noise = np.random.default_rng(seed).exponential(size=windows_ + 9)
    return np.convolve(noise, np.ones(10) / 10, mode="valid")


@pytest.mark.parametrize("per_day", [3.0, 0.5, 0.1])
def test_a_budget_of_alerts_is_kept_on_data_that_was_not_seen_even_if_it_is_rarer_than_history_is_long(per_day: float) -> None:
    days = 10
    (calibration,) = calibrate.fit(held(slow_noise(1440 * days, 1), device_days=days), Threshold(alerts_per_day=per_day), scorer()).stages
    future_days = 400
    found = alerts_of(calibration.apply(slow_noise(1440 * future_days, 2))) / future_days
    assert per_day / 5 < found < per_day * 3


def test_a_smaller_budget_has_a_higher_threshold() -> None:
    raw = held(slow_noise(5000, 1), device_days=3.5)
    thresholds = [calibrate.fit_tail(raw.raw[:, 0], raw, per_day).threshold for per_day in (100, 30, 10, 3, 1, 0.1, 0.001)]
    assert thresholds == sorted(thresholds)
    assert len(set(thresholds)) == 7


def test_a_budget_needs_time_to_pass() -> None:
    with pytest.raises(ConfigError, match="follow each other in time"):
        calibrate.fit(held(RAW, device_days=0.0), Threshold(alerts_per_day=1), scorer())


def test_held_out_windows_leave_out_those_that_an_anomaly_touches_and_count_the_time_of_the_others() -> None:
    anomalous = np.zeros(20, np.bool_)
    anomalous[12] = True
    rows = np.arange(20, dtype=np.float32).reshape(-1, 1)
    times = [3600.0 * (i // 2) for i in range(20)]
    part = windows.cut(["a", "b"] * 10, times, rows, anomalous, WindowSpec(steps=3))
    kept = calibrate.hold(part, part.windows.rows[part.windows.ends].astype(np.float64), times)
    assert kept.raw[:, 0].tolist() == [4, 6, 8, 10, 18, 5, 7, 9, 11, 13, 15, 17, 19]
    assert kept.device_days == pytest.approx((4 + 7) / 24)
