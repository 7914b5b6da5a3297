"""Tables: rows of CSV, Parquet and JSON files as the payloads that devices would have sent.

Rules this module keeps: a JSON row is handed on as its own bytes, so that the gateway's decoder judges them and nothing before it; of a
Parquet file only the columns that are wanted are read, batch by batch; nothing is guessed but the separator of a CSV file.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from vedette.contract import recordings
from vedette.contract import tables as contract_tables
from vedette.contract.errors import HistoryError
from vedette.contract.files import UNREADABLE, Advance, open_bytes
from vedette.contract.payloads.spec import TimeField

TEXT = (".csv", ".tsv", ".txt")
LINES = (".jsonl", ".ndjson")

_BATCH = 20_000
_PER_UNIT = {"s": 1e6, "ms": 1e3, "us": 1.0}
_BYTE = re.compile(r"\(byte (\d+)\)")


class Wanted(NamedTuple):
    """What is looked at in a row.

    Attributes:
        paths: Dotted paths of what the gateway's decoder reads: features, device and time.
        texts: Dotted paths of what only history has: the label, and times in columns.
        time: The time among `paths`; a Parquet timestamp there becomes what its unit says.
    """

    paths: tuple[str, ...]
    texts: tuple[str, ...]
    time: TimeField | None


class Row(NamedTuple):
    """One row.

    Attributes:
        number: In the unit of its Table.
        payload: UTF-8 JSON object.
        texts: The cells of `Wanted.texts`; None where they are to be taken from the payload.
    """

    number: int
    payload: bytes
    texts: tuple[str, ...] | None = None


class Table(NamedTuple):
    """A file's rows, for one pass.

    Attributes:
        unit: What a row's number counts, from 1.
        name: What a value's place in a row is called.
    """

    rows: Iterator[Row]
    unit: Literal["row", "line", "element"]
    name: Literal["column", "key"]


def open_table(path: Path, wanted: Wanted, advance: Advance) -> Table:
    """Open a table; what it is, its suffix says.

    Args:
        path: .csv, .tsv or .txt with a header; .json (an array of objects, or an object a line), .jsonl, .ndjson, recordings among
            them; each also with .gz after it; .parquet.
        wanted: What is looked at. Parquet timestamps without a zone are in UTC.
        advance: Told of bytes as they are read, of `path.stat().st_size` in all.

    Raises:
        HistoryError: the suffix is another. While rows are taken: the file cannot be read, or has no such column.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = next(iter(suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]), "")
    if kind in TEXT:
        return Table(_read_text(path, wanted, advance), "row", "column")
    if kind == ".parquet" and suffixes[-1] == kind:
        return Table(_read_parquet(path, wanted, advance), "row", "column")
    if kind in LINES and recordings.is_recording(path):
        return Table((Row(*line) for line in recordings.read_objects(path, advance)), "line", "key")
    if kind in LINES or (kind == ".json" and not _is_array(path)):
        return Table(_read_lines(path, advance), "line", "key")
    if kind == ".json":
        return Table(_read_array(path, advance), "element", "key")
    raise HistoryError(f"{path}: expected {', '.join((*TEXT, '.json', *LINES))} (each also with .gz after it) or .parquet")


def find_keys(path: Path, wanted: Wanted) -> list[str]:
    """The dotted paths that occur in a JSON file, in the order of their first occurrence."""
    found: dict[str, None] = {}
    for row in open_table(path, wanted, lambda _: None).rows:
        _add_keys(msgspec.json.decode(row.payload), "", found)
    return list(found)


def _add_keys(value: Any, prefix: str, found: dict[str, None]) -> None:
    for key, inner in value.items():
        if isinstance(inner, dict):
            _add_keys(inner, f"{prefix}{key}.", found)
        else:
            found[f"{prefix}{key}"] = None


def _absent(path: Path, row: int, column: str, columns: list[str]) -> HistoryError:
    return HistoryError(f'{path}: row {row}: no column "{column}"; the columns are {", ".join(columns)}')


def _unreadable(path: Path, error: Exception) -> HistoryError:
    return HistoryError(f"{path}: {getattr(error, 'strerror', None) or error}")


