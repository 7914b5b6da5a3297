"""Evaluation on the test part, with the field's standard metrics.

Rules this module keeps: a window is flagged when its score is at least 1.0, as on the gateway; a metric that the test
part cannot measure (precision where nothing was flagged, ROC AUC on one class) is left out, never made up.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from vedette.contract.scores import Scores

Metrics = Mapping[str, float]


def measure(scores: Scores, anomalous: npt.NDArray[np.bool_]) -> Metrics:
    """Compare scores with labels.

    Args:
        scores: `(n,)`, 1.0 at the threshold.
        anomalous: bool `(n,)`.

    Returns:
        `windows`, `anomalous_windows`, `flagged_windows`, and as far as they are defined `roc_auc`,
        `average_precision`, `precision`, `recall`, `f1` and `false_alarm_rate` (share of the normal windows that is
        flagged).
    """
    flagged = scores >= 1.0
    positives, negatives = int(anomalous.sum()), int((~anomalous).sum())
    hits, false_alarms = int((flagged & anomalous).sum()), int((flagged & ~anomalous).sum())
    metrics: dict[str, float] = {
        "windows": len(scores),
        "anomalous_windows": positives,
        "flagged_windows": hits + false_alarms,
    }
    if positives and negatives:
        metrics["roc_auc"] = float(roc_auc_score(anomalous, scores))
        metrics["average_precision"] = float(average_precision_score(anomalous, scores))
    if flagged.any() and positives:
        metrics["precision"] = hits / (hits + false_alarms)
    if positives:
        metrics["recall"] = hits / positives
        metrics["f1"] = 2 * hits / (hits + false_alarms + positives)
    if negatives:
        metrics["false_alarm_rate"] = false_alarms / negatives
    return metrics


def table(metrics: Metrics) -> str:
    """Metrics as lines of name and value."""
    return "\n".join(
        f"{name.replace('_', ' '):<20}{value:>10.4f}" if not name.endswith("windows") else f"{name.replace('_', ' '):<20}{value:>10.0f}"
        for name, value in metrics.items()
    )
