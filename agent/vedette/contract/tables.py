"""Tables of telemetry, whose rows are taken for messages.

A table's row becomes the JSON object that a device would have sent, so that history and live telemetry go through one decoder.
Rules this module keeps: a file that cannot be read raises HistoryError with file and row; nothing is guessed.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vedette.contract.errors import HistoryError
from vedette.contract.files import UNREADABLE, Advance, nobody, open_bytes

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


class Row(NamedTuple):
    """A table's row: its number in the file, the header being 1, and its cells by column name."""

    number: int
    cells: dict[str, str]


def read_table(path: Path, advance: Advance = nobody) -> Iterator[Row]:
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
