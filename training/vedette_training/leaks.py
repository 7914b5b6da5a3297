"""Leaks: what in the data gives the label away, so that figures measure something else than detection."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from vedette.contract.features import Categories, Category, Number
from vedette_training.findings import Finding, Severity, percent, quote
from vedette_training.subjects import FOLDED, TIMES, Codes, Floats, Mask, Subject, bins

ARTEFACT_AUC, WARNING_AUC = 0.95, 0.85

PERFECT_AUC = 0.995
"""A good sensor may tell a gross fault nearly always by itself, and then it is no artefact; never to err is suspect of it too."""
_FEW = 10
"""Fewer rows than these carry no rate."""


def text_variants(subject: Subject) -> Iterator[Finding]:
    """Values that differ in spaces or case only, and thereby tell the label."""
    for column in subject.columns:
        if not isinstance(column.feature, Category | Categories):
            continue
        rows, hits = (np.bincount(column.codes + 1, weight, len(column.members) + 1)[1:] for weight in (None, subject.anomalous))
        groups: dict[str, dict[str, Floats]] = {}
        for code, members in enumerate(column.members):
            for text in set(members):
                variants = groups.setdefault(FOLDED.normalise(text), {})
                variants[text] = variants.get(text, np.zeros(2)) + np.array([rows[code], hits[code]])
        told = {folded: found for folded, found in groups.items() if _tells(found)}
        raw = column.feature.text == "raw"
        if told:
            described = "; ".join(_describe(found) for found in list(told.values())[:3])
            what = _difference([list(found) for found in told.values()])
            then = "leave out `text: raw`" if raw else "closed here by folding; other programs that read this file are fooled"
            text = f"{described}: the {what} the label away; {then}"
            yield Finding("text_variants", "artefact" if raw else "note", column.feature.name, text)
        elif raw and (several := [found for found in groups.values() if len(found) > 1]):
            text = f"{len(several)} values are written in several ways, such as {', '.join(map(quote, several[0]))}: each counts as its own"
            yield Finding("text_variants", "note", column.feature.name, f"{text}; without `text: raw` they are one")


def _tells(variants: dict[str, Floats]) -> bool:
    """Whether the way in which a value is written carries the label: by rates, or by a quarter of what there is to know."""
    counts = np.array([found for found in variants.values() if found[0] >= _FEW])
    if len(counts) < 2:
        return False
    rates = counts[:, 1] / counts[:, 0]
    rate = counts[:, 1].sum() / counts[:, 0].sum()
    entropy = _entropy(np.array([rate]))[0]
    known = entropy - (counts[:, 0] * _entropy(rates)).sum() / counts[:, 0].sum()
    return bool(np.ptp(rates) > 0.5 or (known > 0.25 * entropy and counts[:, 1].sum() >= _FEW))


def _entropy(rates: Floats) -> Floats:
    inner = np.clip(rates, 1e-12, 1 - 1e-12)
    bits: Floats = -inner * np.log2(inner) - (1 - inner) * np.log2(1 - inner)
    return bits


def _describe(variants: dict[str, Floats]) -> str:
    """Such as: "high" (always anomalous, 4,321 rows), "high " and "high  " (never, 30,000 rows)."""
    groups: dict[str, list[str]] = {}
    for text, (rows, hits) in sorted(variants.items(), key=lambda item: -item[1][1] / max(1, item[1][0])):
        often = "never" if not hits else "always anomalous" if hits == rows else f"{100 * hits / rows:.1f} % anomalous"
        groups.setdefault(often, []).append(text)
    return ", ".join(
        f"{' and '.join(map(quote, texts))} ({often}, {int(sum(variants[text][0] for text in texts)):,} rows)"
        for often, texts in groups.items()
    )


def _difference(groups: list[list[str]]) -> str:
    spaces = any(len({text.strip() for text in group}) < len(group) for group in groups)
    case = any(len({text.strip() for text in group}) > 1 for group in groups)
    return "spaces and capitals give" if spaces and case else "spaces give" if spaces else "capitals give"


def single_columns(subject: Subject) -> Iterator[Finding]:
    """Columns, and devices, of which a lookup of anomaly rates alone does nearly all."""
    for column in subject.columns:
        codes, discrete = bins(column, subject)
        auc, how = _predict(codes, subject, discrete=discrete)
        if auc >= WARNING_AUC:
            limit = ARTEFACT_AUC if discrete else PERFECT_AUC
            yield Finding(
                "leak", "artefact" if auc >= limit else "warning", column.feature.name,
                f"tells the label all alone, ROC AUC {auc:.2f} {how}: leave it out if it was made with the label; if it is a sensor, "
                "a plain limit or lookup does as well as a model",
            )  # fmt: skip
    if len(subject.device_names) > 1:
        auc, how = _predict(subject.devices + 1, subject, discrete=True)
        if auc >= WARNING_AUC:
            rates = np.bincount(subject.devices, subject.anomalous) / np.bincount(subject.devices)
            pure = int(((rates == 0) | (rates == 1)).sum())
            severity: Severity = "artefact" if auc >= ARTEFACT_AUC and subject.recipe.detector.learns_from_labels else "warning"
            yield Finding(
                "leak", severity, "device",
                f"who sent it tells the label, ROC AUC {auc:.2f} {how}; {pure} of {len(rates)} devices have one class only: "
                "a model that knows devices apart looks good; split by device",
            )  # fmt: skip


def _predict(codes: Codes, subject: Subject, *, discrete: bool) -> tuple[float, str]:
    """ROC AUC of a lookup of anomaly rates that was learnt on the training part, and on what it was judged; 0 where it cannot be told."""
    fit, judge, how = subject.train, subject.test, "on the test part"
    if not _has_both(subject.anomalous, fit):
        # Detectors that learn from normal readings alone: what a lookup would know is then seen in the rest. Not for measured numbers: that
        # a sensor tells the anomalies of one afternoon is what it is for.
        if not discrete:
            return 0.0, ""
        half = subject.rng.random(len(codes)) < 0.5
        fit, judge, how = half, ~half, "on a random half, learnt on the other"
    if not _has_both(subject.anomalous, fit) or not _has_both(subject.anomalous, judge):
        return 0.0, ""
    size = int(codes.max()) + 1
    rows, hits = np.bincount(codes[fit], minlength=size), np.bincount(codes[fit], subject.anomalous[fit], minlength=size)
    rates = (hits + subject.anomalous[fit].mean()) / (rows + 1)
    total, positive = np.bincount(codes[judge], minlength=size), np.bincount(codes[judge], subject.anomalous[judge], minlength=size)
    _, rank = np.unique(rates, return_inverse=True)
    hit, miss = np.bincount(rank, positive), np.bincount(rank, total - positive)
    below = np.cumsum(miss) - miss
    return float((hit * (below + miss / 2)).sum() / (hit.sum() * miss.sum())), how


def _has_both(anomalous: Mask, part: Mask) -> bool:
    count = int(anomalous[part].sum())
    return _FEW <= count <= int(part.sum()) - _FEW


def classes_apart(subject: Subject) -> Iterator[Finding]:
    """Normal and anomalous readings that never share an hour or a day.

    An artefact where readings of both periods are drawn into training and test, or where silence lies between them: those are two
    recordings, not one process that went wrong.
    """
    anomalous, times = subject.anomalous, subject.times
    if not anomalous.any() or anomalous.all():
        return
    earlier, later = (("normal", times[~anomalous]), ("anomalous", times[anomalous]))
    if earlier[1].min() > later[1].min():
        earlier, later = later, earlier
    order = np.lexsort((anomalous, times))
    changes = np.flatnonzero(np.diff(anomalous[order]))
    ordered = times[order]
    silent = bool((ordered[changes + 1] - ordered[changes] > subject.recipe.window.max_gap_s).all())
    if earlier[1].max() < later[1].min():
        what = f"{earlier[0]} readings are all of {_span(earlier[1])}, {later[0]} ones all of {_span(later[1])}"
    elif (bin_name := _pure_bins(subject)) is not None:
        what = f"no {bin_name} holds both normal and anomalous readings"
    else:
        return
    both = _has_class(anomalous, subject.test)
    artefact = subject.recipe.split.by == "random" or (all(both) and silent)
    why = "what tells one period from another passes for detection" if artefact else "drift and anomaly cannot be told apart"
    yield Finding(
        "classes_apart_in_time", "artefact" if artefact else "warning", "time",
        f"{what}: {why}; get history in which both occur in the same hours",
    )  # fmt: skip


def _has_class(anomalous: Mask, part: Mask) -> tuple[bool, bool]:
    return bool((anomalous & part).any()), bool((~anomalous & part).any())


def _pure_bins(subject: Subject) -> str | None:
    """`day` or `hour`, where none holds both classes though each holds many readings."""
    for name, seconds in (("day", 86400.0), ("hour", 3600.0)):
        _, bins = np.unique(subject.times // seconds, return_inverse=True)
        rows, hits = np.bincount(bins), np.bincount(bins, subject.anomalous)
        if np.median(rows) >= _FEW and ((hits == 0) | (hits == rows)).all():
            return name
    return None


def _span(times: Floats) -> str:
    first, last = (f"{datetime.fromtimestamp(t, UTC):%Y-%m-%d %H:%M}" for t in (times.min(), times.max()))
    return f"{first} to {last}"


def duplicates(subject: Subject) -> Iterator[Finding]:
    """Readings that stand in training and test; equal in time too, for values alone repeat by nature where sensors are coarse."""
    columns = [c for c in subject.columns if not isinstance(c.feature, TIMES)]
    sent = [c.numbers if isinstance(c.feature, Number) else c.codes.astype(np.float64) for c in columns]
    values = _mix(subject.devices.astype(np.float64), *sent)
    exact = values ^ _mix(subject.times)
    total = max(1, int(subject.test.sum()))
    crossing = int(np.isin(exact[subject.test], exact[subject.train]).sum())
    repeated = int(np.isin(values[subject.test], values[subject.train]).sum())
    distinct = len(np.unique(values))
    if crossing:
        share = crossing / total
        severity: Severity = "artefact" if share > 0.2 else "warning" if share > 0.01 else "note"
        yield Finding(
            "duplicates", severity, "test part",
            f"{crossing:,} of {total:,} readings ({percent(share)}) stand in the training part too: device, time and values are equal; "
            f"remove them or split by time (the values alone recur in {percent(repeated / total)})",
        )  # fmt: skip
    elif (again := len(exact) - len(np.unique(exact))) > 0.01 * len(exact):
        yield Finding(
            "duplicates", "note", "history", f"{again:,} readings ({percent(again / len(exact))}) stand more than once, none across parts"
        )
    elif subject.recipe.split.by == "random" and repeated > 0.2 * total:
        # Of coarse sensors this is nothing strange: two digits repeat. So it is told, not judged.
        yield Finding(
            "duplicates", "note", "test part",
            f"{percent(repeated / total)} of its readings have values that the same device has in the training part at other times; "
            f"coarse sensors repeat themselves ({distinct:,} different ones in {len(values):,} readings)",
        )  # fmt: skip


def _mix(*columns: Floats) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row (SplitMix64's finaliser): a million rows collide once in a hundred million histories."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        # One bit pattern for each NaN, and for both zeros.
        bits = np.where(np.isnan(column), -1.5e308, column + 0.0).view(np.uint64)
        mixed = (mixed ^ bits) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed
