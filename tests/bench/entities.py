"""The public labelled data that detection is measured on, one entity at a time: SMD, ASD, SKAB, SMAP and NAB.

Rules this module keeps: an entity's training rows come before its test rows and are never among them; a data set that is not here, or
has no labels here, yields nothing, and `missing` says what to fetch.
"""

import ast
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bench import nab

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]
Times = npt.NDArray[np.datetime64]
Dataset = Literal["smd", "asd", "skab", "smap", "nab"]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

SKAB_TRAIN_ROWS = 400
"""SKAB's own benchmark fits on the first 400 rows of each file and scores the rest."""

SMAP_COMMANDS = 24
"""One-hot command columns beside a SMAP channel's telemetry."""

_WANTED: dict[Dataset, tuple[str, str]] = {
    "smd": ("smd/*.npz", "the Server Machine Dataset, packed as npz"),
    "asd": ("asd/*.npz", "the Application Server Dataset, packed as npz"),
    "skab": ("skab/valve1/*.csv", "the Skoltech Anomaly Benchmark's valve1"),
    "smap": ("smap/labeled_anomalies.csv", "labeled_anomalies.csv of telemanom beside SMAP.npz"),
    "nab": ("nab/combined_windows.json", "the Numenta Anomaly Benchmark"),
}


class Entity(NamedTuple):
    """One machine, server, experiment, channel or series.

    Attributes:
        train: float64 `(n, d)`, held to be normal. NAB's are the probation.
        test: float64 `(m, d)`, the rows that follow.
        labels: bool `(m,)`, whether a test row is anomalous. NAB's are its windows, wider than what happened.
        train_times: datetime64[s] `(n,)`; None where the data has no times, and the rows are then evenly spaced.
        test_times: datetime64[s] `(m,)`, or None.
        interval_s: Seconds between rows, the median where it varies.
    """

    dataset: Dataset
    name: str
    train: Floats
    test: Floats
    labels: Labels
    train_times: Times | None
    test_times: Times | None
    interval_s: float


def missing(dataset: Dataset, folder: Path = DATA) -> str | None:
    """Say what a data set lacks; None where it is here."""
    pattern, what = _WANTED[dataset]
    return None if any(folder.glob(pattern)) else f"{folder / pattern}: nothing there; it needs {what}"


def read(dataset: Dataset, folder: Path = DATA) -> Iterator[Entity]:
    """Read a data set's entities in the order of their names; none where it is not here.

    Args:
        dataset: Which one.
        folder: Where the data sets' folders are.
    """
    if missing(dataset, folder) is not None:
        return
    if dataset == "smd":
        yield from _read_servers("smd", folder / "smd", interval_s=60.0)
    elif dataset == "asd":
        yield from _read_servers("asd", folder / "asd", interval_s=300.0)
    elif dataset == "skab":
        yield from _read_skab(folder / "skab")
    elif dataset == "smap":
        yield from _read_smap(folder / "smap")
    else:
        yield from _read_nab(folder / "nab")


def _read_servers(dataset: Literal["smd", "asd"], folder: Path, interval_s: float) -> Iterator[Entity]:
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as packed:
            yield Entity(
                dataset=dataset,
                name=path.stem,
                train=packed["train"].astype(np.float64),
                test=packed["test"].astype(np.float64),
                labels=packed["test_label"].astype(np.bool_),
                train_times=None,
                test_times=None,
                interval_s=interval_s,
            )


def _read_skab(folder: Path) -> Iterator[Entity]:
    """Read every labelled file of the labelled folders (valve1, valve2, other); in `anomaly-free` nothing can be found."""
    for path in sorted(folder.glob("*/*.csv"), key=lambda path: (path.parent.name, len(path.stem), path.stem)):
        with path.open(newline="", encoding="utf-8") as lines:
            header = next(csv.reader(lines, delimiter=";"))
            rows = list(csv.reader(lines, delimiter=";"))
        if "anomaly" not in header:
            continue
        sensors = [column for column, name in enumerate(header) if name not in {"datetime", "anomaly", "changepoint"}]
        times = np.array([row[header.index("datetime")] for row in rows], dtype="datetime64[s]")
        values = np.array([[row[column] for column in sensors] for row in rows], dtype=np.float64)
        labels = np.array([row[header.index("anomaly")] for row in rows], dtype=np.float64) > 0
        yield _split("skab", f"{path.parent.name}/{path.stem}", values, labels, times, SKAB_TRAIN_ROWS)


def _read_smap(folder: Path) -> Iterator[Entity]:
    """Read every SMAP channel: its telemetry, then its 24 command columns. Two lines of labels for one channel are one entity."""
    spans: dict[str, list[tuple[int, int]]] = {}
    with (folder / "labeled_anomalies.csv").open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["spacecraft"] == "SMAP":
                spans.setdefault(row["chan_id"], []).extend(ast.literal_eval(row["anomaly_sequences"]))
    with np.load(folder / "SMAP.npz", allow_pickle=False) as packed:
        for name in sorted({key.split("__")[0] for key in packed.files} & set(spans)):
            train, test = (_telemetry_and_commands(packed[f"{name}__{part}"], packed[f"{name}__{part}_cmd"]) for part in ("train", "test"))
            labels = np.zeros(len(test), dtype=np.bool_)
            for first, last in spans[name]:
                labels[first : last + 1] = True
            yield Entity(
                dataset="smap", name=name, train=train, test=test, labels=labels, train_times=None, test_times=None, interval_s=60.0
            )


def _telemetry_and_commands(telemetry: npt.NDArray[np.float32], commands: npt.NDArray[np.uint8]) -> Floats:
    unpacked = np.unpackbits(commands, axis=1)[:, :SMAP_COMMANDS]
    return np.column_stack([telemetry.reshape(len(unpacked), -1), unpacked]).astype(np.float64)


def _read_nab(folder: Path) -> Iterator[Entity]:
    for series in nab.read_series(folder):
        labels = np.zeros(len(series.values), dtype=np.bool_)
        for first, last in series.windows:
            labels[first : last + 1] = True
        yield _split("nab", series.name, series.values[:, None], labels, series.times, series.probation)


def _split(dataset: Literal["skab", "nab"], name: str, values: Floats, labels: Labels, times: Times, train_rows: int) -> Entity:
    return Entity(
        dataset=dataset,
        name=name,
        train=values[:train_rows],
        test=values[train_rows:],
        labels=labels[train_rows:],
        train_times=times[:train_rows],
        test_times=times[train_rows:],
        interval_s=float(np.median(np.diff(times).astype(np.float64))),
    )
