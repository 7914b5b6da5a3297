"""Plots of an evaluation: what each shows, in a picture and in words.

Rules this module keeps: a plot that the data cannot give is None; chance, and the decision that is really taken, are in every curve.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from vedette_training.calibrate import Tail
from vedette_training.detectors import Curve
from vedette_training.evaluate import DRIFT_SHARE, Drift, Evaluation, Span
from vedette_training.report.axes import (
    PERCENT,
    is_wide,
    least,
    log_ticks,
    power,
    score_axis,
    stretch,
    thin_curve,
    thin_line,
    time_axis,
    unit_axes,
)
from vedette_training.report.pictures import WIDE, Key, Plot, colour, draw, short
from vedette_training.report.words import amount, count, fixed, percent

Series = npt.NDArray[np.float64]

MAX_LINE = 300
_BINS = 50


def timeline(
    identity: str, evaluation: Evaluation, device: str, labelled: Sequence[Span], alerts: Sequence[Span], until: tuple[float, float]
) -> Plot:
    """One device's scores over time, with what was labelled and when an alert was open."""
    mine = np.flatnonzero(np.array(evaluation.judged.devices) == device)
    mine = mine[np.argsort(evaluation.judged.times[mine], kind="stable")]
    times, scores = evaluation.judged.times[mine], evaluation.judged.scores[mine].astype(np.float64)

    def paint(axes: Axes, narrow: bool) -> None:
        xs, ys = thin_line(times, scores, evaluation.manifest.window.max_gap_s, MAX_LINE // 2 if narrow else MAX_LINE)
        for spanned in labelled:
            axes.axvspan(spanned.start, max(spanned.end, spanned.start + least(until)), color=colour("labelled"), alpha=0.45, lw=0)
        axes.axhline(1.0, color=colour("ink"), lw=1, ls=(0, (4, 3)))
        axes.plot(xs, ys, color=colour("normal"), lw=1.1)
        # A point between gaps makes no line.
        lonely = np.isfinite(ys) & np.isnan(np.append(np.nan, ys[:-1])) & np.isnan(np.append(ys[1:], np.nan))
        if lonely.any():
            axes.plot(xs[lonely], ys[lonely], color=colour("normal"), ls="none", marker=".", ms=3)
        score_axis(axes.yaxis, scores)
        top = max(1.25, float(scores.max()) * 1.12)
        axes.set_ylim(min(0.0, float(scores.min())), top)
        for spanned in alerts:
            start, end = spanned.start, max(spanned.end, spanned.start + least(until))
            axes.plot(
                [start, end],
                [1.0, 1.0],
                color=colour("alert"),
                lw=4,
                solid_capstyle="butt",
                clip_on=False,
                transform=axes.get_xaxis_transform(),
            )
        time_axis(axes, until, narrow)

    words = [count(len(labelled), "labelled episode"), count(len(alerts), "alert")]
    label = (
        f"{device}: scores of {count(len(mine), 'window')} over time, median {amount(np.median(scores))}, highest "
        f"{amount(scores.max())}; {', '.join(words)}"
    )
    return draw(identity, device, label, "", paint, size=WIDE)


TIMELINE_KEYS = (
    Key("normal", "line", "score"), Key("ink", "dash", "threshold, 1.0"), Key("labelled", "band", "labelled anomalous"),
    Key("alert", "bar", "alert open"),
)  # fmt: skip


def roc(identity: str, evaluations: Sequence[Evaluation], names: Sequence[str]) -> Plot | None:
    """Receiver operating characteristic, with the decision at 1.0."""
    chosen = [(k, e) for k, e in enumerate(evaluations) if "roc_auc" in e.metrics]
    if not chosen:
        return None

    def paint(axes: Axes, narrow: bool) -> None:  # noqa: ARG001 because all plots are asked alike
        axes.plot([0, 1], [0, 1], color=colour("muted"), lw=1, ls=(0, (2, 3)))
        for k, e in chosen:
            false, true, _ = roc_curve(e.judged.anomalous, e.judged.scores)
            axes.plot(*thin_curve(false, true), color=_series(k, len(evaluations)), lw=1.8)
            axes.plot([e.metrics["false_alarm_rate"]], [e.metrics["recall"]], **_ring(k, len(evaluations)))
        unit_axes(axes, "share of normal windows flagged", "share of anomalous windows flagged")

    caption = (
        "Up and to the left is better. The ring is where the threshold of 1.0 stands; dotted is what guessing gives. With few "
        "anomalous windows "
        "a good curve can still mean many false alarms: see precision and recall."
    )
    said = "; ".join(
        f"{names[k]}: area {fixed(e.metrics['roc_auc'])}, at the threshold {percent(e.metrics['recall'])} of the anomalous and "
        f"{percent(e.metrics['false_alarm_rate'])} of the normal windows are flagged" for k, e in chosen
    )  # fmt: skip
    keys = [
        Key(
            _series_name(k, len(evaluations)),
            "line",
            f"{names[k]}: {fixed(e.metrics['roc_auc'])}" if len(names) > 1 else f"area {fixed(e.metrics['roc_auc'])}",
        )
        for k, e in chosen
    ]
    return draw(identity, "ROC", f"ROC curve. {said}", caption, paint, [*keys, Key("muted", "dots", "chance: 0.5")])


def precision_recall(identity: str, evaluations: Sequence[Evaluation], names: Sequence[str]) -> Plot | None:
    """Precision by recall, with the decision at 1.0."""
    chosen = [(k, e) for k, e in enumerate(evaluations) if "average_precision" in e.metrics]
    if not chosen:
        return None
    chances = [float(e.judged.anomalous.mean()) for _, e in chosen]

    def paint(axes: Axes, narrow: bool) -> None:  # noqa: ARG001 because all plots are asked alike
        for chance in sorted(set(chances)):
            axes.axhline(chance, color=colour("muted"), lw=1, ls=(0, (2, 3)))
        for k, e in chosen:
            precision, recall, _ = precision_recall_curve(e.judged.anomalous, e.judged.scores)
            # The last point, precision 1 at recall 0, belongs to no threshold.
            axes.plot(*thin_curve(recall[:-1], precision[:-1]), color=_series(k, len(evaluations)), lw=1.8, drawstyle="steps-post")
            if "precision" in e.metrics:
                axes.plot([e.metrics["recall"]], [e.metrics["precision"]], **_ring(k, len(evaluations)))
        unit_axes(axes, "recall: share of anomalous windows flagged", "precision: share of flags that are right")

    caption = (
        "Up and to the right is better. The ring is where the threshold of 1.0 stands; dotted is the share of anomalous windows, "
        "which is what guessing gives."
    )
    said = "; ".join(
        f"{names[k]}: average precision {fixed(e.metrics['average_precision'])}, at the threshold recall {percent(e.metrics['recall'])}"
        + (f" and precision {percent(e.metrics['precision'])}" if "precision" in e.metrics else ", nothing flagged")
        for k, e in chosen
    )
    keys = [
        Key(
            _series_name(k, len(evaluations)),
            "line",
            f"{names[k]}: {fixed(e.metrics['average_precision'])}"
            if len(names) > 1
            else f"average precision {fixed(e.metrics['average_precision'])}",
        )
        for k, e in chosen
    ]
    chance_words = f"chance: {' to '.join(sorted({amount(c) for c in (min(chances), max(chances))}))}"
    return draw(
        identity, "Precision and recall", f"Precision-recall curve. {said}", caption, paint, [*keys, Key("muted", "dots", chance_words)]
    )


def confusion(identity: str, evaluation: Evaluation) -> Plot:
    """Windows by label and verdict."""
    flagged, anomalous = evaluation.judged.scores >= 1.0, evaluation.judged.anomalous
    cells = np.array([[int((row & column).sum()) for column in (~flagged, flagged)] for row in (~anomalous, anomalous)])
    rows = ("normal", "anomalous")

    def paint(axes: Axes, narrow: bool) -> None:  # noqa: ARG001 because all plots are asked alike
        for row in range(2):
            total = cells[row].sum()
            for column in range(2):
                share = cells[row, column] / total if total else 0.0
                right = row == column
                axes.add_patch(
                    Rectangle(
                        (column + 0.02, 1 - row + 0.03),
                        0.96,
                        0.94,
                        facecolor=colour("good" if right else "alert"),
                        alpha=0.08 + 0.5 * share,
                        lw=0,
                    )
                )
                axes.text(column + 0.5, 1.56 - row, f"{cells[row, column]:,}", ha="center", va="center", size=17)
                axes.text(column + 0.5, 1.28 - row, percent(share) if total else "no such windows", ha="center", va="center", size=11.5)
        axes.set(xlim=(0, 2), ylim=(0, 2))
        axes.set_xticks([0.5, 1.5], ["not flagged", "flagged"])
        axes.set_yticks([1.5, 0.5], rows)
        axes.tick_params(length=0, labelcolor=colour("ink"))
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)

    said = "; ".join(f"{row}: {left:,} not flagged, {right:,} flagged" for row, (left, right) in zip(rows, cells.tolist(), strict=True))
    caption = "Rows are what was labelled, columns what the detector said; percentages are of the row. Green is right, red is wrong."
    return draw(identity, "Windows", f"Confusion matrix. {said}", caption, paint)


