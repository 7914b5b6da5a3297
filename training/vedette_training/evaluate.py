"""Figures of a judgement, with the field's standard metrics: per window, and per episode as an operator counts.

Rules this module keeps: a window is flagged when its score is at least 1.0, as on the gateway; a metric that the data cannot measure
(precision where nothing was flagged, ROC AUC on one class) is left out, never made up.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from vedette.alerts import Alert
from vedette.contract.manifest import Manifest
from vedette.contract.scores import Scores
from vedette.contract.windows import WindowSpec
from vedette_training.judging import Judged
from vedette_training.run import Labelled, Run
from vedette_training.study import Study

Metrics = Mapping[str, float]
Labels = npt.NDArray[np.bool_]

_DAY_S = 86400.0
DRIFT_BINS = 10
DRIFT_SHARE = 0.2
"""A tenth of the time in which more than this share of the normal windows is flagged is no series of false alarms."""


class Span(NamedTuple):
    """A time of one device, epoch seconds, both ends included."""

    device: str
    start: float
    end: float


class Episodes(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts beside labelled episodes: runs of anomalous readings of a device.

    Attributes:
        labelled: How many there are, of which so many were `detected`: an alert was open at some time in them, or began in the
            `grace_s` after, when windows still hold their readings.
        delays_s: From each detected one's first reading to its alert; 0 where one was open already.
        false_alerts: Alerts that began and ended outside all of them.
        device_days: That were judged, in all.
    """

    labelled: int
    detected: int
    delays_s: tuple[float, ...]
    alerts: int
    false_alerts: int
    device_days: float
    grace_s: float

    @property
    def false_alerts_per_day(self) -> float | None:
        """Of one device."""
        return self.false_alerts / self.device_days if self.device_days > 0 else None

    @property
    def median_delay_s(self) -> float | None:
        """Of the detected ones."""
        return float(np.median(self.delays_s)) if self.delays_s else None


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """Whether normal data is still what it was: share of the normal windows that is flagged, tenth by tenth of the time.

    Attributes:
        starts: Of the tenths, epoch seconds.
        flagged: None where a tenth holds no normal window.
        devices: Those of whose normal windows more than half are flagged in the last tenth of their time.
    """

    starts: tuple[float, ...]
    flagged: tuple[float | None, ...]
    devices: tuple[str, ...]

    @property
    def verdict(self) -> str | None:
        """A sentence where data has shifted, or None."""
        shares = [share for share in self.flagged if share is not None]
        if not shares or shares[-1] <= DRIFT_SHARE:
            return None
        which = f" (most of all {', '.join(self.devices[:3])})" if self.devices else ""
        return (
            f"normal data has shifted: {shares[-1]:.0%} of the normal windows at the end are over the threshold{which}; the agent will "
            "tell it as drift: train again with newer history"
        )


