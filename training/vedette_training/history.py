"""History: readings from tables, with labels, or from recordings, decoded exactly as the gateway decodes what its devices send.

Rules this module keeps: a recorded message goes through its stream's decoder; a table's row becomes the payload that a device would have
sent and goes through the gateway's decoder; readings keep the order of the files, so that a replay of those files sees the same windows; a
fault names file, row and column (in JSON: line or element, and key).
"""

import hashlib
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from vedette.contract.errors import HistoryError, ReadingError
from vedette.contract.features import Category, DayOfWeek, Elapsed, TimeOfDay, Value
from vedette.contract.manifest import Source
from vedette.contract.payloads import PayloadSpec, decoder_for
from vedette.contract.payloads.json_objects import JsonDecoder, check_mapping
from vedette.contract.readings import Message, PayloadLimits, Reading
from vedette.contract.recordings import read_messages
from vedette.topics import TopicFilter
from vedette_training import arranging, tables
from vedette_training.recipe import Recipe, Recording
from vedette_training.tables import Row, Table, Wanted

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_TEXT = Category(name="", text="raw")
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
    """Read tables; `tables.open_table` says of which kinds. On a terminal a bar shows how far it is.

    Raises:
        HistoryError: a file cannot be read, or a row holds no reading; with file, row and column.
        ConfigError: the recipe's fields contradict each other.
    """
    if recipe.history.recording:
        return _read_recordings(recipe, recipe.history.recording, files)
    reader = _Reader(recipe)
    history = History([], [], [], np.zeros(0, dtype=np.bool_), ())
    anomalous = bytearray()
    sources = []
    for path in files:
        before = len(history.times)
        # disable=None: a bar on a terminal, nothing in a pipe.
        size = path.stat().st_size if path.is_file() else None
        with tqdm(desc=path.name, total=size, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            table = tables.open_table(path, reader.wanted, bar.update)
            rows = _read_rows(table, path, reader, history, anomalous)
        if table.name == "key" and rows:
            reader.check_seen(path, history.values[before:])
        if len(history.times) == before:
            fault = "every row is empty" if rows else "no rows below the header" if table.unit == "row" else "no objects in it"
            raise HistoryError(f"{path}: {fault}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        sources.append(Source(name=path.name, sha256=digest, rows=len(history.times) - before))
    history = history._replace(anomalous=np.frombuffer(anomalous, dtype=np.bool_), sources=tuple(sources))
    return _arranged(history, recipe, merges=recipe.payload.merges, drops_repeats=recipe.history.repeats == "drop")


_BATCH = 4096


def _read_recordings(recipe: Recipe, recording: Recording, files: Sequence[Path]) -> History:
    """Messages through the stream's decoder: what the gateway would refuse is left out here too.

    Raises:
        HistoryError: a file cannot be read, or holds no reading; with the reasons why.
    """
    topic = TopicFilter(recording.topic, recipe.payload.others)
    try:
        decoder = decoder_for(recipe.payload, recipe.features, recording.device, topic, PayloadLimits(max_gap_s=recipe.window.max_gap_s))
    except ValueError as error:
        raise HistoryError(f"recipe {recipe.name}: history.recording.payload.{error}") from error
    history = History([], [], [], np.zeros(0, dtype=np.bool_), ())
    sources = []
    undated: list[int] = []
    for path in files:
        before = len(history.times)
        explained: dict[str, str] = {}
        messages = read_messages(path)
        while batch := list(islice(messages, _BATCH)):
            routed = [(message, device) for message in batch if (device := topic.match(message.topic)) is not None]
            read = decoder.decode_batch([message for message, _ in routed], [device for _, device in routed])
            explained = {**read.explained, **explained}
            undated += [len(history.times) + place for place in read.undated]
            history.devices.extend(read.devices)
            history.times.extend(read.times)
            history.values.extend(tuple(row) for row in read.values)
        if len(history.times) == before:
            why = "; ".join(f"{reason}: {words}" for reason, words in explained.items()) or f"no message on {recording.topic}"
            raise HistoryError(f"{path}: no readings in it: {why}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        sources.append(Source(name=path.name, sha256=digest, rows=len(history.times) - before))
    history = history._replace(anomalous=np.zeros(len(history.times), dtype=np.bool_), sources=tuple(sources))
    dated = np.ones(len(history.times), dtype=np.bool_)
    dated[undated] = False
    return _arranged(history, recipe, dated, merges=decoder.merges, drops_repeats=decoder.drops_repeats)


def _arranged(
    history: History, recipe: Recipe, dated: npt.NDArray[np.bool_] | None = None, *, merges: bool, drops_repeats: bool
) -> History:
    """What the gateway's timeline makes of it, where that is not what it is."""
    if drops_repeats:
        new = arranging.find_new(history.devices, history.times, history.values, recipe.features, recipe.window, dated)
        if len(new) < len(history.times):
            history = history._replace(
                devices=[history.devices[place] for place in new.tolist()],
                times=[history.times[place] for place in new.tolist()],
                values=[history.values[place] for place in new.tolist()],
                anomalous=history.anomalous[new],
            )
    if not arranging.is_needed(recipe.window, merges=merges):
        return history
    sources, times, values = arranging.arrange(
        history.devices, history.times, history.values, recipe.features, recipe.window, merges=merges
    )
    return history._replace(
        devices=[history.devices[source] for source in sources.tolist()],
        times=times,
        values=values,
        anomalous=history.anomalous[sources],
    )


def _read_rows(table: Table, path: Path, reader: "_Reader", history: History, anomalous: bytearray) -> int:
    """Add a table's readings to history, and their labels; returns how many rows there were."""
    names: dict[str, str] = {}  # one string a device, not one a row
    rows = 0
    for row in table.rows:
        rows += 1
        try:
            reading, is_anomalous = reader.read(row)
        except ReadingError as error:
            if error.reason == "empty":
                continue  # the gateway makes no reading of it either
            raise HistoryError(f"{path}: {table.unit} {row.number}: {reader.explain(error, row.payload, table.name)}") from error
        history.devices.append(names.setdefault(reading.device, reading.device))
        history.times.append(reading.time)
        history.values.append(reading.values)
        anomalous.append(is_anomalous)
    return rows


class _Reader:
    """Turns a row into a reading and its label.

    Attributes:
        wanted: What it looks at.
    """

    def __init__(self, recipe: Recipe) -> None:
        history = recipe.history
        label = (history.label.column,) if history.label else ()
        self._columns = history.time.columns
        try:
            check_mapping(recipe.payload, recipe.features)
            self._decoder = JsonDecoder(recipe.payload, recipe.features, history.device.column, PayloadLimits())
            # The label and the times in columns are no part of what a gateway reads, but are found and typed by the same rules.
            self._texts = JsonDecoder(
                PayloadSpec(), tuple(Category(name=path) for path in dict.fromkeys(label + self._columns)), None, PayloadLimits()
            )
        except ValueError as error:
            raise HistoryError(f"recipe {recipe.name}: {error}") from error
        self._device = history.device.column
        self._name = history.device.name or ""
        self._time = history.time
        self._label = history.label
        self._normal = frozenset(_label_text(text) for text in history.label.normal) if history.label else frozenset()
        self._paths = {
            feature.name: recipe.fields.get(feature.name, feature.name)
            for feature in recipe.features
            if not isinstance(feature, TimeOfDay | DayOfWeek | Elapsed)
        }
        self._indices = {feature.name: index for index, feature in enumerate(recipe.features)}
        paths = [*self._paths.values(), history.device.column, history.time.field]
        self.wanted = Wanted(
            tuple(path for path in paths if path is not None), tuple(dict.fromkeys(label + self._columns)), recipe.payload.time
        )

    def read(self, row: Row) -> tuple[Reading, bool]:
        """Decode a row.

        Raises:
            ReadingError: it holds no reading, or no label; `explain` says so in words.
        """
        texts: dict[str, Any] = {}
        if self.wanted.texts:
            found = row.texts or self._texts.values(row.payload)
            texts = dict(zip(self.wanted.texts, found, strict=True))
        # History is never ahead of the clock: without columns of its own, `arrived` must not refuse what the field
        # says.
        arrived = self._time_in_columns(texts) if self._columns else math.inf
        reading = self._decoder.decode(Message("", row.payload, arrived), self._name)
        return reading, self._label is not None and self._is_anomalous(texts[self._label.column])

    def _time_in_columns(self, texts: dict[str, Any]) -> float:
        missing = [column for column in self._columns if texts[column] is None]
        if missing:
            raise ReadingError(_COLUMN, f"{missing[0]}: missing, but every row needs a time")
        text = " ".join(_TEXT.normalise(texts[column]).strip() for column in self._columns)
        time = _parse_time(text, self._time.formats)
        if time is None or time < 0:
            layouts = " or ".join(f'"{layout}"' for layout in self._time.formats)
            fault = f'expected a time like {layouts}, got "{text}"' if time is None else f'before 1970, got "{text}"'
            raise ReadingError(_COLUMN, f"{', '.join(self._columns)}: {fault}")
        return time

    def _is_anomalous(self, value: Value) -> bool:
        assert self._label is not None
        text = "" if value is None else _label_text(_TEXT.normalise(value))
        if not text:
            raise ReadingError(_COLUMN, f"{self._label.column}: empty, but every row needs a label")
        return text not in self._normal

    def explain(self, error: ReadingError, payload: bytes, name: str) -> str:
        """The decoder's words about a payload as words about a column or key."""
        if error.reason == _COLUMN:
            return f"{name} {error}"
        named = {"device": self._device, "time": self._time.field, "future": self._time.field}.get(error.reason)
        if named is not None:
            return f"{name} {named}: {error}{_shown(payload, named)}"
        # What the gateway advises its operator to do with a null is not what can be done about a file.
        match = _PATH.fullmatch(str(error).partition("; leave the field out")[0])
        if not match:
            return str(error)
        what = match["what"].partition(", got")[0]
        for theirs, ours in _WORDS.items():
            what = what.replace(theirs, ours)
        if match["path"]:
            return f"{name} {match['path']}: {what}{_shown(payload, match['path'])}"
        return f"{what[0].lower()}{what[1:]}" if error.reason in {"type", "null"} else str(error)

    def check_seen(self, path: Path, values: Sequence[tuple[Value, ...]]) -> None:
        """Make sure that each feature was in some row of a file without a header.

        Raises:
            HistoryError: one never was.
        """
        for name, where in self._paths.items():
            index = self._indices[name]
            # A number's NaN is not itself; JSON has none, so it stands for what was not there.
            if all(row[index] is None or row[index] != row[index] for row in values):
                keys = ", ".join(tables.find_keys(path, self.wanted))
                raise HistoryError(f'{path}: feature {name}: no object has the key "{where}"; the keys are {keys}')


_COLUMN = "column"  # the reason of an error that is in the words of its column already
_WORDS = {
    "Expected `float`": "expected a number",
    "Expected `bool | int | float | str`": "expected text, a number or true or false",
    "Expected `object`": "expected an object",
    "Invalid RFC3339 encoded datetime": "expected a time like 2026-11-21T10:02:31Z",
    "Expected": "expected",
    "Invalid": "invalid",
    "`": "",
}


def _shown(payload: bytes, path: str) -> str:
    """The value at a path, as it is shown at the end of an error; nothing where there is none."""
    try:
        value = msgspec.json.decode(payload)
        for part in path.split("."):
            value = value[part]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return ""
    return ", got null: leave the key out where there is no value" if value is None else f", got {value!r}"


@lru_cache(maxsize=4096)
def _label_text(text: str) -> str:
    """The text under which a label is looked up: 1, 1.0, "1" and " 1 " are one label; `nan` is none."""
    bare = text.strip()
    if bare.lower() == "nan":
        return ""
    return _TEXT.normalise(float(bare)) if _NUMBER.fullmatch(bare) else bare


@lru_cache(maxsize=4096)  # readings of one instant stand together, and strptime takes longer than the rest of the row
def _parse_time(text: str, layouts: tuple[str, ...]) -> float | None:
    """Epoch seconds by the first layout that fits; in UTC where the layout reads no offset."""
    for layout in layouts:
        try:
            time = datetime.strptime(text, layout)  # noqa: DTZ007 because the layout may hold the offset
        except ValueError:
            continue
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return None
