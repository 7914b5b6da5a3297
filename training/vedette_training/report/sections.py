"""Sections: everything that the page says of one evaluation, or of several beside each other, ready to be set."""

from collections.abc import Sequence
from typing import NamedTuple

from vedette_training import audit
from vedette_training.audit import Finding
from vedette_training.evaluate import Evaluation, Span, alert_spans, labelled_spans
from vedette_training.report import plots, study_plots, tables
from vedette_training.report.pictures import Key, Plot
from vedette_training.report.tables import Figure, Table
from vedette_training.report.words import count, moment
from vedette_training.study import Study

MAX_DEVICES = 8


class StudySection(NamedTuple):
    """The latent study, or why a part of it is not there."""

    words: str
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]
    absent: tuple[str, ...]


class Section(NamedTuple):
    """All of one evaluation, in the page's order; what is None or empty could not be had."""

    anchor: str
    name: str
    detector: str
    what: str
    headline: str | None
    drifted: str | None
    figures: tuple[Figure, ...]
    findings: tuple[Finding, ...]
    audited: bool
    timelines: tuple[Plot, ...]
    timeline_keys: tuple[Key, ...]
    devices: str
    curves: tuple[Plot, ...]
    confusion: Plot | None
    windows: Table
    episodes: Table
    false_alerts: Table
    threshold: str
    budget: str | None
    distribution: tuple[Plot, ...]
    drift: Plot | None
    learning: tuple[Plot, ...]
    study: StudySection | None
    made: tuple[Table, ...]
    recipe: str | None


class Comparison(NamedTuple):
    """Several beside each other; `caveat` where they were not judged on the same windows."""

    table: Table
    costs: Table
    plots: tuple[Plot, ...]
    headlines: tuple[tuple[str, str], ...]
    caveat: str | None