def histogram(identity: str, evaluation: Evaluation) -> Plot:
    """How scores are spread, of normal and of anomalous windows."""
    scores, anomalous = evaluation.judged.scores.astype(np.float64), evaluation.judged.anomalous
    stretched = stretch(scores) if is_wide(scores) else scores
    low, high = min(0.0, float(stretched.min())), max(1.2, float(stretched.max()))
    edges = np.linspace(low, high, _BINS + 1)
    groups = [(name, mask) for name, mask in (("normal", ~anomalous), ("anomalous", anomalous)) if mask.any()]

    def paint(axes: Axes, narrow: bool) -> None:  # noqa: ARG001 because all plots are asked alike
        for name, mask in groups:
            shares = np.histogram(stretched[mask], edges)[0] / mask.sum()
            axes.stairs(shares, edges, fill=True, color=colour(name), alpha=0.28, lw=0)
            axes.stairs(shares, edges, color=colour(name), lw=1.4)
        axes.axvline(float(stretch(np.array([1.0]))[0]), color=colour("ink"), lw=1, ls=(0, (4, 3)))
        axes.set_xlim(low, high)
        if is_wide(scores):
            ticks = log_ticks(scores)
            axes.set_xticks(stretch(np.array(ticks)).tolist(), [power(tick) for tick in ticks])
        axes.yaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.set(xlabel="score", ylabel="share of the class's windows")
        axes.grid(visible=False, axis="x")

    said = "; ".join(
        f"{name}: {count(int(mask.sum()), 'window')}, median {amount(np.median(scores[mask]))}, "
        f"{percent(float((scores[mask] >= 1.0).mean()))} at or over 1.0"
        for name, mask in groups
    )
    caption = "The less the two overlap the better; what is right of the threshold is flagged."
    if is_wide(scores):
        caption += " The axis is linear up to 1.0 and logarithmic beyond."
    return draw(
        identity,
        "Scores",
        f"Score histogram. {said}",
        caption,
        paint,
        [*(Key(name, "box", name) for name, _ in groups), Key("ink", "dash", "threshold, 1.0")],
    )


