"""Scores for windows of history, by the gateway's own scorer, smoother and adapter."""

from typing import NamedTuple

import numpy as np

from vedette.contract.scores import RawScores, Scorer, Scores
from vedette_training.windows import Part


class Scored(NamedTuple):
    """Scores of a part's n windows.

    Attributes:
        raw: As the models gave them, float64 `(n, voters)`.
        smoothed: Along each device's segments.
        scores: Adapted, calibrated and combined, float32 `(n,)`.
    """

    raw: RawScores
    smoothed: RawScores
    scores: Scores


def score(part: Part, scorer: Scorer) -> Scored:
    """Score a part's windows in the order in which the gateway would see them.

    Raises:
        ScoreError: a model failed.
    """
    smoother, adapter = scorer.smoother(), scorer.adapter()
    raw, smoothed, scores = [], [], []
    for batch in part.batches():
        raw.append(scorer.raw(batch.windows))
        smoothed.append(smoother.smooth(raw[-1], batch))
        scores.append(scorer.combine_adapted(adapter.adapt(smoothed[-1], batch)))
    return Scored(np.concatenate(raw), np.concatenate(smoothed), np.concatenate(scores))
