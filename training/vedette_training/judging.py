"""Labelled readings through a bundle, exactly as a gateway takes them: encode, window, score, smooth, judge.

What an alert is decides the agent's own Judge; nothing is worked out anew here, so that the figures are those that a gateway would give.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from vedette.alerts import Alert, Model, ScoreJudge
from vedette.config import Alerts
from vedette.contract.bundle import Bundle
from vedette.contract.features import Rows
from vedette.contract.scores import Scorer, Scores
from vedette.detector import Detector
from vedette_training.run import Labelled

READINGS_AT_ONCE = 512
KEPT_WINDOWS = 4000


class Judged(NamedTuple):
    """What became of labelled readings.

    Attributes:
        devices: Of each of n windows.
        times: Event times, epoch seconds, float64 `(n,)`.
        scores: float32 `(n,)`.
        anomalous: Labels of the windows' last readings, bool `(n,)`.
        positions: Which reading each window ended with, int `(n,)`.
        alerts: In order; every `new`, `update` and `end`.
        kept: Positions among the n of the windows in `windows`: all of them, or KEPT_WINDOWS drawn at random.
        windows: float32 `(k, steps, columns)`.
    """

    devices: list[str]
    times: npt.NDArray[np.float64]
    scores: Scores
    anomalous: npt.NDArray[np.bool_]
    positions: npt.NDArray[np.intp]
    alerts: list[Alert]
    kept: npt.NDArray[np.intp]
    windows: Rows


def judge(bundle: Bundle, scorer: Scorer, labelled: Labelled, rules: Alerts, seed: int = 0) -> Judged:
    """Take readings through a bundle. On a terminal a bar shows how far it is.

    Args:
        bundle: Verified.
        scorer: Its loaded models.
        labelled: In the order in which a gateway would receive them.
        rules: When alerts begin and end.
        seed: Of the draw of windows that are kept.

    Raises:
        ScoreError: a model failed.
    """
    readings = labelled.readings()
    devices = max(1, len(set(labelled.devices)))
    detector = Detector(bundle, scorer)
    manifest = bundle.manifest
    alarm = ScoreJudge(rules, Model(name=manifest.name, version=manifest.version), devices)
    keep = _Reservoir(np.random.default_rng(seed))
    positions, times, scores = [], [], []
    slots = np.unique(np.asarray(labelled.devices, dtype=np.str_), return_inverse=True)[1]
    alerts: list[Alert] = []
    with tqdm(total=len(readings), desc="judging", unit=" readings", disable=None, leave=False) as bar:
        for start in range(0, len(readings), READINGS_AT_ONCE):
            some = readings[start : start + READINGS_AT_ONCE]
            windowed = detector.window(slots[start : start + len(some)], np.array([r.time for r in some]), [r.values for r in some])
            found = detector.score(windowed)
            keep.offer(windowed.batch.windows)
            at = windowed.batch.positions
            alerts += alarm.judge([some[position].device for position in at.tolist()], windowed.times, found)
            positions.append(at + start)
            times.append(windowed.times)
            scores.append(found)
            bar.update(len(some))
    at = np.concatenate(positions) if positions else np.zeros(0, dtype=np.intp)
    return Judged(
        devices=[labelled.devices[i] for i in at.tolist()],
        times=np.concatenate(times) if times else np.zeros(0),
        scores=np.concatenate(scores) if scores else np.zeros(0, dtype=np.float32),
        anomalous=np.array(labelled.anomalous, dtype=np.bool_)[at],
        positions=at,
        alerts=alerts,
        kept=keep.places(),
        windows=keep.windows(),
    )


class _Reservoir:
    """KEPT_WINDOWS of all windows offered, each with the same chance (Vitter, 1985, algorithm R)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._seen = 0
        self._kept: dict[int, tuple[int, Rows]] = {}

    def offer(self, windows: Rows) -> None:
        for window in windows:
            place = self._seen if self._seen < KEPT_WINDOWS else int(self._rng.integers(self._seen + 1))
            if place < KEPT_WINDOWS:
                self._kept[place] = (self._seen, window.copy())
            self._seen += 1

    def places(self) -> npt.NDArray[np.intp]:
        return np.array(sorted(place for place, _ in self._kept.values()), dtype=np.intp)

    def windows(self) -> Rows:
        return np.stack([window for _, window in sorted(self._kept.values(), key=lambda kept: kept[0])])
