"""Tables of an evaluation, as text.

Rules this module keeps: a long table says how much of it is not shown; what matches an alert with an episode is evaluate's rule.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import yaml

from vedette.contract.features import Feature, Number
from vedette.contract.manifest import Manifest
from vedette.contract.scores import Calibration, Feed
from vedette_training.evaluate import Evaluation, Span
from vedette_training.report.words import NONE, amount, count, fixed, moment, p_value, percent, rate_interval, size, span
from vedette_training.run import Run
from vedette_training.study import Clusters, Verdicts

MAX_ROWS = 25


class Table(NamedTuple):
    """Rows below a head; the first `texts` columns are text, the others numbers. `more` says what is not shown, or
    what to know of it; `wraps` where texts are long.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    more: str = ""
    wraps: bool = False


class Figure(NamedTuple):
    """One number that an operator wants, with what it is, and what to see it beside."""

    value: str
    name: str
    beside: str


def figures(evaluation: Evaluation) -> tuple[Figure, ...]:
    """The handful of numbers at the top."""
    episodes, metrics = evaluation.episodes, evaluation.metrics
    chance = metrics["anomalous_windows"] / metrics["windows"] if metrics["windows"] else 0.0
    return (
        Figure(f"{episodes.detected} of {episodes.labelled}", "episodes detected", f"{count(episodes.alerts, 'alert')} in all")
        if episodes.labelled
        else Figure(NONE, "episodes detected", "the data holds no labelled episode"),
        Figure(amount(episodes.false_alerts_per_day), "false alerts a day per device", _asked(evaluation)),
        Figure(
            span(episodes.median_delay_s), "median delay",
            "from an episode's first reading to its alert" if episodes.delays_s else "no episode was detected",
        ),
        Figure(fixed(metrics.get("roc_auc")), "ROC AUC of windows", "chance is 0.5" if "roc_auc" in metrics else "needs both classes"),
        Figure(
            fixed(metrics.get("average_precision")), "average precision",
            f"chance is {amount(chance)}" if "average_precision" in metrics else "needs both classes",
        ),
        _speed(evaluation),
    )  # fmt: skip


def _speed(evaluation: Evaluation) -> Figure:
    if not evaluation.us_per_window:
        return Figure(NONE, "time per window", "was not measured")
    first, *others = sorted(evaluation.us_per_window.items())
    beside = "; ".join(f"{amount(us)} µs {_batch(windows)}" for windows, us in others)
    return Figure(f"{amount(first[1])} µs", f"per window, {_batch(first[0])}", beside or "on the machine that evaluated")


def _batch(windows: int) -> str:
    return "one at a time" if windows == 1 else f"in batches of {windows}"


def _asked(evaluation: Evaluation) -> str:
    asked = evaluation.run.recipe.threshold.alerts_per_day if evaluation.run else None
    return (
        f"asked for: {amount(asked)}"
        if asked
        else "no budget was asked for"
        if evaluation.run
        else "the budget is not known without the run"
    )


def budget(evaluation: Evaluation) -> str | None:
    """What was asked beside what the test part gave."""
    episodes = evaluation.episodes
    if not episodes.device_days > 0:
        return None
    low, high = rate_interval(episodes.false_alerts, episodes.device_days)
    asked = evaluation.run.recipe.threshold.alerts_per_day if evaluation.run else None
    given = (
        f"{count(episodes.false_alerts, 'false alert')} in {amount(episodes.device_days)} device-days = "
        f"{amount(episodes.false_alerts_per_day)} a day of one device "
        f"(95\u00a0% interval, Poisson: {amount(low, 2)} to {amount(high, 2)})"
    )
    if not asked:
        return f"Test data: {given}."
    verdict = (
        "the test data is in keeping with what was asked" if low <= asked <= high
        else "more than was asked: held-out data was calmer than the test data, or alerts come in bursts" if asked < low
        else "fewer than was asked"
    )  # fmt: skip
    return f"Asked: {amount(asked)} a day of one device. Test data: {given}; {verdict}."


def threshold(run: Run | None) -> str:
    """Where 1.0 came from."""
    if run is None:
        return "Where the threshold came from is in the run, which was not at hand."
    asked, held = run.recipe.threshold, count(run.windows.get("calibrate", 0), "held-out window")
    if asked.alerts_per_day is not None:
        return (
            f"The threshold is where {held}, of normal data that the model did not learn from, would give the alerts that were asked for."
        )
    if asked.quantile is not None:
        wider = f", {amount(asked.margin)} times as far from the least score" if asked.margin != 1 else ""
        adapts = f" Each device goes on adapting on its gateway, with a half-life of {amount(asked.adapt)} windows." if asked.adapt else ""
        return (
            f"The threshold is the {amount(asked.quantile)} quantile of the normal ones of {held}{wider}. No budget of alerts was "
            f"asked for.{adapts}"
        )
    return f"The threshold is a probability of {amount(asked.probability)}. No budget of alerts was asked for."


