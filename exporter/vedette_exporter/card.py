"""The model card: what a bundle's model is, in words, for whoever has only the bundle.

Rules this module keeps: every figure comes from the run or was measured by the parity gate; equal runs give equal text.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import yaml

from vedette.contract.features import Categories, Category, Feature, FeatureEncoder, Number
from vedette.contract.scores import Feed, Stage
from vedette_exporter.parity import FED, Parity
from vedette_exporter.routes import Tried
from vedette_exporter.variants import Variant
from vedette_training import findings
from vedette_training.dataset import PARTS
from vedette_training.run import Run

FILE = "model-card.md"

_DETECTORS = {
    "lstm": "an LSTM that learnt from labelled windows how the anomalous ones differ; it knows what it was shown",
    "lstm_autoencoder": "an LSTM autoencoder that learnt to give normal windows back; what it gives back badly is strange",
    "isolation_forest": "an isolation forest: what few random cuts set apart from normal windows is strange",
    "one_class_svm": "a one-class support vector machine: what lies outside the region of normal windows is strange",
    "dbscan": "the clusters that DBSCAN found among normal windows: what is far from every core sample is strange",
    "pca": "principal components of normal windows: what the usual directions do not explain is strange",
    "hybrid": "several detectors whose scores become one",
}
_COMBINED = {
    "all": "the smallest of them (strange to each)",
    "any": "the largest of them (strange to one)",
    "mean": "their mean",
}


def render(
    run: Run,
    name: str,
    version: str,
    stages: Sequence[Stage],
    parity: Parity,
    routes: Mapping[str, Sequence[Tried]],
    variants: Sequence[Variant] = (),
) -> str:
    """Write the card, as Markdown.

    Args:
        run: What the bundle is made from.
        name: The bundle's.
        version: The bundle's.
        stages: The bundle's.
        parity: What the gate measured.
        routes: By stage, those that its model was converted by.
        variants: Beside each other where the bundle's is not float32.
    """
    sections = {
        "What it does": _purpose(run, stages),
        "What it learnt from": _history(run),
        "What it looks at": _inputs(run),
        "Where 1.0 is": _threshold(run),
        "What the test part measured": _metrics(run),
        "What the audit of the data found": _findings(run),
        "What conversion changed": _conversion(stages, parity, routes, variants),
        "How to use it": _use(name, version),
        "What it cannot do": _limits(run),
    }
    lines = [f"# {name} {version}", ""]
    if headline := findings.headline(run.findings):
        lines += [f"**{headline}**", ""]
    for title, content in sections.items():
        lines += [f"## {title}", "", *content, ""]
    return "\n".join(map(_wrap, lines))


def _purpose(run: Run, stages: Sequence[Stage]) -> Iterator[str]:
    kind = run.recipe.detector.kind
    yield f"Scores how strange a device's last {_count(run.recipe.window.steps, 'reading')} are: 1.0 is the threshold, higher is stranger."
    yield f"The detector is {_DETECTORS.get(kind, kind)}."
    if len(stages) == 1:
        return
    yield ""
    for stage in stages:
        seen = f"{' and '.join(stage.input.outputs)} of {stage.input.stage}" if isinstance(stage.input, Feed) else "the window"
        yield f"- {stage.name} looks at {seen}{'' if stage.calibration else '; it has no say, it feeds others'}"
    if sum(stage.calibration is not None for stage in stages) > 1:
        yield ""
        yield f"The score is {_COMBINED[run.combine]}."


def _history(run: Run) -> Iterator[str]:
    on = run.trained_on
    for source in on.sources:
        yield f"- {source.name}: {_count(source.rows, 'reading')}, SHA-256 `{source.sha256}`"
    yield f"- its training part is of {_date(on.first)} to {_date(on.last)}"
    counts = ", ".join(f"{run.windows[part]} to {part}" for part in PARTS)
    split = run.recipe.split
    how = {"time": "by time, the latest readings for the test", "device": "by device", "random": "at random, reading by reading"}
    yield f"- windows: {counts}; divided {how[split.by]}"
    yield f"- recipe {run.recipe.name}, SHA-256 `{on.recipe}`, seed {run.recipe.seed}; made {_date(run.created)}"
    for name, curve in run.curves.items():
        line = f"- {name}: {_count(len(curve.loss), 'epoch')}, loss {curve.loss[-1]:.4g}"
        if curve.validation_loss and curve.baseline is not None:
            line += f", validation {min(curve.validation_loss):.4g} (a model that knows only the mean: {curve.baseline:.4g})"
        yield line
    yield ""
    yield "The detector's settings:"
    yield ""
    for line in yaml.safe_dump(msgspec.to_builtins(run.recipe.detector), sort_keys=False).splitlines():
        yield f"    {line}"


def _inputs(run: Run) -> Iterator[str]:
    window = run.recipe.window
    columns = len(FeatureEncoder(run.features).columns)
    yield (
        f"Windows of {_count(window.steps, 'reading')}, one due every {_count(window.stride, 'reading')}; a silence of more than "
        f"{window.max_gap_s:g} s begins a new one."
    )
    yield f"{_count(len(run.features), 'feature')} in {_count(columns, 'column')}:"
    yield ""
    for feature in run.features:
        yield f"- {_feature(feature)}"


def _feature(feature: Feature) -> str:
    if isinstance(feature, Number):
        text = f"{feature.name}: a number, usually {feature.mean:.4g} ± {feature.scale:.4g}"
        if feature.minimum is not None or feature.maximum is not None:
            low, high = ("any" if bound is None else f"{bound:g}" for bound in (feature.minimum, feature.maximum))
            text += f", possible from {low} to {high}"
        if feature.clip is not None:
            text += f", softly clipped beyond {feature.clip:g} deviations"
        if feature.averages:
            text += f", with its averages of half-life {', '.join(f'{half_life:g}' for half_life in feature.averages)}"
        return text
    if isinstance(feature, Category | Categories):
        what = "one" if isinstance(feature, Category) else "any"
        return f"{feature.name}: {what} of {', '.join(map(json.dumps, feature.values))}"
    return f"{feature.name}: {str(type(feature).__struct_config__.tag).replace('_', ' ')}"


def _threshold(run: Run) -> Iterator[str]:
    asked, tail = run.recipe.threshold, run.tail
    if asked.probability is not None:
        yield f"At a probability of {asked.probability:g} that the window is anomalous."
    if asked.quantile is not None:
        wider = f", {asked.margin:g} times as far from the least score"
        times = wider if asked.margin != 1 else f": {1 - asked.quantile:.2%} of those were over it"
        yield f"At the {asked.quantile:g} quantile of held-out normal windows' scores{times}."
    if asked.alerts_per_day is not None:
        rate = asked.alerts_per_day
        every = f"one in {1 / rate:.3g} days" if rate < 1 else f"{rate:.3g} a day"
        yield f"Where one device, all being well, should raise {every} by the agent's default rule."
    if tail is not None and asked.alerts_per_day is not None:
        yield (
            f"Held-out normal data, {tail.device_days:.3g} device-days, has {_count(tail.count, 'peak')} over {tail.level:.4g}; a "
            f"generalised Pareto tail of scale {tail.scale:.3g} and shape {tail.shape:.3g} puts the threshold at {tail.threshold:.4g}."
        )
        if asked.alerts_per_day * tail.device_days < 1:
            yield "That is rarer than there was data to see: it is extrapolated."
    if run.recipe.smoothing is not None:
        yield f"Scores are smoothed with a half-life of {_count(run.recipe.smoothing, 'window')}."
    if asked.adapt is not None:
        yield (
            "What counts is how rare a score is among the device's own recent ones (-log10 of the share that scores as high): it forgets "
            f"with a half-life of {_count(asked.adapt, 'window')}, so what changes for good is strange no longer; "
            "the agent counts it as shifted."
        )
    if run.recipe.refit:
        yield "Once the threshold was found, the detector learnt again from the training and the calibration part together."


def _metrics(run: Run) -> Iterator[str]:
    if run.recipe.history.label is None:
        yield "History had no labels: all of it counted as normal."
        yield ""
    yield "| per window | |"
    yield "| --- | --- |"
    for name, value in sorted(run.metrics.items(), key=lambda item: not item[0].endswith("windows")):
        yield f"| {name.replace('_', ' ')} | {value:.0f} |" if name.endswith("windows") else f"| {name.replace('_', ' ')} | {value:.4f} |"


def _findings(run: Run) -> Iterator[str]:
    if not run.findings:
        yield "Nothing."
    for finding in run.findings:
        yield f"- {finding.severity}, {finding.subject}: {finding.text}"
    yield ""
    yield f"Looked at: {findings.LOOKED_AT}."


def _conversion(
    stages: Sequence[Stage], parity: Parity, routes: Mapping[str, Sequence[Tried]], variants: Sequence[Variant]
) -> Iterator[str]:
    yield (
        f"On {parity.windows} windows, held-out ones and extremes, the gateway's runtime was compared with the original; a difference of "
        f"{parity.allowed.usual:g}, relative to max(1, score), is allowed."
    )
    yield ""
    for name, difference in parity.stages.items():
        yield f"- {name}, given the same input: at most {difference:.1e}"
    yield f"- the score: at most {parity.largest_difference:.1e}; verdicts that flip: {parity.verdicts_flipped}"
    if parity.share_beyond:
        why = "rounding between two stages takes them over a forest's cut" if parity.allowed == FED else "they are farther from ordinary"
        yield (
            f"- {parity.share_beyond:.2%} of the windows differ by more: {why} "
            f"(allowed: {parity.allowed.largest:g} on {parity.allowed.share:.1%})"
        )
    yield f"- batches of {', '.join(map(str, parity.batch_sizes))} give equal bits"
    for name, tried in routes.items():
        yield f"- {name} was converted by the route {next(one.route for one in tried if one.is_taken)}{_others(tried)}"
    if len(variants) > 1:
        yield ""
        yield from _variants(stages, variants)


def _variants(stages: Sequence[Stage], variants: Sequence[Variant]) -> Iterator[str]:
    narrower = variants[-1].precision
    kept = [stage.name for stage in stages if stage.precision == "float32"]
    but = f", but not those of {' and '.join(kept)}, which has no such form" if kept else ""
    yield (
        f"The weights are {narrower}{but}. Where 0 and 1.0 are was found anew on this variant's own scores; the figures of the test part, "
        "above, are the original's."
    )
    yield ""
    yield "| weights | model files | average precision, held-out windows |"
    yield "| --- | --- | --- |"
    for variant in variants:
        found = "no labels" if variant.average_precision is None else f"{variant.average_precision:.4f}"
        yield f"| {variant.precision} | {variant.model_bytes / 1024:.0f} KiB | {found} |"
    yield ""
    yield "What a window takes depends on the machine: `vedette export` and `vedette evaluate` measure it on theirs."


def _others(tried: Sequence[Tried]) -> str:
    """What came of the routes that were not taken. Without times: equal runs give equal bytes."""
    others = [
        f"{one.route} {f'was refused ({one.refused})' if one.refused else f'passed ({one.bytes} bytes), but is not clearly quicker'}"
        for one in tried
        if not one.is_taken
    ]
    return f"; {', '.join(others)}" if others else ""


def _use(name: str, version: str) -> Iterator[str]:
    yield "On the gateway:"
    yield ""
    yield f"    vedette model install {name}-{version}.vedette"
    yield ""
    yield f"and in agent.yaml, at the stream whose devices it knows, `model: {name}`. Payload fields must have the features' names, or be"
    yield "mapped to them in the stream's `payload: fields`. `vedette replay` shows what it would have raised on recorded readings."


def _limits(run: Run) -> Iterator[str]:
    yield "- It knows devices like those that it learnt from, in the condition that they were in then. After a change it must learn anew."
    yield f"- It says nothing until a device has sent {_count(run.recipe.window.steps, 'reading')} without a longer silence."
    if run.recipe.detector.learns_from_labels:
        yield "- Faults of a kind that no label showed it may score as normal."
    else:
        yield "- Strange is not faulty: what is rare but right scores high as well."
    yield "- Its scores order windows; a score of 2 is not twice as bad as 1."
    yield "- The figures above are of its own test part, and of no other site."


def _wrap(line: str) -> str:
    """Break a long line, but for code and tables."""
    if line.startswith(("    ", "|")):
        return line
    return textwrap.fill(line, 100, subsequent_indent="  " * line.startswith("- "), break_long_words=False, break_on_hyphens=False)


def _count(count: float, noun: str) -> str:
    return f"{count:g} {noun}{'' if count == 1 else 's'}"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
