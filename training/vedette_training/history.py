"""History: labelled readings from tables, decoded exactly as the gateway decodes what its devices send.

Rules this module keeps: a row becomes the payload that a device would have sent and goes through the gateway's decoder;
readings keep the order of the files, so that a replay of those files sees the same windows; a fault names file, row and
column.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from vedette.contract.errors import HistoryError, ReadingError
from vedette.contract.features import Value
from vedette.contract.manifest import Source
from vedette.contract.readings import JsonDecoder, Reading
from vedette.contract.recordings import read_table, row_payload
from vedette_training.recipe import EventTime, Recipe

_PATH = re.compile(r"payload: (?P<what>.*?)(?: - at `\$\.(?P<path>[^`]*)`)?", re.DOTALL)


class History(NamedTuple):
    """n readings in the order of their files.

    Attributes:
        devices: n names.
        times: n event times, epoch seconds.
        values: n tuples in the order of the recipe's features.
        anomalous: bool `(n,)`; all False where the recipe names no label.
        sources: The files.
    """

    devices: list[str]
    times: list[float]
    values: list[tuple[Value, ...]]
    anomalous: npt.NDArray[np.bool_]
    sources: tuple[Source, ...]


def find_files(patterns: Sequence[str], folder: Path) -> list[Path]:
    """The files that paths or globs, relative to `folder`, name: sorted within a glob, each once.

    Raises:
        HistoryError: a pattern names none, or there are no patterns.
    """
    if not patterns:
        raise HistoryError("no history: the recipe names no files, so give them with --history FILE...")
    found: dict[Path, None] = {}
    for pattern in patterns:
        plain = folder / pattern
        if plain.is_dir():
            raise HistoryError(f"{plain}: a folder: name its files, such as {plain / '*.csv'}")
        paths = [plain] if plain.is_file() else sorted(Path(plain.anchor).glob(str(plain.relative_to(plain.anchor))))
        if not paths:
            raise HistoryError(f"{plain}: no such file")
        found.update(dict.fromkeys(paths))
    return list(found)


def read(recipe: Recipe, files: Sequence[Path]) -> History:
    """Read tables. On a terminal a bar shows how far it is.

    Raises:
        HistoryError: a file cannot be read, or a row holds no reading; with file, row and column.
        ConfigError: the recipe's fields contradict each other.
    """
    reader = _Reader(recipe)
    readings: list[Reading] = []
    anomalous: list[bool] = []
    sources = []
    for path in files:
        before = len(readings)
        # disable=None: a bar on a terminal, nothing in a pipe.
        for row in tqdm(read_table(path), desc=path.name, unit=" rows", disable=None, leave=False):
            where = f"{path}: row {row.number}"
            readings.append(reader.reading(row.cells, where))
            anomalous.append(reader.is_anomalous(row.cells, where))
        if len(readings) == before:
            raise HistoryError(f"{path}: no rows below the header")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        sources.append(Source(name=path.name, sha256=digest, rows=len(readings) - before))
    return History(
        devices=[reading.device for reading in readings],
        times=[reading.time for reading in readings],
        values=[reading.values for reading in readings],
        anomalous=np.array(anomalous, dtype=np.bool_),
        sources=tuple(sources),
    )


class _Reader:
    """Turns a row's cells into a reading and its label."""

    def __init__(self, recipe: Recipe) -> None:
        history = recipe.history
        try:
            self._decoder = JsonDecoder(recipe.payload, recipe.features, history.device.column)
        except ValueError as error:
            raise HistoryError(f"recipe {recipe.name}: {error}") from error
        self._device = history.device.column
        self._name = history.device.name or ""
        self._time = history.time
        self._label = history.label
        self._columns = [recipe.fields.get(feature.name, feature.name) for feature in recipe.features]
        self._columns += [c for c in (history.device.column, history.time.field, *history.time.columns) if c is not None]
        self._columns += [history.label.column] if history.label else []

    def reading(self, cells: Mapping[str, str], where: str) -> Reading:
        if missing := [column for column in self._columns if column not in cells]:
            raise HistoryError(f'{where}: no column "{missing[0]}"; the columns are {", ".join(cells)}')
        # History is never ahead of the clock: without columns of its own, `arrived` must not refuse what the field
        # says.
        arrived = _parse_time(self._time, cells, where) if self._time.columns else math.inf
        try:
            return self._decoder.decode(row_payload(cells), arrived=arrived, device=self._name)
        except ReadingError as error:
            raise HistoryError(f"{where}: {self._explain(error, cells)}") from error

    def is_anomalous(self, cells: Mapping[str, str], where: str) -> bool:
        if self._label is None:
            return False
        value = cells[self._label.column].strip()
        if not value:
            raise HistoryError(f"{where}: column {self._label.column}: empty, but every row needs a label")
        return value not in self._label.normal

    def _explain(self, error: ReadingError, cells: Mapping[str, str]) -> str:
        """The decoder's words about a payload as words about a column."""
        named = {"device": self._device, "time": self._time.field, "future": self._time.field}.get(error.reason)
        if named is not None:
            return f"column {named}: {error}, got {cells[named]!r}"
        match = _PATH.fullmatch(str(error))
        if match and match["path"] in cells:
            expected = match["what"].partition(", got")[0].replace("`float`", "a number").replace("`", "").lower()
            return f"column {match['path']}: {expected}, got {cells[match['path']]!r}"
        return str(error)


def _parse_time(time: EventTime, cells: Mapping[str, str], where: str) -> float:
    assert time.format is not None
    text = " ".join(cells[column].strip() for column in time.columns)
    try:
        return datetime.strptime(text, time.format).replace(tzinfo=UTC).timestamp()
    except ValueError:
        columns = ", ".join(time.columns)
        raise HistoryError(f'{where}: column {columns}: expected a time like "{time.format}", got "{text}"') from None
