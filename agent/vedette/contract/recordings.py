"""Recorded telemetry: files of messages, and tables whose rows are taken for messages.

A table's row becomes the JSON object that a device would have sent, so that history and live telemetry go through one decoder.
Rules this module keeps: a file that cannot be read raises HistoryError with file and row; nothing is guessed.
"""

import base64
import csv
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vedette.contract.errors import HistoryError
from vedette.contract.readings import MAX_TIME, Message

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


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
    receivedTimestamp: datetime | None = None  # noqa: N815 because it is the file's own key


def read_table(path: Path) -> Iterator[Row]:
    """Rows of a CSV file with a header, in order; a byte order mark and spaces around column names are dropped.

    Raises:
        HistoryError: the file cannot be read, has no header or a row of another width.
    """
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if not header or len(set(header)) != len(header):
                raise HistoryError(f"{path}: row 1: expected a header of distinct column names")
            for number, cells in enumerate(reader, start=2):
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise HistoryError(f"{path}: row {number}: {len(cells)} cells, but the header names {len(header)} columns")
                yield Row(number, dict(zip(header, cells, strict=True)))
    except OSError as error:
        raise HistoryError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HistoryError(f"{path}: after row {number}: not UTF-8: {error.reason}") from error
    except csv.Error as error:
        raise HistoryError(f"{path}: row {number + 1}: {error}") from error


def row_payload(cells: Mapping[str, str]) -> bytes:
    """The JSON object that a table's row stands for.

    A cell that is a JSON number is one; an empty cell and `nan` are absent; any other is text, spaces and all. A dotted column name
    is a path.
    """
    payload: dict[str, Any] = {}
    # A column that is a prefix of another's path, as a of a.b, would be both a value and an object: the object wins.
    for name, cell in cells.items():
        bare = cell.strip()
        if not bare or bare.lower() == "nan":
            continue
        *parents, key = name.split(".")
        target = payload
        for parent in parents:
            inner = target.get(parent)
            target[parent] = target = inner if isinstance(inner, dict) else {}
        if not isinstance(target.get(key), dict):
            target[key] = msgspec.Raw(bare.encode()) if _JSON_NUMBER.fullmatch(bare) else cell
    return msgspec.json.encode(payload)


def read_messages(path: Path) -> Iterator[Message]:
    """Messages of a recording: JSON lines with `topic`, `payload` (JSON, or the payload's text) or `payload_base64`, and `time`.

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
                    yield Message(record.topic, _payload(record), arrived)
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
