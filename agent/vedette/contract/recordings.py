"""Recorded telemetry: files of messages, and tables whose rows are taken for messages.

A table's row becomes the JSON object that a device would have sent, so that history and live telemetry go through one decoder.
Rules this module keeps: a file that cannot be read raises HistoryError with file and row; nothing is guessed.
"""

import base64
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from vedette.contract.errors import HistoryError
from vedette.contract.readings import MAX_TIME, Message

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


_CHUNK = 1 << 18

Advance = Callable[[int], object]
"""Told how many more bytes of a file were read: for a progress bar."""


def _nobody(count: int) -> None:
    """An Advance that tells nobody."""


class Row(NamedTuple):
    """A table's row: its number in the file, the header being 1, and its cells by column name."""

    number: int
    cells: dict[str, str]


class _Record(msgspec.Struct, kw_only=True):
    """A line of a recording; `receivedTimestamp` is what other tools call the time of arrival."""

    topic: str
    payload: msgspec.Raw = msgspec.Raw()
    payload_base64: str | None = None
    time: float | None = None
    retain: bool = False
    receivedTimestamp: datetime | None = None  # noqa: N815 because it is the file's own key


def read_table(path: Path, advance: Advance = _nobody) -> Iterator[Row]:
    """Rows of a CSV file with a header, in order; a byte order mark and spaces around column names are dropped.

    Cells are separated by what the header holds most of: comma, semicolon or tab. A name that ends in `.gz` is unpacked.

    Args:
        path: The file.
        advance: Told of bytes as they are read from the disk.

    Raises:
        HistoryError: the file cannot be read, has no header or a row of another width.
    """
    number = 0
    try:
        with open_bytes(path, advance) as data, io.TextIOWrapper(data, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            reader = csv.reader(chain([first] if first else [], file), strict=True, delimiter=_separator(first))
            header = [name.strip() for name in next(reader, [])]
            if not header or len(set(header)) != len(header):
                raise HistoryError(f"{path}: row 1: expected a header of distinct column names")
            for number, cells in enumerate(reader, start=2):
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise HistoryError(f"{path}: row {number}: {len(cells)} cells, but the header names {len(header)} columns")
                yield Row(number, dict(zip(header, cells, strict=True)))
    except UnicodeDecodeError as error:
        raise HistoryError(f"{path}: after row {number}: not UTF-8: {error.reason}") from error
    except csv.Error as error:
        raise HistoryError(f"{path}: row {number + 1}: {error}") from error
    except UNREADABLE as error:
        raise HistoryError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading from `open_bytes` raises; the last two where a packed file is cut off or damaged."""


@contextmanager
def open_bytes(path: Path, advance: Advance = _nobody) -> Iterator[BinaryIO]:
    """A file's bytes; of one whose name ends in `.gz`, what is packed in it.

    Args:
        path: The file.
        advance: Told of bytes as they are read from the disk, so that a packed file's progress has a known end.

    Raises:
        OSError: it cannot be opened.
    """
    with io.BufferedReader(_Watched(path, advance), _CHUNK) as data:
        if path.suffix.lower() != ".gz":
            yield data
            return
        with gzip.GzipFile(fileobj=data) as unpacked:
            yield io.BufferedReader(unpacked, _CHUNK)


class _Watched(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(path)
        self._advance = advance

    def readinto(self, buffer: Any, /) -> int | None:
        count = super().readinto(buffer)
        self._advance(count or 0)
        return count


def _separator(header: str) -> str:
    """The likeliest of the three; csv.Sniffer looks at cells too and takes a date's colon or a space for one."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(",;\t", key=bare.count)  # the first of equals: the comma


def row_payload(cells: Mapping[str, str]) -> bytes:
    """The JSON object that a table's row stands for.

    A cell that is a JSON number is one; an empty cell and `nan` are absent; any other is text, spaces and all. A dotted column name
    is a path.
    """
    payload: dict[str, Any] = {}
    for name, cell in cells.items():
        bare = cell.strip()
        if not bare or (len(bare) == 3 and bare.lower() == "nan"):
            continue
        # A million rows are read through here: the first character rules out most texts before the pattern is tried.
        value = msgspec.Raw(bare.encode()) if bare[0] in "-0123456789" and _JSON_NUMBER.fullmatch(bare) else cell
        if "." in name or name in payload:
            place(payload, name, value)
        else:
            payload[name] = value
    return msgspec.json.encode(payload)


def place(payload: dict[str, Any], path: str, value: object) -> None:
    """Put a value where a dotted path says.

    A column that is a prefix of another's path, as a of a.b, would be both a value and an object: the object wins.
    """
    target = payload
    if "." in path:
        *parents, path = path.split(".")
        for parent in parents:
            inner = target.get(parent)
            target[parent] = target = inner if isinstance(inner, dict) else {}
    if not isinstance(target.get(path), dict):
        target[path] = value


def read_messages(path: Path) -> Iterator[Message]:
    """Messages of a recording: JSON lines with `topic`, `payload` (JSON, or the payload's text) or `payload_base64`, and `time`;
    `retain` where the broker had kept it.

    A record without a time arrived with the one before it: real captures have such.

    Raises:
        HistoryError: the file cannot be read, or a line is no record.
    """
    decoder = msgspec.json.Decoder(_Record)
    arrived: float | None = None
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.isspace():
                    continue
                try:
                    record = decoder.decode(line)
                    arrived = _arrival(record, arrived)
                    yield Message(record.topic, _payload(record), arrived, record.retain)
                except (msgspec.DecodeError, ValueError, RecursionError) as error:
                    raise HistoryError(f"{path}: line {number}: {error}") from error
    except OSError as error:
        raise HistoryError(f"{path}: {error.strerror}") from error


def _payload(record: _Record) -> bytes:
    if record.payload_base64 is not None:
        return base64.b64decode(record.payload_base64, validate=True)
    if not bytes(record.payload):
        raise ValueError("expected payload or payload_base64")
    raw = bytes(record.payload)
    return msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else raw


def _arrival(record: _Record, before: float | None) -> float:
    if record.time is not None:
        if not 0 <= record.time <= MAX_TIME:
            raise ValueError(f"time: expected epoch seconds, got {record.time:.0f}")
        return record.time
    if record.receivedTimestamp and record.receivedTimestamp.tzinfo:
        return record.receivedTimestamp.timestamp()
    if record.receivedTimestamp or before is None:
        raise ValueError("expected time (epoch seconds) or receivedTimestamp (with an offset)")
    return before