def name(evaluations: Sequence[Evaluation]) -> list[str]:
    """A name for each that no other has."""
    names = [f"{e.manifest.name} {e.manifest.version}" for e in evaluations]
    if len(set(names)) < len(names) and len({e.manifest.precision for e in evaluations}) > 1:
        names = [f"{named}, {e.manifest.precision}" for named, e in zip(names, evaluations, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{named}, {e.manifest.detector}" for named, e in zip(names, evaluations, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{named} ({place})" for place, named in enumerate(names, start=1)]
    return names


def describe(anchor: str, evaluation: Evaluation, named: str) -> Section:
    """Make the section of one evaluation; its plots' ids begin with `anchor`."""
    manifest, run, judged = evaluation.manifest, evaluation.run, evaluation.judged
    spans = labelled_spans(evaluation.labelled)
    alerts = alert_spans(judged.alerts, max(evaluation.labelled.times, default=0.0))
    timelines, devices = _timelines(anchor, evaluation, spans, alerts)
    curves = (plots.roc(f"{anchor}-roc", [evaluation], [named]), plots.precision_recall(f"{anchor}-pr", [evaluation], [named]))
    fitted = plots.tail(f"{anchor}-tail", run.tail, run.recipe.threshold.alerts_per_day) if run and run.tail else None
    histogram = plots.histogram(f"{anchor}-scores", evaluation) if len(judged.scores) else None
    learning = (
        [plots.learning(f"{anchor}-learn{k}", stage, curve) for k, (stage, curve) in enumerate(sorted(run.curves.items()))] if run else []
    )
    return Section(
        anchor=anchor,
        name=named,
        detector=manifest.detector,
        what=_what(evaluation),
        headline=audit.headline(run.findings) if run else None,
        drifted=evaluation.drift.verdict,
        figures=tables.figures(evaluation),
        findings=run.findings if run else (),
        audited=run is not None,
        timelines=timelines,
        timeline_keys=plots.TIMELINE_KEYS,
        devices=devices,
        curves=_there(curves),
        confusion=plots.confusion(f"{anchor}-confusion", evaluation) if len(judged.scores) else None,
        windows=tables.windows(evaluation),
        episodes=tables.episodes(evaluation, spans, alerts),
        false_alerts=tables.false_alerts(evaluation, spans, alerts),
        threshold=tables.threshold(run),
        budget=tables.budget(evaluation),
        distribution=_there((histogram, fitted)),
        drift=plots.drift(f"{anchor}-drift", evaluation.drift),
        learning=_there(learning),
        study=_study(anchor, evaluation.study) if evaluation.study else None,
        made=tuple(table for table in (
            tables.features(manifest), tables.stages(manifest), tables.sources(manifest), tables.files(manifest), tables.libraries(manifest)
        ) if table.rows),
        recipe=tables.recipe(run),
    )  # fmt: skip


def compare(evaluations: Sequence[Evaluation], names: Sequence[str]) -> Comparison:
    """Set several beside each other."""
    first = evaluations[0].judged
    same = all(e.judged.devices == first.devices and (e.judged.times.tolist(), e.judged.anomalous.tolist()) ==
               (first.times.tolist(), first.anomalous.tolist()) for e in evaluations[1:])  # fmt: skip
    headlines = [(named, audit.headline(e.run.findings)) for named, e in zip(names, evaluations, strict=True) if e.run]
    return Comparison(
        tables.comparison(evaluations, names),
        tables.costs(evaluations, names),
        _there((plots.roc("all-roc", evaluations, names), plots.precision_recall("all-pr", evaluations, names))),
        tuple((named, headline) for named, headline in headlines if headline),
        None if same else "They were not judged on the same windows: a difference between two rows may be one of the data.",
    )


def _what(evaluation: Evaluation) -> str:
    manifest = evaluation.manifest
    trained = manifest.trained_on
    sources = count(len(trained.sources), "file")
    readings = count(sum(source.rows for source in trained.sources), "reading")
    learnt = (
        f"learnt from {count(trained.windows, 'window')} of {manifest.window.steps} readings, {moment(trained.first)} to "
        f"{moment(trained.last)} UTC ({sources}, {readings})"
    )
    test = f"judged on {count(len(evaluation.judged.scores), 'window')} of {count(len(set(evaluation.judged.devices)), 'device')}"
    return f"A bundle made on {moment(manifest.created)} UTC; {learnt}; {test}, through the gateway's own runtime and rules."


def _timelines(anchor: str, evaluation: Evaluation, spans: Sequence[Span], alerts: Sequence[Span]) -> tuple[tuple[Plot, ...], str]:
    """Of the devices that tell most: those with labelled episodes, then with most alerts, then with the highest scores."""
    judged = evaluation.judged
    if not len(judged.scores):
        return (), "no window was judged"
    highest: dict[str, float] = {}
    for device, score in zip(judged.devices, judged.scores.tolist(), strict=True):
        highest[device] = max(score, highest.get(device, score))
    labelled, alerted = ({d: [s for s in which if s.device == d] for d in highest} for which in (spans, alerts))
    # Episodes that nothing was said of come first of all: they are what to look into.
    ranked = sorted(highest, key=lambda d: (not labelled[d], bool(alerted[d]) and bool(labelled[d]), -len(alerted[d]), -highest[d], d))
    chosen = sorted(ranked[:MAX_DEVICES])
    until = (float(judged.times.min()), float(judged.times.max()))
    drawn = tuple(plots.timeline(f"{anchor}-t{k}", evaluation, d, labelled[d], alerted[d], until) for k, d in enumerate(chosen))
    if len(chosen) == len(highest):
        return drawn, f"{count(len(highest), 'device')}, all of them."
    order = "those with labelled episodes first, then with most alerts, then with the highest scores"
    return drawn, f"{len(chosen)} of {count(len(highest), 'device')}: {order}."


def _study(anchor: str, found: Study) -> StudySection:
    verdicts, tested = found.verdicts, found.verdicts.windows
    absent = [f"no MANOVA: {verdicts.no_manova}"] if verdicts.no_manova else []
    absent += [f"no ANOVA: {verdicts.no_anova}"] if verdicts.no_anova else []
    absent += [f"left out, because they do not vary: {', '.join(verdicts.left_out)}"] if verdicts.left_out else []
    absent += [] if found.clusters else ["no clusters: too few windows"]
    words = (
        f"{count(found.windows, 'window')}; {count(len(found.features), 'feature')}: the autoencoder's latent vector and its "
        "error. Variances are compared on "
        f"{count(tested, 'window')} that share no reading ({verdicts.flagged:,} flagged), because overlapping windows would count "
        "the same thing many times. "
        "Readings of one device stay alike for longer than a window, so the p-values are still on the small side. And the "
        "verdict was taken from these "
        "very features: a small p says what it rests on, not that it is right."
    )
    shown = [tables.clusters(found.clusters)] if found.clusters else []
    shown += [tables.manova(verdicts)] if verdicts.manova else []
    shown += [tables.anova(verdicts)] if verdicts.anova else []
    drawn = _there((study_plots.projection(f"{anchor}-map", found.projection), study_plots.boxes(f"{anchor}-boxes", found)))
    return StudySection(words, drawn, tuple(shown), tuple(absent))


def _there(drawn: Sequence[Plot | None]) -> tuple[Plot, ...]:
    return tuple(plot for plot in drawn if plot is not None)