def episodes(evaluation: Evaluation, spans: Sequence[Span], alerts: Sequence[Span]) -> Table:
    """Labelled episodes: which were detected, and when."""
    grace = evaluation.episodes.grace_s
    rows = []
    for labelled in spans:
        starts = [a.start for a in alerts if a.device == labelled.device and a.start <= labelled.end + grace and a.end >= labelled.start]
        found = ("detected", span(max(0.0, min(starts) - labelled.start))) if starts else ("missed", NONE)
        rows.append((labelled.device, found[0], moment(labelled.start), span(labelled.end - labelled.start), found[1]))
    rows.sort(key=lambda row: row[1] != "missed")
    return _cut(Table(("device", "", "from (UTC)", "length", "delay"), tuple(rows), 3), "labelled episode")


def false_alerts(evaluation: Evaluation, spans: Sequence[Span], alerts: Sequence[Span]) -> Table:
    """Alerts outside all labelled episodes."""
    grace = evaluation.episodes.grace_s
    last = {(alert.device, alert.started.timestamp()): alert for alert in evaluation.judged.alerts}
    rows = [
        (alert.device, moment(alert.start), span(alert.end - alert.start), amount(told.peak))
        for alert in alerts
        for told in [last[alert.device, alert.start]]
        if not any(s.device == alert.device and alert.start <= s.end + grace and alert.end >= s.start for s in spans)
    ]
    return _cut(Table(("device", "from (UTC)", "length", "peak score"), tuple(rows), 2), "false alert")


def windows(evaluation: Evaluation) -> Table:
    """The metrics of single windows."""
    rows = []
    for name, value in evaluation.metrics.items():
        words = name.replace("_", " ").replace("roc auc", "ROC AUC").replace("f1", "F1")
        is_share = name in {"precision", "recall", "false_alarm_rate", "missed_alarm_rate"}
        rows.append((words, f"{value:,.0f}" if name.endswith("windows") else percent(value) if is_share else fixed(value)))
    return Table(("per window", ""), tuple(rows))


def comparison(evaluations: Sequence[Evaluation], names: Sequence[str]) -> Table:
    """Several, a row each."""
    head = (
        "",
        "detector",
        "ROC AUC",
        "AP",
        "precision",
        "recall",
        "F1",
        "episodes",
        "false alerts a day",
        "asked",
        "median delay",
    )
    rows = []
    for name, e in zip(names, evaluations, strict=True):
        asked = e.run.recipe.threshold.alerts_per_day if e.run else None
        rows.append((
            name, e.manifest.detector.replace("_", " "), fixed(e.metrics.get("roc_auc")), fixed(e.metrics.get("average_precision")),
            percent(e.metrics.get("precision")), percent(e.metrics.get("recall")), fixed(e.metrics.get("f1")),
            f"{e.episodes.detected} of {e.episodes.labelled}" if e.episodes.labelled else NONE,
            amount(e.episodes.false_alerts_per_day), amount(asked), span(e.episodes.median_delay_s),
        ))  # fmt: skip
    return Table(head, tuple(rows), 2)


def costs(evaluations: Sequence[Evaluation], names: Sequence[str]) -> Table:
    """What several take of a gateway, a row each, beside how well they tell windows apart."""
    sizes = sorted({windows for e in evaluations for windows in e.us_per_window})
    rows = []
    for name, e in zip(names, evaluations, strict=True):
        runtimes = " and ".join(sorted({stage.runtime for stage in e.manifest.stages}))
        speed = (amount(e.us_per_window.get(windows)) for windows in sizes)
        rows.append((name, e.manifest.precision, runtimes, size(e.model_bytes), *speed, fixed(e.metrics.get("average_precision"), 4)))
    return Table(("", "weights", "runtime", "models", *(f"µs, {windows} a call" for windows in sizes), "AP"), tuple(rows), 3)


def clusters(found: Clusters) -> Table:
    """DBSCAN's clusters beside the labels."""
    rows = (
        ("windows clustered", f"{found.windows:,}"), ("eps", amount(found.eps)), ("clusters", str(found.found)),
        ("noise", percent(found.noise_ratio)), ("adjusted Rand index", fixed(found.adjusted_rand)),
        ("homogeneity", fixed(found.homogeneity)), ("completeness", fixed(found.completeness)),
        ("Fowlkes-Mallows", fixed(found.fowlkes_mallows)), ("silhouette", fixed(found.silhouette)),
    )  # fmt: skip
    return Table(("DBSCAN", ""), rows)


