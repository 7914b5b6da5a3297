"""`make bench-quality`: detection on real labelled data, through the product: its recipes, its training, its scorer.

Rules this module keeps: what is measured is the shipped recipe, of which only the features, the split and what depends on the times are
replaced; every entity of every data set gets the same settings, and no label of a test row is looked at before the scores are there; what
cannot be measured is a row that says why.

Each data set's mean is also given for every second entity and for the others: settings that suit one half only would show.
"""

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec
import numpy as np
from sklearn.metrics import average_precision_score
from tqdm import tqdm

from bench import entities, figures, machine, nab
from bench.entities import Entity, Floats, Labels
from bench.figures import Figures, Line, Row
from vedette.contract.errors import ConfigError
from vedette.contract.features import Feature, Number, TimeOfDay
from vedette.contract.manifest import Source
from vedette.contract.windows import WindowSpec
from vedette_training import dataset, fitting, recipe
from vedette_training.detectors import Detector, Workshop
from vedette_training.detectors.dbscan import Dbscan
from vedette_training.detectors.hybrid import Hybrid, Member
from vedette_training.detectors.isolation_forest import IsolationForest
from vedette_training.detectors.lstm_autoencoder import LstmAutoencoder
from vedette_training.detectors.one_class_svm import OneClassSvm
from vedette_training.history import History
from vedette_training.recipe import EveryNumber, Recipe, Split

DEFAULT, STREAMING = "pca", "streaming"
CALIBRATED = 0.3
"""Share of the training rows, the last ones, that the threshold is taken from."""

WEEK_S = 7 * 86400.0
"""With less history a time of day would not have been seen often enough."""

REFRACTORY = 0.2
"""Of a NAB series' probation: what follows an alarm within it belongs to that alarm, as to an agent's alert."""

DEEP_STEPS = 20
DEEP_WINDOWS = 4000
"""About as many training windows as an autoencoder is given: neighbours differ little, and the whole bench
stays under 40 minutes on two cores."""

_AUTOENCODER = LstmAutoencoder(preset="steps", error="last", epochs=40, batch=64)
_NOTHING = -1e9
_DISTRIBUTIONS = ("vedette", "numpy", "scikit-learn", "tensorflow-cpu", "keras")
_NOT_APPLICABLE = "lstm: not applicable, no training row is labelled anomalous"


class Subject(NamedTuple):
    """A detector that stands where the shipped recipe has another.

    Attributes:
        detector: None leaves the recipe's.
        steps: Of its windows.
    """

    detector: Detector | None
    steps: int = 1


SUBJECTS: Mapping[str, Subject] = {
    DEFAULT: Subject(None),
    "isolation_forest": Subject(IsolationForest(rotate=True)),
    "one_class_svm": Subject(OneClassSvm()),
    "dbscan": Subject(Dbscan()),
    "lstm_autoencoder": Subject(_AUTOENCODER, DEEP_STEPS),
    "hybrid": Subject(
        Hybrid(
            members=(
                Member(detector=Dbscan(), input=("latent", "error")),
                Member(detector=IsolationForest(), input=("latent", "error")),
            ),
            autoencoder=_AUTOENCODER,
        ),
        DEEP_STEPS,
    ),
}

BARS: Mapping[str, tuple[float, str]] = {
    f"smd average precision, {DEFAULT}": (0.84, "higher"),
    f"asd average precision, {DEFAULT}": (0.31, "higher"),
    f"skab f1, {DEFAULT}": (0.85, "higher"),
    f"skab false alarm rate, {DEFAULT}": (13.0, "lower"),
    f"nab standard, {STREAMING}": (67.0, "higher"),
}


class Outcome(NamedTuple):
    """What a detector made of an entity's m test rows.

    Attributes:
        scores: float64 `(m,)`, 1.0 at the threshold; 0 where no window ended.
        seconds: Training and scoring.
        refused: Why training refused the entity, whose scores are then all 0; most often its history never changes.
    """

    scores: Floats
    labels: Labels
    seconds: float
    refused: str | None = None

    @property
    def average_precision(self) -> float:
        """Row by row, nothing adjusted."""
        return float(average_precision_score(self.labels, self.scores))