def _read_text(path: Path, wanted: Wanted, advance: Advance) -> Iterator[Row]:
    texts = wanted.texts
    checked = False
    for number, cells in contract_tables.read_table(path, advance):
        if not checked:
            # Every row has the header's columns: read_table sees to that.
            for column in wanted.paths + texts:
                if column not in cells:
                    raise _absent(path, number, column, list(cells))
            checked = True
        yield Row(number, contract_tables.row_payload(cells), tuple([cells[column] for column in texts]))


def _is_array(path: Path) -> bool:
    """Whether the first character, past a byte order mark, begins an array."""
    try:
        with open_bytes(path) as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _read_lines(path: Path, advance: Advance) -> Iterator[Row]:
    try:
        with open_bytes(path, advance) as file:
            for number, line in enumerate(file, start=1):
                payload = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
                if payload:
                    yield Row(number, payload)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _read_array(path: Path, advance: Advance) -> Iterator[Row]:
    try:
        with open_bytes(path) as file:
            data = file.read().removeprefix(b"\xef\xbb\xbf")
        elements = msgspec.json.decode(data, type=list[msgspec.Raw])
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        at = _BYTE.search(str(error))
        # Of an array that is broken somewhere, only the line can be told.
        line = f"line {data[: int(at[1])].count(10) + 1}: " if at else ""
        raise HistoryError(f"{path}: {line}{error}") from error
    # Reading the bytes is quick; the time is spent on the elements.
    size, told = path.stat().st_size, 0
    for number, element in enumerate(elements, start=1):
        yield Row(number, bytes(element))
        if number % _BATCH == 0 or number == len(elements):
            done = size * number // len(elements)
            advance(done - told)
            told = done


def _read_parquet(path: Path, wanted: Wanted, advance: Advance) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    paths = list(dict.fromkeys(wanted.paths + wanted.texts))
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in paths:
                if _leaf_type(file.schema_arrow, column) is None:
                    raise _absent(path, 1, column, names)
            share = path.stat().st_size / max(1, file.metadata.num_rows)
            tops = list(dict.fromkeys(column if column in names else column.partition(".")[0] for column in paths))
            times = {wanted.time.field: wanted.time} if wanted.time else {}
            for batch in file.iter_batches(_BATCH, columns=tops):
                columns = [_values(_leaf(batch, column), times.get(column)) for column in paths]
                for row in zip(*columns, strict=True):
                    number += 1
                    payload: dict[str, Any] = {}
                    for column, value in zip(paths, row, strict=True):
                        if value is not None and value == value:  # NaN is not itself
                            contract_tables.place(payload, column, value)
                    yield Row(number, msgspec.json.encode(payload))
                advance(int(share * batch.num_rows))
    except (pa.ArrowException, OSError) as error:
        raise HistoryError(f"{path}: after row {number}: {getattr(error, 'strerror', None) or error}") from error


def _leaf_type(schema: Any, path: str) -> Any:
    """The type of a column by its own name, dots and all, or of a field within a struct; None where there is neither."""
    if path in schema.names:
        return schema.field(path).type
    head, *rest = path.split(".")
    found = schema.field(head).type if head in schema.names else None
    for name in rest:
        found = (
            found.field(name).type if found is not None and hasattr(found, "get_field_index") and found.get_field_index(name) >= 0 else None
        )
    return found


def _leaf(batch: Any, path: str) -> Any:
    import pyarrow.compute as pc

    if path in batch.schema.names:
        return batch.column(path)
    head, *rest = path.split(".")
    return pc.struct_field(batch.column(head), rest)


def _values(column: Any, time: TimeField | None = None) -> list[Any]:
    """A column as what JSON can hold: a timestamp as text with its offset, or as the number that a time's unit asks for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_timestamp(kind) or (time and pa.types.is_date(kind)):
        instants = column.cast(pa.timestamp("us")) if pa.types.is_date(kind) else column
        instants = instants.cast(pa.timestamp("us", "UTC"), safe=False)  # not safe: a sensor's nanoseconds may go
        if time is None or time.unit == "iso":
            texts: list[Any] = instants.to_pylist()
            return texts
        return [None if count is None else count / _PER_UNIT[time.unit] for count in instants.cast(pa.int64()).to_pylist()]
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type) and pc.any(pc.is_inf(column)).as_py():
        # JSON has no infinity: as text the decoder refuses it by its name.
        return [str(value) if value in {float("inf"), float("-inf")} else value for value in values]
    return values