def manova(found: Verdicts) -> Table:
    """MANOVA's four statistics."""
    rows = tuple(
        (test.name, fixed(test.value), fixed(test.f, 2), f"{amount(test.df_effect)}; {amount(test.df_error)}", p_value(test.p))
        for test in found.manova
    )
    return Table(("MANOVA", "value", "F", "degrees of freedom", "p"), rows, more="Of two groups, all four rest on the same F.")


def anova(found: Verdicts) -> Table:
    """ANOVA of every feature."""
    rows = tuple(
        (t.feature, fixed(t.eta_squared), fixed(t.f, 2), p_value(t.p), p_value(t.p_corrected), fixed(t.rank_correlation, 2))
        for t in found.anova
    )
    return _cut(Table(("ANOVA", "η²", "F", "p", "p, corrected", "rank correlation with score"), rows), "feature")


def features(manifest: Manifest) -> Table:
    """The features as fitted."""
    return Table(
        ("feature", "kind", "what is known", "mean", "scale"), tuple(_feature(feature) for feature in manifest.features), 3, wraps=True
    )


def _feature(feature: Feature) -> tuple[str, ...]:
    # Whatever the contract comes to know about a feature is told, but for what says nothing.
    defaults = {field.name: field.default for field in msgspec.structs.fields(type(feature))}
    told = {
        key: value
        for key, value in msgspec.structs.asdict(feature).items()
        if key not in {"name", "mean", "scale"} and value != defaults[key]
    }
    low, high = told.pop("minimum", None), told.pop("maximum", None)
    known = [] if low is None and high is None else [f"{NONE if low is None else amount(low)} to {NONE if high is None else amount(high)}"]
    for key, value in told.items():
        values = [str(one) for one in value] if isinstance(value, tuple) else [amount(value) if isinstance(value, float) else str(value)]
        known.append(f"{key.replace('_', ' ')}: {', '.join(values[:12])}{f' and {len(values) - 12} more' if len(values) > 12 else ''}")
    return (
        feature.name, str(feature.__struct_config__.tag).replace("_", " "), "; ".join(known),
        amount(feature.mean) if isinstance(feature, Number) else NONE, amount(feature.scale) if isinstance(feature, Number) else NONE,
    )  # fmt: skip


def stages(manifest: Manifest) -> Table:
    """What a window goes through."""
    rows: list[tuple[str, ...]] = []
    for stage in manifest.stages:
        looks = f"{', '.join(stage.input.outputs)} of {stage.input.stage}" if isinstance(stage.input, Feed) else stage.input
        rows.append((stage.name, stage.runtime, looks, *_calibrated(stage.calibration), amount(stage.smoothing)))
    if manifest.calibration:
        rows.append((f"{manifest.combine} of them", NONE, "their scores", *_calibrated(manifest.calibration), NONE))
    return Table(("stage", "runtime", "looks at", "0 is at", "1 is at", "smoothing"), tuple(rows), 3)


def _calibrated(calibration: Calibration | None) -> tuple[str, str]:
    return (amount(calibration.centre), amount(calibration.threshold)) if calibration else (NONE, NONE)


def sources(manifest: Manifest) -> Table:
    """The files of history."""
    return _cut(
        Table(("history", "SHA-256", "readings"), tuple((s.name, s.sha256[:16], f"{s.rows:,}") for s in manifest.trained_on.sources), 2),
        "file",
    )


def files(manifest: Manifest) -> Table:
    """The bundle's files."""
    return Table(
        ("in the bundle", "SHA-256", "size"), tuple((name, e.sha256[:16], size(e.size)) for name, e in sorted(manifest.files.items())), 2
    )


def libraries(manifest: Manifest) -> Table:
    """Versions that made it."""
    return Table(("library", "version"), tuple(sorted(manifest.libraries.items())), 1)


def recipe(run: Run | None) -> str | None:
    """The recipe as YAML."""
    return yaml.safe_dump(_said(msgspec.to_builtins(run.recipe)), sort_keys=False, allow_unicode=True, width=88) if run else None


def _said(part: Any) -> Any:
    """A recipe without what it leaves open."""
    if isinstance(part, dict):
        return {key: _said(value) for key, value in part.items() if value not in (None, [], {})}
    return [_said(value) for value in part] if isinstance(part, list) else part


def _cut(table: Table, noun: str) -> Table:
    left = len(table.rows) - MAX_ROWS
    return table if left <= 0 else table._replace(rows=table.rows[:MAX_ROWS], more=f"{count(left, f'more {noun}')}, not shown")
