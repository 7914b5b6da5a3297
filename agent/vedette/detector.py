"""From a batch of readings to scores: encode, window, score. The heart of the agent, without I/O, clock or threads."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.bundle import Bundle
from vedette.contract.errors import ScoreError
from vedette.contract.features import Category, Elapsed, FeatureEncoder, Number, Raw, Rows
from vedette.contract.readings import Reading
from vedette.contract.scores import Scorer, Scores
from vedette.contract.windows import Windower, elapsed_s

TYPICAL_WINDOWS = 8
MAX_CAUSES = 3
MIN_SHARE = 0.05


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """How much one feature has to do with a score.

    Attributes:
        share: Part of the score's excess that goes away when the feature is as expected, 0 to 1.
        observed: The window's last value; null where nothing usable was sent.
        expected: What is usual: the mean, or the most frequent value; null where that is not known.
    """

    feature: str
    share: float
    observed: float | str | None
    expected: float | str | None

    def words(self) -> str:
        """The cause for people."""
        if self.observed == self.expected:
            return f"{self.feature}, earlier in the window"
        return f"{self.feature} {_shown(self.observed)}" + (f" (usual {_shown(self.expected)})" if self.expected is not None else "")


def _shown(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class Scored(NamedTuple):
    """A scored batch of n readings, m of which completed a window.

    Attributes:
        positions: int `(m,)`: which reading completed each window.
        windows: float32 `(m, steps, columns)`.
        scores: float32 `(m,)`.
        raw: float64 `(n, features)`: every reading's values, encoded.
    """

    positions: npt.NDArray[np.intp]
    windows: Rows
    scores: Scores
    raw: Raw


class Detector:
    """Scores a stream's readings with one bundle.

    Args:
        bundle: Verified.
        scorer: Its loaded models.
        max_devices: Cap on devices whose windows are kept.

    Attributes:
        adapter: Knows how far each device has moved from history, where the bundle adapts.
    """

    def __init__(self, bundle: Bundle, scorer: Scorer, max_devices: int) -> None:
        manifest = bundle.manifest
        self.encoder = FeatureEncoder(manifest.features)
        self.windower = Windower(manifest.window, len(self.encoder.columns), max_devices, self.encoder.averages, self.encoder.elapsed)
        self._scorer = scorer
        self._smoother = scorer.smoother()
        self.adapter = scorer.adapter()
        ordinary = np.argsort(np.abs(bundle.golden_scores), kind="stable")[:TYPICAL_WINDOWS]
        self._typical = bundle.golden_windows[ordinary]

    def score(self, readings: Sequence[Reading]) -> Scored:
        """Score a batch in the order of arrival.

        Raises:
            ScoreError: a model failed. The readings are in their windows all the same.
        """
        raw = self.encoder.encode([reading.values for reading in readings])
        rows = self.encoder.transform(raw)
        batch = self.windower.push_batch([r.device for r in readings], [r.time for r in readings], rows)
        try:
            raw_scores = self._scorer.raw(batch.windows)
        except ScoreError:
            self._smoother.forget(batch)
            self.adapter.forget(batch)
            raise
        scores = self._scorer.combine_adapted(self.adapter.adapt(self._smoother.smooth(raw_scores, batch), batch))
        return Scored(batch.positions, batch.windows, scores, raw)

    def counts(self) -> dict[str, int]:
        """`windows`, `waiting`, `late`, `restarted` and `evicted` of the windower, `values.REASON` of the encoder."""
        windower = self.windower
        return {
            **{name: getattr(windower, name) for name in ("windows", "waiting", "late", "restarted", "evicted")},
            **{f"values.{reason}": count for reason, count in self.encoder.counts.items()},
        }

    def take_over(self, other: "Detector") -> None:
        """Go on with another's windows, where both look at the same features in the same windows; otherwise windows fill anew."""
        if self.encoder.spec == other.encoder.spec and self.windower.spec == other.windower.spec:
            self.windower.take_over(other.windower)

    def explain(self, window: Rows, raw: npt.NDArray[np.float64]) -> tuple[Cause, ...]:
        """The features that have most to do with a window's score, by baseline substitution: each in turn is taken from typical
        windows, and what that takes off the score, on average, is its part.

        The typical windows are the bundle's most ordinary golden ones, because a window of mean values would be none: to a model of
        sequences a flat line is itself strange.

        Args:
            window: float32 `(steps, columns)`.
            raw: float64 `(features,)`: the window's last reading.

        Returns:
            At most MAX_CAUSES, the largest share first; none where no single feature makes a difference.
        """
        spec, typical = self.encoder.spec, self._typical
        variants = np.tile(window, (len(spec), len(typical), 1, 1))
        for column, feature in enumerate(self.encoder.feature_of_column):
            variants[feature, :, :, column] = typical[:, :, column]
        scores = self._scorer.score(np.concatenate([window[None], variants.reshape(-1, *window.shape)]))
        drops = np.maximum(scores[0] - scores[1:].reshape(len(spec), -1).mean(axis=1), 0.0)
        if not (total := float(drops.sum())) > 0:
            return ()
        causes = []
        for index in np.argsort(-drops, kind="stable")[:MAX_CAUSES]:
            feature, share = spec[index], float(drops[index]) / total
            observed = self.encoder.observed(int(index), float(raw[index]))
            if isinstance(feature, Elapsed):
                observed = f"{elapsed_s(float(window[-1, self.encoder.columns.index(feature.name)]), self.windower.spec.max_gap_s):.3g} s"
            expected: float | str | None = None
            if isinstance(feature, Number):
                expected = float(f"{feature.mean:.3g}")
            elif isinstance(feature, Category):
                expected = feature.usual
            if share >= MIN_SHARE:
                causes.append(Cause(feature=feature.name, share=round(share, 2), observed=observed, expected=expected))
        return tuple(causes)
