"""The audit: what in the data would make the figures of a training worthless, looked for before it begins.

Rules this module keeps: it judges readings as the model will see them; what it says has its numbers and what to do; chance is drawn from a
seed that is given; a finding is an artefact only where the figures that follow would measure something else than detection.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.stats import ks_2samp

from vedette.contract.features import Number
from vedette_training import leaks, subjects
from vedette_training.dataset import PartName
from vedette_training.findings import Finding, Severity, count, headline, percent, quote, table, worst_first
from vedette_training.history import History
from vedette_training.recipe import Recipe
from vedette_training.subjects import TIMES, Codes, Column, Floats, Mask, Subject

__all__ = ["Finding", "audit", "headline", "table"]

MISSING, DRIFT = 0.2, 0.3
_FEW, _ENOUGH = 10, 100
_SAMPLE = 20_000


def audit(history: History, recipe: Recipe, parts: Mapping[PartName, Mask], *, seed: int = 0) -> tuple[Finding, ...]:
    """Look for what would make the figures worthless.

    Args:
        history: What is trained on.
        recipe: How; its features need not be fitted.
        parts: From `dataset.divide`.
        seed: Of the samples that are drawn from long columns.

    Returns:
        What was found, worst first.
    """
    subject = subjects.gather(history, recipe, parts, seed)
    checks = [leaks.duplicates, _random_split, _drift, _values, _devices]
    if recipe.history.label is not None:
        checks += [leaks.text_variants, leaks.single_columns, leaks.classes_apart, _classes]
    return worst_first(finding for check in checks for finding in check(subject))


def _random_split(subject: Subject) -> Iterator[Finding]:
    if subject.recipe.split.by == "random":
        text = (
            "readings were drawn at random: neighbours of what was learnt are in the test, which says little about tomorrow; split by time"
        )
        yield Finding("random_split", "warning", "split", f"{text} or by device")


def _drift(subject: Subject) -> Iterator[Finding]:
    """On normal readings: what anomalies do to a column is no drift."""
    learnt, tested = (subject.sample(part & ~subject.anomalous, _SAMPLE) for part in (subject.train, subject.test))
    if min(len(learnt), len(tested)) < _ENOUGH:
        return
    by_device = subject.recipe.split.by == "device"
    then = "the test devices are unlike those learnt from: learn from more" if by_device else "train on newer history"
    for column in subject.columns:
        if isinstance(column.feature, TIMES):
            continue
        values = column.usable if isinstance(column.feature, Number) else column.codes_seen.astype(np.float64)
        distance = _distance(column, values[learnt], values[tested])
        if distance <= DRIFT or (by_device and distance <= _usual_distance(column, values[learnt], subject.devices[learnt])):
            continue
        how = _moved(column, values[learnt], values[tested], distance)
        yield Finding("drift", "warning", column.feature.name, f"normal readings, training -> test: {how}: expect false alarms; {then}")


def _distance(column: Column, before: Floats, after: Floats) -> float:
    """Kolmogorov and Smirnov's of two samples of a number, the total variation of a text's; 0 where there is too little of one."""
    if not isinstance(column.feature, Number):
        return float(np.abs(_shares(column, before) - _shares(column, after)).sum() / 2)
    before, after = before[~np.isnan(before)], after[~np.isnan(after)]
    return float(ks_2samp(before, after, method="asymp").statistic) if min(len(before), len(after)) >= _ENOUGH else 0.0


def _shares(column: Column, codes: Floats) -> Floats:
    """How much of a sample each text is; the last is what was not sent."""
    texts = len(column.texts_seen) + 1
    return np.bincount(codes.astype(np.intp) % texts, minlength=texts) / len(codes)


def _usual_distance(column: Column, values: Floats, devices: Codes) -> float:
    """How unlike the others the strangest of a few training devices is: between devices, so much is no drift."""
    names = np.unique(devices)
    mine = [devices == name for name in names[:: max(1, len(names) // 10)]] if len(names) > 2 else []
    return max((_distance(column, values[~one], values[one]) for one in mine if one.sum() >= _ENOUGH), default=0.0)


def _moved(column: Column, before: Floats, after: Floats, distance: float) -> str:
    if isinstance(column.feature, Number):
        mean, spread, mean_after, spread_after = np.nanmean(before), np.nanstd(before), np.nanmean(after), np.nanstd(after)
        moved = f", {abs(mean_after - mean) / spread:.1f} training standard deviations" if spread else ""
        return f"mean {mean:.3g} -> {mean_after:.3g}{moved}; spread {spread:.3g} -> {spread_after:.3g}; KS {distance:.2f}"
    shares, shares_after = _shares(column, before), _shares(column, after)
    most = int(np.abs(shares - shares_after).argmax())
    text = quote([*column.texts_seen, "(missing)"][most])
    return f"{text} {percent(shares[most])} -> {percent(shares_after[most])}; total variation {distance:.2f}"


def _values(subject: Subject) -> Iterator[Finding]:
    for column in subject.columns:
        feature = column.feature
        if isinstance(feature, TIMES):
            continue
        absent = np.isnan(column.numbers) if isinstance(feature, Number) else column.codes < 0
        shares = {name: float(absent[part].mean()) for name, part in (("training", subject.train), ("test", subject.test)) if part.any()}
        worst = max(shares, key=lambda name: shares[name], default="training")
        if shares.get(worst, 0.0) > MISSING:
            how = percent(shares[worst])
            text = f"missing in {how} of the {worst} part, where the model sees a filled-in value: leave it out or find the cause"
            yield Finding("missing", "warning", feature.name, text)
        if isinstance(feature, Number):
            yield from _number_values(column, subject, absent)
        else:
            yield from _text_values(column, subject)


def _number_values(column: Column, subject: Subject, absent: Mask) -> Iterator[Finding]:
    feature, usable = column.feature, column.usable
    assert isinstance(feature, Number)
    if outside := int((np.isnan(usable) & ~absent).sum()):
        share = outside / len(usable)
        low, high = (-math.inf if feature.minimum is None else feature.minimum), (math.inf if feature.maximum is None else feature.maximum)
        seen = f"seen: {np.nanmin(column.numbers):g} to {np.nanmax(column.numbers):g}"
        text = f"{outside:,} values ({percent(share)}) are outside {low:g} to {high:g} and count as missing; {seen}"
        yield Finding("out_of_range", "warning" if share > 0.01 else "note", feature.name, f"{text}: check range and unit")
    learnt, tested = (np.unique(usable[part & ~np.isnan(usable)]) for part in (subject.train, subject.test))
    if len(learnt) <= 1 and subject.train.any():
        what = f"always {learnt[0]:g}" if len(learnt) else "without one usable value"
        yield _constant(feature.name, what, varies=bool(np.setdiff1d(tested, learnt).size))


def _text_values(column: Column, subject: Subject) -> Iterator[Finding]:
    seen, known = column.seen, subjects.known_values(column, subject)
    unseen = np.array([*(any(member not in known for member in members) for members in seen), False])[column.codes] & subject.test
    if count := int(unseen.sum()):
        share = count / int(subject.test.sum())
        named = sorted({m for code in np.unique(column.codes[unseen]).tolist() for m in seen[code] if m not in known})
        some = ", ".join(map(quote, named[:5])) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
        text = f"{count:,} test readings ({percent(share)}) hold values that training never saw: {some}; to the model they are nothing"
        yield Finding("unseen_category", "warning" if share > 0.01 else "note", column.feature.name, text)
    learnt = {seen[code] if code >= 0 else () for code in np.unique(column.codes[subject.train]).tolist()}
    if len(learnt) == 1 and (only := next(iter(learnt))):
        tested = {seen[code] for code in np.unique(column.codes[subject.test]).tolist() if code >= 0}
        yield _constant(column.feature.name, f'always "{", ".join(only)}"', varies=bool(tested - {only}))


def _constant(name: str, what: str, *, varies: bool) -> Finding:
    then = "in the test it is not, and any model will find that strange" if varies else "it tells nothing; leave it out"
    return Finding("constant", "warning" if varies else "note", name, f"{what} in the training part: {then}")


def _classes(subject: Subject) -> Iterator[Finding]:
    learns = subject.recipe.detector.learns_from_labels
    for name, part, then in (
        ("training part", subject.train & learns, "there is nothing to learn to tell apart"),
        ("test part", subject.test, "no figure can say how well anomalies are told apart"),
    ):
        hits, rows = int(subject.anomalous[part].sum()), int(part.sum())
        if rows and hits in {0, rows}:
            text = f"all {rows:,} readings are {'anomalous' if hits else 'normal'}: {then}; split otherwise"
            yield Finding("one_class", "warning", name, text)
        elif name == "test part" and (hits < _FEW or _episodes(subject) < _FEW):
            text = f"{count(hits, 'anomalous reading')} in {count(_episodes(subject), 'episode')}: recall and precision will be vague"
            severity: Severity = "warning" if hits < _FEW else "note"
            yield Finding("few_anomalies", severity, name, f"{text}; one episode more or less changes them")


def _episodes(subject: Subject) -> int:
    """Anomalous readings of one device with no normal one between them, in the test part; of all history where it is drawn from all."""
    part = subject.test | (subject.recipe.split.by == "random")
    order = np.flatnonzero(part)[np.lexsort((subject.times[part], subject.devices[part]))]
    on, device = subject.anomalous[order], subject.devices[order]
    return int(on[:1].sum() + (on[1:] & (~on[:-1] | (device[1:] != device[:-1]))).sum())


def _devices(subject: Subject) -> Iterator[Finding]:
    """As the gateway's windower takes them: in the order of the files, device by device."""
    window = subject.recipe.window
    order = np.argsort(subject.devices, kind="stable")
    short, late, back, gaps, longest = 0, 0, 0, 0, 0.0
    for mine in np.split(subject.times[order], np.flatnonzero(np.diff(subject.devices[order])) + 1):
        steps = np.diff(mine)
        jumps = np.flatnonzero(steps < -window.max_gap_s) + 1
        back += len(jumps)
        runs = np.split(mine, jumps) if (steps < 0).any() else [mine]
        enough = False
        for run in runs:
            newest = np.maximum.accumulate(run)
            late += int((run < newest).sum())
            silences = np.diff(newest)
            over = np.flatnonzero(silences > window.max_gap_s)
            gaps += len(over)
            longest = max(longest, float(silences[over].max(initial=0.0)))
            kept = np.concatenate([[0], np.cumsum(run >= newest)])
            ends = np.concatenate([[0], over + 1, [len(run)]])
            enough |= bool(np.diff(kept[ends]).max() >= window.steps)
        short += not enough
    if short:
        share = short / len(subject.device_names)
        text = f"{short} of {len(subject.device_names)} never have {window.steps} readings without a gap: they make no window"
        yield Finding("short_devices", "warning" if share > 0.1 else "note", "devices", text)
    if late or back:
        share = late / len(subject.times)
        parts = [f"{late:,} readings ({percent(share)}) are older than one before them and are dropped"] if late else []
        parts += [f"clocks go back by more than {window.max_gap_s:g} s {count(back, 'time')}, which begins a new window"] if back else []
        text = f"{'; '.join(parts)}: sort each file by time if that is not real"
        yield Finding("late", "warning" if share > 0.01 else "note", "devices", text)
    if gaps and window.steps > 1:
        text = f"{count(gaps, 'silence')} of more than {window.max_gap_s:g} s, the longest {longest / 3600:.1f} h: each begins a new window"
        yield Finding("gaps", "note", "devices", text)
