"""The comparison: what came out of a run with faults beside what an undisturbed agent makes of the same readings.

Rules this module keeps: nothing is forgiven but duplicates, which are counted; whatever differs is told in words as well as in numbers.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.figures import Row
from chaos.scenario import AlertKey, Expected, WindowKey, read_scores
from chaos.tap import Seen

MOST_DUPLICATES = 0.05
_MOST_WORDS = 8
_ORDER = {"new": 0, "update": 1, "end": 2}


class Verdict(NamedTuple):
    """How a run, or several together, differed.

    Attributes:
        alerts: That were expected.
        missing: Alerts that the broker never acknowledged.
        unexpected: That an undisturbed agent does not send.
        changed: With the right id, type and time, but other contents.
        disordered: Episodes of which a message came after one that it belongs before.
        sent_again: Times that an alert reached the broker beyond its first.
        windows: That were expected.
        wrong: Scores that differ from the undisturbed agent's, or are of no window that it has.
        unscored: Windows without a score.
        unacknowledged: Readings that the agent never acknowledged.
        stops: Times that the agent ended of itself, or not as it should.
        words: Of the first few of each.
    """

    alerts: int = 0
    missing: int = 0
    unexpected: int = 0
    changed: int = 0
    disordered: int = 0
    sent_again: int = 0
    windows: int = 0
    wrong: int = 0
    unscored: int = 0
    unacknowledged: int = 0
    stops: int = 0
    words: tuple[str, ...] = ()

    def joined(self, other: "Verdict") -> "Verdict":
        """Both together."""
        mine, its = tuple[Any, ...](self), tuple[Any, ...](other)
        return Verdict(*(each + more for each, more in zip(mine, its, strict=True)))

    @property
    def duplicates(self) -> float:
        """Share of alerts that were sent again."""
        return self.sent_again / max(1, self.alerts)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost and nothing is wrong."""
        return not any(self[1:5]) and not any(self[7:11])

    def rows(self, what: str, runs: int) -> tuple[Row, ...]:
        """Figures."""

        def row(name: str, value: float, unit: str, bar: float | None = 0.0) -> Row:
            return Row(name=f"{what}: {name}", value=value, unit=unit, bar=bar, better=None if bar is None else "lower", runs=runs)

        return (
            row("alerts missing", self.missing, "alerts"),
            row("alerts that should not be there", self.unexpected, "alerts"),
            row("alerts with other contents", self.changed, "alerts"),
            row("episodes told out of order", self.disordered, "episodes"),
            row("alerts sent again", 100 * self.duplicates, "%", 100 * MOST_DUPLICATES),
            row("windows wrong", self.wrong, "windows"),
            row("windows without a score", self.unscored, "windows"),
            row("readings never acknowledged", self.unacknowledged, "readings"),
            row("ends of the agent by itself", self.stops, "times"),
            row("alerts expected", self.alerts, "alerts", None),
            row("windows compared", self.windows, "windows", None),
        )


def compare(expected: Expected, sent: Sequence[Seen], delivered: Sequence[Seen], scores: Iterable[Path]) -> Verdict:
    """Compare alerts and windows; what the run itself has to say is added by whoever ran it."""
    words: list[str] = []
    got = {seen.key for seen in delivered}
    missing = [_words(alert) for key, alert in expected.alerts.items() if key not in got]
    extra = {seen.key: _words(seen.alert) for seen in sent if seen.alert["kind"] != "silent" and seen.key not in expected.alerts}
    lost_silence, extra_silence = _compare_silence(expected.silent, sent, delivered)
    changed = _changed(expected, sent)
    disordered = _disordered(delivered)
    wrong, unscored = _compare_windows(expected.scores, scores)
    for name, found in {
        "missing": [*missing, *lost_silence],
        "unexpected": [*extra.values(), *extra_silence],
        "changed": changed,
        "out of order": disordered,
        "wrong window": wrong,
        "not scored": unscored,
    }.items():
        words += [f"{name}: {each}" for each in found[:_MOST_WORDS]]
    return Verdict(
        alerts=len(expected.alerts) + len(expected.silent),
        missing=len(missing) + len(lost_silence),
        unexpected=len(extra) + len(extra_silence),
        changed=len(changed),
        disordered=len(disordered),
        sent_again=len(sent) - len({seen.key for seen in sent}),
        windows=len(expected.scores),
        wrong=len(wrong),
        unscored=len(unscored),
        words=tuple(words),
    )


def _compare_silence(devices: frozenset[str], sent: Sequence[Seen], delivered: Sequence[Seen]) -> tuple[list[str], list[str]]:
    """A device that was never heard again is told once; its id holds a time of arrival, so no replay knows it."""
    ids: dict[str, set[str]] = defaultdict(set)
    extra: list[str] = []
    for seen in sent:
        if seen.alert["kind"] == "silent":
            ids[seen.alert["device"]].add(seen.key.id)
            if seen.key.type != "new" or seen.alert["device"] not in devices:
                extra.append(_words(seen.alert))
    extra += [f"{device} silent {len(found)} times over" for device, found in ids.items() if len(found) > 1]
    told = {seen.alert["device"] for seen in delivered if seen.alert["kind"] == "silent"}
    return [f"{device} silent" for device in sorted(devices - told)], extra


def _changed(expected: Expected, sent: Sequence[Seen]) -> list[str]:
    """Alerts with other contents than expected, or than the first time."""
    first: dict[AlertKey, bytes] = {}
    found: dict[AlertKey, str] = {}
    for seen in sent:
        wanted = expected.alerts.get(seen.key, seen.alert)
        if seen.alert != wanted or first.setdefault(seen.key, seen.payload) != seen.payload:
            differ = [
                f"{name} {seen.alert.get(name)} instead of {value}" for name, value in wanted.items() if seen.alert.get(name) != value
            ]
            found[seen.key] = f"{_words(seen.alert)}: {', '.join(differ) or 'another payload than the first time'}"
    return list(found.values())


def _disordered(delivered: Sequence[Seen]) -> list[str]:
    """Episodes whose messages came first in another order than their own."""
    firsts: dict[str, list[Seen]] = defaultdict(list)
    known: set[AlertKey] = set()
    for seen in delivered:
        if seen.key not in known:
            known.add(seen.key)
            firsts[seen.key.id].append(seen)
    in_order = {id_: sorted(all_, key=lambda seen: (_ORDER[seen.key.type], seen.key.time)) for id_, all_ in firsts.items()}
    return [" ".join(seen.key.type for seen in all_) for id_, all_ in firsts.items() if all_ != in_order[id_]]


def _compare_windows(expected: Mapping[WindowKey, float], files: Iterable[Path]) -> tuple[list[str], list[str]]:
    unscored, wrong = dict(expected), Counter[str]()
    for path in files:
        for window, score in read_scores(path):
            unscored.pop(window, None)
            if expected.get(window) != score:
                wrong[f"{window} has {score} instead of {expected.get(window)}"] += 1
    return list(wrong), [str(window) for window in unscored]


def _words(alert: Mapping[str, object]) -> str:
    return f"{alert['stream']}/{alert['device']} {alert['kind']} {alert['type']} {alert['time']}"