def tail(identity: str, fitted: Tail, asked: float | None) -> Plot | None:
    """How often held-out normal data passes a height: counted, and as the generalised Pareto distribution says."""
    if not fitted.peaks or not fitted.device_days > 0:
        return None
    heights = np.array(fitted.peaks)[::-1]
    rates = np.arange(1, len(heights) + 1) / fitted.device_days
    right = max(fitted.threshold, float(heights[0]))
    xs = np.linspace(fitted.level, right + 0.06 * (right - fitted.level), 200)
    excess = (xs - fitted.level) / fitted.scale
    with np.errstate(invalid="ignore", divide="ignore"):
        survival = np.exp(-excess) if fitted.shape == 0 else np.maximum(1 + fitted.shape * excess, 0) ** (-1 / fitted.shape)
    expected = fitted.count / fitted.device_days * survival
    lowest = min(rates[0], asked or rates[0]) / 3

    def paint(axes: Axes, narrow: bool) -> None:  # noqa: ARG001 because all plots are asked alike
        shown = expected > lowest / 2
        axes.plot(xs[shown], expected[shown], color=colour("ink"), lw=1.2)
        axes.plot(heights, rates, ls="none", marker="o", ms=4, mew=0, color=colour("normal"), alpha=0.7, zorder=3)
        axes.axvline(fitted.threshold, color=colour("alert"), lw=1.2, ls=(0, (4, 3)))
        if asked:
            axes.axhline(asked, color=colour("good"), lw=1.2, ls=(0, (4, 3)))
        axes.set_yscale("log")
        axes.set_ylim(lowest, max(float(rates[-1]), fitted.count / fitted.device_days) * 1.6)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set(xlabel="height of a peak, raw score", ylabel="peaks a device-day over it")

    label = (
        f"Peaks of held-out normal data: {count(fitted.count, 'peak')} over {amount(fitted.level)} in "
        f"{amount(fitted.device_days)} device-days, the highest "
        f"{amount(heights[0])}; generalised Pareto of scale {amount(fitted.scale)} and shape {amount(fitted.shape)}; threshold "
        f"{amount(fitted.threshold)}"
    )
    caption = (
        "Each dot is one peak that could have raised an alert, on normal data that was held out. Where the fitted line meets the "
        "budget is the "
        "threshold; a line far from the dots means that the threshold is a guess."
    )
    keys = [Key("normal", "dot", "counted"), Key("ink", "line", "generalised Pareto"), Key("alert", "dash", "threshold")]
    return draw(
        identity,
        "What the threshold was taken from",
        label,
        caption,
        paint,
        [*keys, *([Key("good", "dash", f"asked: {amount(asked)} a day")] if asked else [])],
    )