def measure(scores: Scores, anomalous: Labels) -> Metrics:
    """Compare windows' scores with labels.

    Args:
        scores: `(n,)`, 1.0 at the threshold.
        anomalous: bool `(n,)`.

    Returns:
        `windows`, `anomalous_windows`, `flagged_windows`, and as far as they are defined `roc_auc`,
        `average_precision`, `precision`, `recall`, `f1`, `false_alarm_rate` (share of the normal windows that is
        flagged) and `missed_alarm_rate` (share of the anomalous ones that is not).
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
        metrics["missed_alarm_rate"] = 1 - hits / positives
    if negatives:
        metrics["false_alarm_rate"] = false_alarms / negatives
    return metrics


def table(metrics: Metrics) -> str:
    """Metrics as lines of name and value."""
    return "\n".join(
        f"{name.replace('_', ' '):<22}{value:>10.4f}" if not name.endswith("windows") else f"{name.replace('_', ' '):<22}{value:>10.0f}"
        for name, value in metrics.items()
    )


def labelled_spans(labelled: Labelled) -> list[Span]:
    """Runs of anomalous readings of a device, in the order of their readings."""
    spans: list[Span] = []
    running: dict[str, tuple[float, float]] = {}
    for device, time, anomalous in zip(labelled.devices, labelled.times, labelled.anomalous, strict=True):
        if anomalous:
            start, _ = running.get(device, (time, time))
            running[device] = (start, time)
        elif device in running:
            spans.append(Span(device, *running.pop(device)))
    return sorted(spans + [Span(device, *span) for device, span in running.items()], key=lambda span: (span.start, span.device))


def alert_spans(alerts: Sequence[Alert], until: float) -> list[Span]:
    """From each anomaly's `new` to its `end`, or to `until` where it was open still. Drift is no alarm of its own: it goes on with the
    anomaly that it followed.
    """
    ends = {alert.id: alert.time.timestamp() for alert in alerts if alert.type == "end"}
    drifts = {(a.device, a.started): ends.get(a.id, until) for a in alerts if a.type == "new" and a.kind == "drift"}
    spans = []
    for alert in alerts:
        if alert.type == "new" and alert.kind == "anomaly":
            end = ends.get(alert.id, until)
            spans.append(Span(alert.device, alert.started.timestamp(), drifts.get((alert.device, datetime.fromtimestamp(end, UTC)), end)))
    return spans


def count_episodes(judged: Judged, labelled: Labelled, window: WindowSpec) -> Episodes:
    """Set alerts beside labelled episodes.

    Args:
        judged: What became of the readings.
        labelled: The readings.
        window: The bundle's.
    """
    interval_s, device_days = _watched(judged, window.max_gap_s)
    grace_s = window.steps * interval_s
    alerts = alert_spans(judged.alerts, max(labelled.times, default=0.0))
    by_device: dict[str, list[Span]] = {}
    for alert in alerts:
        by_device.setdefault(alert.device, []).append(alert)
    delays, matched = [], set()
    spans = labelled_spans(labelled)
    for span in spans:
        hits = [a for a in by_device.get(span.device, []) if a.start <= span.end + grace_s and a.end >= span.start]
        matched.update(hits)
        if hits:
            delays.append(max(0.0, min(a.start for a in hits) - span.start))
    return Episodes(
        labelled=len(spans),
        detected=len(delays),
        delays_s=tuple(delays),
        alerts=len(alerts),
        false_alerts=len(alerts) - len(matched),
        device_days=device_days,
        grace_s=grace_s,
    )


def find_drift(judged: Judged) -> Drift:
    """Look at the normal windows' flags over time."""
    normal = np.flatnonzero(~judged.anomalous)
    if not len(normal):
        return Drift(starts=(), flagged=(), devices=())
    times, flagged = judged.times[normal], judged.scores[normal] >= 1.0
    edges = np.linspace(times.min(), times.max(), DRIFT_BINS + 1)
    tenth = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, DRIFT_BINS - 1)
    shares = [float(flagged[tenth == k].mean()) if (tenth == k).any() else None for k in range(DRIFT_BINS)]
    names = np.array(judged.devices)[normal]
    shifted = []
    for device in sorted(set(names.tolist())):
        mine = np.flatnonzero(names == device)
        late = mine[-max(1, len(mine) // DRIFT_BINS) :]
        if flagged[late].mean() > 0.5:
            shifted.append((float(flagged[late].mean()), device))
    return Drift(starts=tuple(edges[:-1].tolist()), flagged=tuple(shares), devices=tuple(d for _, d in sorted(shifted, reverse=True)))


def _watched(judged: Judged, max_gap_s: float) -> tuple[float, float]:
    """Seconds between a device's windows, usually; and how many device-days were judged."""
    order = np.lexsort((np.arange(len(judged.times)), np.array(judged.devices)))
    names, times = np.array(judged.devices)[order], judged.times[order]
    between = np.diff(times)[names[1:] == names[:-1]]
    between = between[(between >= 0) & (between <= max_gap_s)]
    return float(np.median(between)) if len(between) else 0.0, float(between.sum()) / _DAY_S


class Evaluation(NamedTuple):
    """All that a report is made from, for one bundle on one set of labelled readings.

    Attributes:
        manifest: The bundle's.
        run: What it was exported from, where that is at hand: with the audit, the learning curves and the calibration's tail.
        judged: What became of the readings, through the gateway's runtime.
        labelled: The readings.
        study: Of the latent space, where there is one.
        us_per_window: Scoring on this machine, microseconds by batch size.
    """

    manifest: Manifest
    run: Run | None
    judged: Judged
    labelled: Labelled
    metrics: Metrics
    episodes: Episodes
    drift: Drift
    study: Study | None
    us_per_window: Mapping[int, float]

    @property
    def model_bytes(self) -> int:
        """Of all model files."""
        return sum(self.manifest.files[stage.file].size for stage in self.manifest.stages)