def score(entity: Entity, asked: Recipe) -> Outcome:
    """Train on an entity's training rows and score its test rows, as a gateway would.

    Args:
        entity: Whose rows.
        asked: Adapted to the entity by `adapted`.
    """
    began = time.monotonic()
    rows = np.concatenate([entity.train, entity.test])
    times = _times(entity, len(rows))
    clock = [[t] for t in times] if len(asked.features) > rows.shape[1] else [[]] * len(rows)
    values = [tuple(row + at) for row, at in zip(rows.tolist(), clock, strict=True)]
    anomalous = np.concatenate([np.zeros(len(entity.train), dtype=np.bool_), entity.labels])
    history = History(["entity"] * len(rows), times, values, anomalous, (Source(name=entity.name, sha256="0" * 64, rows=len(rows)),))
    data = dataset.build(history, asked)
    scores = np.zeros(len(rows))
    try:
        trained = fitting.fit(history, asked, data, Workshop(asked.seed))
    except ConfigError as error:
        return Outcome(scores[len(entity.train) :], entity.labels, time.monotonic() - began, str(error))
    scores[data.test.readings] = trained.scores
    return Outcome(scores[len(entity.train) :], entity.labels, time.monotonic() - began)


def adapted(shipped: Recipe, entity: Entity, subject: Subject) -> Recipe:
    """A shipped recipe with an entity's features and times."""
    rows = len(entity.train) + len(entity.test)
    numbers: list[Feature] = [Number(name=f"x{column}") for column in range(entity.train.shape[1])]
    asked = msgspec.structs.replace(
        shipped,
        features=(*numbers, *((TimeOfDay(waves=2),) if _has_time_of_day(shipped, entity) else ())),
        window=WindowSpec(max_gap_s=1e9),
        split=_split(entity, rows),
    )
    if subject.detector:
        asked = msgspec.structs.replace(asked, detector=subject.detector)
    if subject.steps > 1:
        # Its windows hold what the averages stand for.
        asked = msgspec.structs.replace(
            asked,
            window=WindowSpec(steps=subject.steps, max_gap_s=1e9),
            every_number=EveryNumber(clip=asked.every_number.clip),
            train_stride=max(1, len(entity.train) // DEEP_WINDOWS),
        )
    return asked


def _has_time_of_day(shipped: Recipe, entity: Entity) -> bool:
    return shipped.name == "telemetry-streaming" or len(entity.train) * entity.interval_s >= WEEK_S


def _split(entity: Entity, rows: int) -> Split:
    """In shares of readings, such that each part ends where it should: half way between two."""
    held_in = int((1 - CALIBRATED) * len(entity.train))
    first, second = ((end - 0.5) / (rows - 1) for end in (held_in, len(entity.train)))
    return Split(by="time", train=first, calibrate=second - first)


def _times(entity: Entity, rows: int) -> list[float]:
    if entity.train_times is None or entity.test_times is None:
        return [entity.interval_s * row for row in range(rows)]
    found = np.concatenate([entity.train_times, entity.test_times]).astype("datetime64[s]").astype(np.float64)
    # Clocks that were put back would make readings late; a microsecond apart they are in order.
    in_order: list[float] = (np.maximum.accumulate(found) + 1e-6 * np.arange(rows)).tolist()
    return in_order


class Measured(NamedTuple):
    """Rows for the figures, and what could not be measured: its name and why."""

    rows: list[Row]
    skipped: list[tuple[str, str]]


class Settings(NamedTuple):
    """What is asked for.

    Attributes:
        data: Folder of the data sets.
        at_most: Entities of each data set; None takes all.
    """

    data: Path
    datasets: Sequence[entities.Dataset]
    subjects: Sequence[str]
    at_most: int | None = None


def measure(settings: Settings) -> Measured:
    """Measure detectors on data sets. On a terminal a bar shows how far it is."""
    found = Measured([], [])
    for name in settings.datasets:
        if why := entities.missing(name, settings.data):
            found.skipped.append((name, f"no labelled data here: {why}"))
            continue
        if name == "nab":
            found.rows.extend(_measure_nab(settings))
            continue
        shipped = recipe.load("telemetry")
        known = list(entities.read(name, settings.data))[: settings.at_most]
        for subject in settings.subjects:
            outcomes = [score(entity, adapted(shipped, entity, SUBJECTS[subject])) for entity in _shown(known, f"{name}, {subject}")]
            found.rows.extend(_summarise(name, subject, known, outcomes))
        found.skipped.append((name, _NOT_APPLICABLE))
    return found


def _summarise(name: str, subject: str, known: Sequence[Entity], outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """The rows of one detector on one data set; SKAB's own protocol counts all its files' rows together."""
    found = [outcome.average_precision for outcome in outcomes if outcome.labels.any()]
    labels = np.concatenate([outcome.labels for outcome in outcomes])
    flagged = np.concatenate([outcome.scores for outcome in outcomes]) >= 1.0
    hits, false_alarms, missed = (int((a & b).sum()) for a, b in ((flagged, labels), (flagged, ~labels), (~flagged, labels)))
    row = _rows_of(f"{name} {{}}, {subject}")
    yield row("average precision", statistics.fmean(found), "mean of entities", found)
    for half, some in (("1st, 3rd, …", found[::2]), ("2nd, 4th, …", found[1::2])):
        if some:
            yield row(f"average precision of the {half}", statistics.fmean(some), "mean of entities", some)
    yield row("f1", 2 * hits / max(2 * hits + false_alarms + missed, 1), "at 1.0")
    yield row("false alarm rate", 100 * false_alarms / max(int((~labels).sum()), 1), "% of rows")
    yield row("missed alarm rate", 100 * missed / max(int(labels.sum()), 1), "% of rows")
    yield row("refused", sum(outcome.refused is not None for outcome in outcomes), "entities")
    rows = sum(len(entity.train) + len(entity.test) for entity in known)
    yield row("training and scoring", 1e6 * sum(outcome.seconds for outcome in outcomes) / rows, "us/row")


def _measure_nab(settings: Settings) -> Iterator[Row]:
    """NAB's score of the streaming recipe; for each half of the series also at the threshold that suits the other."""
    shipped = recipe.load("telemetry-streaming")
    folder = settings.data / "nab"
    profiles = nab.read_profiles(folder)
    series = nab.read_series(folder)[: settings.at_most]
    known = {entity.name: entity for entity in entities.read("nab", settings.data)}
    scores: dict[str, Floats] = {}
    for one in _shown(series, f"nab, {STREAMING}"):
        entity = known[one.name]
        outcome = score(entity, adapted(shipped, entity, Subject(None)))
        kept = nab.keep_first(outcome.scores, int(REFRACTORY * one.probation))
        scores[one.name] = np.concatenate([np.full(one.probation, _NOTHING), np.maximum(kept, _NOTHING)])
    row = _rows_of(f"nab {{}}, {STREAMING}")
    for profile, name in (("standard", "standard"), ("reward_low_FP_rate", "reward low FP"), ("reward_low_FN_rate", "reward low FN")):
        yield row(name, nab.score(series, scores, profiles[profile]).score, "of 100")
    standard = profiles["standard"]
    yield row("standard, at 1.0", nab.score_at(series, scores, standard, 1.0), "of 100")
    halves = (series[::2], series[1::2])
    for label, half, other in zip(("1st, 3rd, …", "2nd, 4th, …"), halves, reversed(halves), strict=True):
        if any(one.windows for one in half) and any(one.windows for one in other):
            yield row(f"standard of the {label}", nab.score(half, scores, standard).score, "of 100")
            threshold = nab.score(other, scores, standard).threshold
            yield row(f"standard of the {label}, the others' threshold", nab.score_at(half, scores, standard, threshold), "of 100")


def _rows_of(name: str) -> Callable[..., Row]:
    """Rows whose names begin and end alike, with their bars."""

    def row(what: str, value: float, unit: str, each: Sequence[float] = ()) -> Row:
        full = name.format(what)
        bar, better = BARS.get(full, (None, None))
        spread = (min(each), max(each)) if each else None
        return Row(name=full, value=float(value), unit=unit, bar=bar, better=better, runs=1, spread=spread)  # type: ignore[arg-type] # because a table's text is plain

    return row


def _shown(those: Sequence[Any], what: str) -> Any:
    return tqdm(those, desc=what, disable=None, leave=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures.

    Returns:
        0, whatever the figures say; 2 where none of the data is here.
    """
    parser = argparse.ArgumentParser(prog="bench-quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("smd", "asd", "skab", "smap", "nab")
    parser.add_argument("--dataset", choices=names, nargs="+", default=names, help="default: all")
    parser.add_argument("--detector", choices=SUBJECTS, nargs="+", default=tuple(SUBJECTS), help="default: all")
    parser.add_argument("--data", type=Path, default=entities.DATA, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="the shipped recipes only")
    parser.add_argument("-o", "--output", type=Path, default=figures.FOLDER / "quality.json", help="figures file (default: %(default)s)")
    given = parser.parse_args(arguments)
    # A model for each entity is what this is; TensorFlow would warn of it.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    found = measure(Settings(given.data, given.dataset, (DEFAULT,) if given.quick else given.detector))
    for name, why in found.skipped:
        print(f"{name}: skipped: {why}", file=sys.stderr)
    if not found.rows:
        return 2
    nothing = [Row(name=f"{name}: skipped: {why}", value=0.0, unit="entities", runs=0) for name, why in found.skipped]
    rows = tuple(found.rows + nothing)
    figures.write(
        Figures(commit=machine.commit(), machine=machine.machine(), versions=machine.versions(sys.executable, _DISTRIBUTIONS), rows=rows),
        given.output,
    )
    print(figures.table(figures.in_order(Line("quality", row) for row in rows if row.runs)))
    print(f"\n{given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
