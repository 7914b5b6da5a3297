"""Calibrations of a narrower variant: on its own raw scores, 0 and 1.0 mean what they meant on the original's.

A threshold is not looked for anew: it was taken from all held-out history, perhaps extrapolated to what comes once in a hundred days, or
is a classifier's own probability. What is fitted is the line from the original's raw scores to the variant's, by what both gave for the
same held-out windows, and calibration goes along it.

Rules this module keeps: the line is fitted where it matters, at windows that score near 0 and near 1.0; one that lies beyond all of them
is where the line leads; medians, so that no single window decides; what no narrower stage had a part in keeps its calibration.
"""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.errors import BundleError
from vedette.contract.scores import Calibration, RawScores, Scorer
from vedette_exporter.parity import Pair

NEAREST = 100
"""Windows at either end of the line, or a quarter of all where there are fewer. From 50 to 200 it makes no difference."""

_APART = 0.05
"""A window nearer to 0 than this says nothing about the line's slope."""

Series = npt.NDArray[np.float64]


class Line(NamedTuple):
    """From the original's raw scores to the variant's: `start` becomes `end`, and what is over it `slope` times as far over that."""

    start: float
    end: float
    slope: float

    def along(self, raw: float) -> float:
        """Where a raw score of the original lies on the variant's scale."""
        return self.end + self.slope * (raw - self.start)


def recalibrated(pair: Pair, trained: RawScores, exported: RawScores) -> Pair:
    """Give the exported side of a pair calibrations of its own.

    Args:
        pair: With narrower stages among the exported.
        trained: What the originals gave for held-out windows, float64 `(n, voters)`.
        exported: What the exported models give for the same.

    Raises:
        BundleError: the variant's scores do not rise with the original's.
    """
    changed = pair.changed
    voters = [stage for stage in pair.stages if stage.calibration]
    columns = dict(zip((stage.name for stage in voters), zip(trained.T, exported.T, strict=True), strict=True))
    stages = tuple(
        msgspec.structs.replace(stage, calibration=_moved(f"stage {stage.name}", stage.calibration, *columns[stage.name]))
        if stage.calibration and stage.name in changed
        else stage
        for stage in pair.stages
    )
    calibration = pair.calibration
    if calibration and changed:
        sides = ((pair.stages, trained), (stages, exported))
        before, after = (Scorer(given, pair.exported, pair.combine).combine(raw).astype(np.float64) for given, raw in sides)
        calibration = _moved("the combined score", calibration, before, after)
    return pair._replace(exported_stages=stages, exported_calibration=calibration)


def _moved(what: str, calibration: Calibration, before: Series, after: Series) -> Calibration:
    """A calibration of `before` as one of `after`."""
    line = _fit(what, calibration.apply(before), before, after)
    if adaptation := calibration.adaptation:
        # Centre and threshold are surprisals. Along a line they stay, with origin, unit and all distances.
        moved = msgspec.structs.replace(adaptation, origin=line.along(adaptation.origin), unit=adaptation.unit * line.slope)
        return msgspec.structs.replace(calibration, adaptation=moved)
    return msgspec.structs.replace(calibration, centre=line.along(calibration.centre), threshold=line.along(calibration.threshold))


def _fit(what: str, scores: Series, before: Series, after: Series) -> Line:
    """The line through what is ordinary and what is near the threshold, by medians of differences and of ratios."""
    ordinary, strange = (_nearest(scores, to) for to in (0.0, 1.0))
    strange = strange[scores[strange] > _APART]
    if not len(strange):
        raise BundleError(
            f"{what}: not one of {len(scores)} held-out windows scores over {_APART:g}: nothing to recalibrate by; no bundle was made"
        )
    start = float(np.median(before[ordinary]))
    end = start + float(np.median(after[ordinary] - before[ordinary]))
    slope = float(np.median((after[strange] - end) / (before[strange] - start)))
    if not slope > 0:
        raise BundleError(f"{what}: the variant's scores do not rise with the original's (slope {slope:.2g}); no bundle was made")
    return Line(start, end, slope)


def _nearest(scores: Series, to: float) -> npt.NDArray[np.intp]:
    """Positions of the windows that score nearest to a score."""
    return np.argsort(np.abs(scores - to), kind="stable")[: max(1, min(NEAREST, len(scores) // 4))]
