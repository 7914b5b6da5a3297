"""Calibration: where on a model's own scale 0 (ordinary) and 1.0 (the threshold) are.

Rules this module keeps: it is fitted on held-out normal windows, never on those that the model learnt from.
"""

import numpy as np

from vedette.contract.errors import ConfigError
from vedette.contract.scores import Calibration
from vedette_training.detectors import RawScores
from vedette_training.recipe import Threshold


def fit(raw: RawScores, threshold: Threshold, *, higher_is_stranger: bool) -> Calibration:
    """Fit a calibration.

    Args:
        raw: Raw outputs for held-out normal windows, float32 `(n,)`.
        threshold: A quantile of strangeness, or a probability.
        higher_is_stranger: As the model says.

    Raises:
        ConfigError: the outputs do not tell the threshold from what is ordinary.
    """
    centre = float(np.median(raw))
    if threshold.probability is not None:
        # A classifier that takes most normal windows for anomalous has its ordinary side still: no anomaly at all. It
        # must be reported with the false alarms that it gives, not fail to be.
        return Calibration(centre=centre if centre < threshold.probability else 0.0, threshold=threshold.probability)
    assert threshold.quantile is not None
    limit = float(np.quantile(raw, threshold.quantile if higher_is_stranger else 1 - threshold.quantile))
    if limit == centre:
        raise ConfigError(
            f"threshold: the {threshold.quantile:g} quantile of {len(raw)} held-out normal windows is their median, "
            f"{centre:g}: choose a higher quantile, or look whether the model tells windows apart at all"
        )
    return Calibration(centre=centre, threshold=limit)
