"""From a batch of readings to scores: encode, arrange, window, score. The heart of the agent, without I/O, clock or threads."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.adaptation import Adapter
from vedette.contract.bundle import Bundle
from vedette.contract.devices import Slots
from vedette.contract.errors import ScoreError
from vedette.contract.features import Category, DayOfWeek, Elapsed, FeatureEncoder, Number, Raw, Rows, TimeOfDay, Value
from vedette.contract.saved import fingerprint
from vedette.contract.scores import RawScores, Scorer, Scores, Smoother
from vedette.contract.timeline import Timeline
from vedette.contract.windows import Batch, Times, Windower, elapsed_s

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


class Windowed(NamedTuple):
    """What a batch of n readings came to: m windows.

    Attributes:
        sent: float64 `(n, features)`: every reading's values, encoded; NaN all over for one that came too late or again.
        batch: The windows; its positions are among the readings: which one completed each window.
        times: float64 `(m,)`: event time of each window's last row.
        raw: float64 `(m, features)`: the encoded values of each window's last row.
    """

    sent: Raw
    batch: Batch
    times: Times
    raw: Raw


class Detector:
    """Windows and scores a stream's readings with one bundle.

    Args:
        bundle: Verified.
        scorer: Its loaded models.
        merges: Whether a value that a reading lacks is the last one that its device sent.
        drops_repeats: Whether a reading that a device sends again is dropped.

    Attributes:
        scorer: As given; detectors of one model may share it.
        adapter: Knows how far each device has moved from history, where the bundle adapts.
    """

    def __init__(self, bundle: Bundle, scorer: Scorer, *, merges: bool = False, drops_repeats: bool = False) -> None:
        manifest = bundle.manifest
        self.spec = manifest.window
        self.merges, self.drops_repeats = merges, drops_repeats
        self.encoder = FeatureEncoder(manifest.features)
        clocks = [index for index, feature in enumerate(manifest.features) if isinstance(feature, TimeOfDay | DayOfWeek | Elapsed)]
        self.timeline = Timeline(self.spec, len(manifest.features), clocks, merges=merges, drops_repeats=drops_repeats)
        self.windower = Windower(self.spec, len(self.encoder.columns), self.encoder.averages, self.encoder.elapsed)
        self.scorer = scorer
        self._smoother = scorer.smoother()
        self.adapter = scorer.adapter()
        ordinary = np.argsort(np.abs(bundle.golden_scores), kind="stable")[:TYPICAL_WINDOWS]
        self._squares = manifest.detector == "pca" and len(manifest.stages) == 1
        self._typical = bundle.golden_windows[ordinary]
        self._model_fit = fingerprint(manifest)

    def window(self, slots: Slots, times: Times, values: Sequence[Sequence[Value]], dated: npt.NDArray[np.bool_] | None = None) -> Windowed:
        """Take readings into their devices' windows, in the order of arrival.

        Args:
            slots: int `(n,)`: of their devices.
            times: float64 `(n,)`: event times, epoch seconds.
            values: Of each reading, in the order of the features.
            dated: bool `(n,)`: which have a time of their own; None if all have.
        """
        sent = self.encoder.encode(values)
        rows = self.timeline.arrange(slots, times, sent, dated)
        batch = self.windower.push(rows.slots, rows.since_s, self.encoder.transform(rows.raw))
        # Whatever else looks at values must not take them for news either.
        sent[rows.late] = sent[rows.repeated] = np.nan
        completed = batch.positions
        return Windowed(sent, batch._replace(positions=rows.positions[completed]), rows.times[completed], rows.raw[completed])

    def score(self, windowed: Windowed) -> Scores:
        """Score windows, float32 `(m,)`; 1.0 is the threshold.

        Raises:
            ScoreError: a model failed. The windows are counted, and what is smoothed begins anew.
        """
        try:
            raw = self.scorer.raw(windowed.batch.windows)
        except ScoreError:
            self.fail(windowed)
            raise
        return self.conclude(windowed, raw)

    def conclude(self, windowed: Windowed, raw: RawScores) -> Scores:
        """Smooth, adapt, calibrate and combine what the models gave for windows: float64 `(m, voters)` to float32 `(m,)`."""
        batch = windowed.batch
        return self.scorer.combine_adapted(self.adapter.adapt(self._smoother.smooth(raw, batch), batch))

    def fail(self, windowed: Windowed) -> None:
        """Windows could not be scored: what is smoothed begins anew."""
        self._smoother.forget(windowed.batch)

    def counts(self) -> dict[str, int]:
        """`windows` and `waiting` rows, readings that were `late` or `repeated` or are `held` for their turn, windows that `restarted`, and
        `values.REASON` of the encoder.
        """
        return {
            "windows": self.windower.windows,
            "waiting": self.windower.waiting,
            "held": self.timeline.waiting,
            "late": self.timeline.late,
            "repeated": self.timeline.repeated,
            "restarted": self.timeline.restarted,
            **{f"values.{reason}": count for reason, count in self.encoder.counts.items()},
        }

    def reset(self, slots: Slots) -> None:
        """Forget these slots' devices."""
        for part in self._parts().values():
            part.reset(slots)

    def move(self, to: Slots) -> None:
        """Devices have other slots: slot k's now has `to[k]`."""
        for part in self._parts().values():
            part.move(to)

    def take_over(self, other: "Detector") -> None:
        """Go on with another's windows, whose devices have the same slots, where both look at the same features in the same windows;
        otherwise windows fill anew. The other must not be used any more.
        """
        if self.windows_fit() == other.windows_fit():
            self.timeline, self.windower = other.timeline, other.windower

    def windows_fit(self) -> str:
        """What is saved of windows goes with a detector of the same: features, windows, and how readings become rows."""
        return fingerprint(self.encoder.spec, self.encoder.columns, self.spec, self.merges, self.drops_repeats)

    def model_fit(self) -> str:
        """What is saved of scores goes with a detector of the same model, down to its files."""
        return self._model_fit

    def saved(self) -> dict[str, Any]:
        """Windows, and what is remembered of scores; what was counted is not among it."""
        return {name: part.saved() for name, part in self._parts().items()}

    def restore(self, saved: dict[str, Any], *, scores: bool) -> bool:
        """Go on with windows that were saved of a detector of the same `windows_fit`.

        Args:
            saved: See `saved`.
            scores: Whether the `model_fit` is the same, too: what is remembered of scores then goes on.

        Returns:
            Whether all that was saved goes on.
        """
        names = ["timeline", "windower", *(("smoother", "adapter") if scores else ())]
        for name in names:
            self._parts()[name].restore(saved[name])
        return scores or not any(len(array) for name in ("smoother", "adapter") for array in saved[name].values())

    def _parts(self) -> "dict[str, Timeline | Windower | Smoother | Adapter]":
        """What remembers something of devices."""
        return {"timeline": self.timeline, "windower": self.windower, "smoother": self._smoother, "adapter": self.adapter}

    def explain(self, window: Rows, raw: npt.NDArray[np.float64]) -> tuple[Cause, ...]:
        """The features that have most to do with a window's score.

        Where the model says how badly each column was given back, a feature's part is its error, less what it is in typical windows;
        of PCA, whose score is a sum of squared residuals, its part of that sum. Otherwise by baseline substitution: each feature in turn
        is taken from typical windows, and what that takes off the score, on average, is its part.

        The typical windows are the bundle's most ordinary golden ones, because a window of mean values would be none: to a model of
        sequences a flat line is itself strange.

        Args:
            window: float32 `(steps, columns)`.
            raw: float64 `(features,)`: the window's last reading.

        Returns:
            At most MAX_CAUSES, the largest share first; none where no single feature makes a difference.

        Raises:
            ScoreError: a model failed.
        """
        spec = self.encoder.spec
        drops = self._residual_parts(window) if self._squares else self._error_parts(window)
        if drops is None or not drops.sum() > 0:
            drops = self._substitution_parts(window)
        if not (total := float(drops.sum())) > 0:
            return ()
        causes = []
        for index in np.argsort(-drops, kind="stable")[:MAX_CAUSES]:
            feature, share = spec[index], float(drops[index]) / total
            observed = self.encoder.observed(int(index), float(raw[index]))
            if isinstance(feature, Elapsed):
                observed = f"{elapsed_s(float(window[-1, self.encoder.columns.index(feature.name)]), self.spec.max_gap_s):.3g} s"
            expected: float | str | None = None
            if isinstance(feature, Number):
                expected = float(f"{feature.mean:.3g}")
            elif isinstance(feature, Category):
                expected = feature.usual
            if share >= MIN_SHARE:
                causes.append(Cause(feature=feature.name, share=round(share, 2), observed=observed, expected=expected))
        return tuple(causes)

    def _error_parts(self, window: Rows) -> npt.NDArray[np.float64] | None:
        """Each feature's error beyond the typical windows', at least 0; None where the model does not tell."""
        errors = self.scorer.column_errors(np.concatenate([window[None], self._typical]))
        if errors is None:
            return None
        beyond = errors[0] - errors[1:].mean(axis=0)
        parts = np.bincount(self.encoder.feature_of_column, weights=beyond, minlength=len(self.encoder.spec))
        return np.maximum(parts, 0.0)

    def _residual_parts(self, window: Rows) -> npt.NDArray[np.float64]:
        """Each feature's part of a sum of squares, at least 0: its columns' distance from where they typically are, times the slope there.

        Of a quadratic form two values give the slope exactly, so the model file is all that it takes; the parts sum to twice what the
        window scores beyond a typical one (complete decomposition contributions; Alcala and Qin, 2009).
        """
        spec = self.encoder.spec
        mine = np.array(self.encoder.feature_of_column) == np.arange(len(spec))[:, None]
        halves = np.where(mine[:, None, :], (window - self._typical.mean(axis=0)) / 2, 0).astype(np.float32)
        above, below = np.split(self.scorer.raw(np.concatenate([window + halves, window - halves]))[:, 0], 2)
        parts: npt.NDArray[np.float64] = np.maximum(above - below, 0.0)
        return parts

    def _substitution_parts(self, window: Rows) -> npt.NDArray[np.float64]:
        """What each feature takes off the score when it is as in typical windows, at least 0."""
        spec, typical = self.encoder.spec, self._typical
        variants = np.tile(window, (len(spec), len(typical), 1, 1))
        for column, feature in enumerate(self.encoder.feature_of_column):
            variants[feature, :, :, column] = typical[:, :, column]
        scores = self.scorer.score(np.concatenate([window[None], variants.reshape(-1, *window.shape)])).astype(np.float64)
        parts: npt.NDArray[np.float64] = np.maximum(scores[0] - scores[1:].reshape(len(spec), -1).mean(axis=1), 0.0)
        return parts