def drift(identity: str, found: Drift) -> Plot | None:
    """Share of the normal windows that is flagged, over time."""
    shares = [(start, share) for start, share in zip(found.starts, found.flagged, strict=True) if share is not None]
    if not shares:
        return None
    width = found.starts[1] - found.starts[0] if len(found.starts) > 1 and found.starts[1] > found.starts[0] else 60.0
    until = (found.starts[0], found.starts[-1] + width)

    def paint(axes: Axes, narrow: bool) -> None:
        for start, share in shares:
            over = share > DRIFT_SHARE
            axes.bar(start, share, 0.94 * width, align="edge", color=colour("alert" if over else "normal"), alpha=0.75, lw=0)
        axes.axhline(DRIFT_SHARE, color=colour("ink"), lw=1, ls=(0, (4, 3)))
        axes.set_ylim(0, max(0.25, *(1.1 * share for _, share in shares)))
        axes.yaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.grid(visible=False, axis="x")
        time_axis(axes, until, narrow)

    label = f"Share of normal windows flagged, tenth by tenth of the time: {', '.join(percent(share) for _, share in shares)}"
    caption = f"Flat and low is well. A last bar over {DRIFT_SHARE:.0%} (dashed) means that normal data is no longer what it was."
    return draw(identity, "", label, caption, paint, size=WIDE)


def learning(identity: str, name: str, curve: Curve) -> Plot | None:
    """Loss by epoch beside that of a model that knows nothing."""
    if not curve.loss:
        return None
    values = [*curve.loss, *curve.validation_loss, *([curve.baseline] if curve.baseline is not None else [])]

    def paint(axes: Axes, narrow: bool) -> None:  # noqa: ARG001 because all plots are asked alike
        for losses, which in ((curve.loss, "normal"), (curve.validation_loss, "anomalous")):
            if losses:
                epochs = range(1, len(losses) + 1)
                axes.plot(epochs, losses, color=colour(which), lw=1.7, marker="o" if len(losses) < 3 else None, ms=4)
        if curve.baseline is not None:
            axes.axhline(curve.baseline, color=colour("muted"), lw=1.2, ls=(0, (2, 3)))
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
        else:
            axes.set_ylim(0, 1.08 * max(values))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(xlabel="epoch", ylabel="loss")

    ends = [f"loss {amount(curve.loss[0])} to {amount(curve.loss[-1])} in {count(len(curve.loss), 'epoch')}"]
    keys = [Key("normal", "line", "learnt from")]
    if curve.validation_loss:
        ends.append(f"on watched windows {amount(min(curve.validation_loss))} at best")
        keys.append(Key("anomalous", "line", "only watched"))
    if curve.baseline is not None:
        ends.append(f"predicting the mean gives {amount(curve.baseline)}")
        keys.append(Key("muted", "dots", f"predicting the mean: {amount(curve.baseline)}"))
    caption = (
        "A model is worth its place where it ends well under what predicting the mean gives. Where only the watched line turns "
        "up again, it has learnt by heart."
    )
    return draw(identity, name, f"Learning of {short(name)}: {'; '.join(ends)}", caption, paint, keys)


def _series_name(place: int, many: int) -> str:
    return "normal" if many == 1 else f"series-{place % 6 + 1}"


def _series(place: int, many: int) -> str:
    return colour(_series_name(place, many))


def _ring(place: int, many: int) -> dict[str, Any]:
    own = _series(place, many)
    return {"marker": "o", "ms": 8, "mfc": colour("paper"), "mec": own, "mew": 2.2, "ls": "none", "clip_on": False, "zorder": 5}
