"""From history to a calibrated detector, in one go: divide, fit, score what was held out, calibrate. No files and no clock."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.contract.scores import Calibration, Scorer, Scores
from vedette_training import calibrate, run, scoring
from vedette_training.calibrate import Tail
from vedette_training.dataset import Dataset
from vedette_training.detectors import Fitted, Workshop
from vedette_training.history import History
from vedette_training.recipe import Recipe
from vedette_training.run import Holdout, RunStage

_UNFITTED = Calibration(centre=0.0, threshold=1.0)


class Trained(NamedTuple):
    """A calibrated detector and what it was made from.

    Attributes:
        data: The parts.
        fitted: The models.
        stages: With their calibrations.
        calibration: Of their combination.
        tail: What the threshold was taken from, where a budget of alerts asked for it.
        scorer: The gateway's, over the original models.
        scores: Of the test part's windows, smoothed, adapted and calibrated, float32 `(n,)`.
        holdout: Windows that it did not learn from.
    """

    data: Dataset
    fitted: Fitted
    stages: tuple[RunStage, ...]
    calibration: Calibration | None
    tail: Tail | None
    scorer: Scorer
    scores: Scores
    holdout: Holdout


def fit(history: History, recipe: Recipe, data: Dataset, workshop: Workshop) -> Trained:
    """Train and calibrate what a recipe asks for.

    Args:
        history: What `data` was built from.
        recipe: What to train.
        data: From `dataset.build`.
        workshop: Seed and checkpoints.

    Raises:
        HistoryError: history does not hold what the detector learns from.
        ConfigError: the detector does not tell the asked-for threshold from what is ordinary.
    """
    fitted = recipe.detector.fit(data.train, workshop.for_part("train"))
    unfitted = _scorer(fitted, recipe)
    calibrating = scoring.score(data.calibrate, unfitted)
    calibrated = calibrate.fit(calibrate.hold(data.calibrate, calibrating.smoothed, history.times), recipe.threshold, unfitted)
    if recipe.refit:
        fitted = recipe.detector.fit(data.refit, workshop.for_part("refit"))
        unfitted = _scorer(fitted, recipe)
        calibrating = scoring.score(data.calibrate, unfitted)
    stages = run.stages_of(fitted, recipe.smoothing, calibrated.stages)
    scorer = run.scorer(stages, [stage.model for stage in fitted.stages], fitted.combine, calibrated.combined)
    testing = scoring.score(data.test, scorer)
    raw = np.concatenate([calibrating.raw, testing.raw])
    holdout = _hold_out(data, raw, recipe.seed)
    return Trained(data, fitted, stages, calibrated.combined, calibrated.tail, scorer, testing.scores, holdout)


def _scorer(fitted: Fitted, recipe: Recipe) -> Scorer:
    """A scorer whose raw scores are of use, its calibrations not yet."""
    voters = sum(stage.has_say for stage in fitted.stages)
    stages = run.stages_of(fitted, recipe.smoothing, (_UNFITTED,) * voters)
    return run.scorer(stages, [stage.model for stage in fitted.stages], fitted.combine, None)


def _hold_out(data: Dataset, raw: npt.NDArray[np.float64], seed: int) -> Holdout:
    """At most MAX_HOLDOUT windows of the calibration and test parts, drawn at random, in their order."""
    calibrating = len(data.calibrate.windows)
    chosen = np.arange(len(raw))
    if len(chosen) > run.MAX_HOLDOUT:
        chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), run.MAX_HOLDOUT, replace=False))
    first, second = chosen[chosen < calibrating], chosen[chosen >= calibrating] - calibrating
    return Holdout(
        np.concatenate([data.calibrate.windows[first].gather(), data.test.windows[second].gather()]),
        raw[chosen],
        np.concatenate([data.calibrate.anomalous[first], data.test.anomalous[second]]),
    )
