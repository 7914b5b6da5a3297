import numpy as np
import numpy.typing as npt
import pytest

from vedette.contract.errors import ConfigError
from vedette_training import calibrate, evaluate
from vedette_training.recipe import Threshold

RAW = np.linspace(0, 1, 101, dtype=np.float32)


def floats(numbers: list[float]) -> npt.NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)


def test_quantile_puts_the_median_at_0_and_its_share_of_normal_windows_under_1() -> None:
    scores = calibrate.fit(RAW, Threshold(quantile=0.9), higher_is_stranger=True).apply(RAW)
    assert scores[50] == pytest.approx(0)
    assert (scores >= 1).sum() == 11


def test_model_whose_lower_outputs_are_stranger_is_turned_round() -> None:
    scores = calibrate.fit(RAW, Threshold(quantile=0.9), higher_is_stranger=False).apply(RAW)
    assert scores[0] > 1 > scores[50] > scores[-1]


def test_probability_is_the_threshold_itself() -> None:
    calibration = calibrate.fit(RAW / np.float32(4), Threshold(probability=0.5), higher_is_stranger=True)
    assert calibration.apply(floats([0.5, 0.125])).tolist() == pytest.approx([1, 0])


def test_classifier_that_flags_most_normal_windows_still_scores_the_probable_ones_higher() -> None:
    scores = calibrate.fit(RAW / np.float32(4) + np.float32(0.7), Threshold(probability=0.5), higher_is_stranger=True).apply(RAW)
    assert (np.diff(scores) > 0).all()
    assert (scores >= 1).tolist() == (RAW >= 0.5).tolist()


def test_threshold_that_is_the_median_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose a higher quantile"):
        calibrate.fit(np.zeros(100, dtype=np.float32), Threshold(quantile=0.99), higher_is_stranger=True)


def test_metrics_are_those_worked_out_by_hand() -> None:
    scores = floats([0.1, 1.0, 2.0, 0.2, 1.5])
    metrics = evaluate.measure(scores, np.array([False, False, True, True, True]))
    assert metrics == pytest.approx(
        {
            "windows": 5,
            "anomalous_windows": 3,
            "flagged_windows": 3,
            "roc_auc": 5 / 6,
            "average_precision": (1 + 1 + 3 / 4) / 3,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "f1": 2 / 3,
            "false_alarm_rate": 1 / 2,
        }
    )


def test_metric_that_one_class_cannot_measure_is_absent() -> None:
    scores = floats([0.1, 1.2])
    assert set(evaluate.measure(scores, np.array([False, False]))) == {
        "windows", "anomalous_windows", "flagged_windows", "false_alarm_rate",
    }  # fmt: skip
    assert set(evaluate.measure(scores, np.array([True, True]))) == {
        "windows", "anomalous_windows", "flagged_windows", "precision", "recall", "f1",
    }  # fmt: skip


def test_precision_is_absent_where_nothing_was_flagged() -> None:
    assert "precision" not in evaluate.measure(floats([0.1, 0.2]), np.array([False, True]))
