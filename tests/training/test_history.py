import csv
import gzip
import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from vedette.contract.errors import HistoryError
from vedette.contract.features import Categories, Category, Number, TimeOfDay
from vedette.contract.readings import Message
from vedette.contract.recordings import RecordingWriter
from vedette_training import dataset, history, tables
from vedette_training import recipe as recipes
from vedette_training.detectors.isolation_forest import IsolationForest
from vedette_training.recipe import Device, EventTime, Label, Recipe

GOOD = ["b-1", 100, 61.5, "open", 0]


def test_row_is_read_as_the_gateway_reads_a_payload(recipe: Recipe, write_table: Callable[..., Path]) -> None:
    rows = [GOOD, ["b-2", 101, "", "shut ", " 1 "], ["b-1", 102, 60, "", 0], ["b-1", 103, "NaN", "", 0]]
    read = history.read(recipe, [write_table(rows)])
    # The last one holds no value at all: the gateway makes no reading of it.
    assert read.devices == ["b-1", "b-2", "b-1"]
    assert read.times == [100.0, 101.0, 102.0]
    assert read.values[0] == (61.5, "open")
    assert str(read.values[1][0]) == "nan"
    assert read.values[1][1] == "shut "
    assert read.values[2][1] is None
    assert read.anomalous.tolist() == [False, True, False]


def test_readings_keep_the_order_of_the_file_even_when_time_goes_back(recipe: Recipe, write_table: Callable[..., Path]) -> None:
    rows = [["b-1", ts, 60, "open", 0] for ts in (300, 100, 200)]
    assert history.read(recipe, [write_table(rows)]).times == [300.0, 100.0, 200.0]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (2, "warm", "column temperature: expected a number, got 'warm'"),
        (1, "noon", "column ts: "),
        (1, "", "column ts: "),
        (1, "-5", "column ts: "),
        (0, "", "column device: "),
        (4, "", "column label: empty"),
    ],
)
def test_fault_names_file_row_and_column(recipe: Recipe, write_table: Callable[..., Path], column: int, value: str, words: str) -> None:
    bad: list[object] = list(GOOD)
    bad[column] = value
    path = write_table([GOOD, bad])
    with pytest.raises(HistoryError) as caught:
        history.read(recipe, [path])
    assert str(caught.value).startswith(f"{path}: row 3: {words}")


def test_absent_column_is_named_beside_those_that_there_are(recipe: Recipe, write_table: Callable[..., Path]) -> None:
    wanted = msgspec.structs.replace(recipe, fields={"temperature": "temp"})
    path = write_table([GOOD])
    expected = f'{path}: row 2: no column "temp"; the columns are device, ts, temperature, valve, label'
    with pytest.raises(HistoryError, match=re.escape(expected)):
        history.read(wanted, [path])


def test_time_in_columns_is_utc_and_a_fault_in_it_is_shown(recipe: Recipe, tmp_path: Path) -> None:
    time = EventTime(columns=("date", "time"), format="%d-%b-%y %H:%M:%S")
    wanted = msgspec.structs.replace(recipe, history=msgspec.structs.replace(recipe.history, time=time))
    path = tmp_path / "history.csv"
    path.write_text("device,date,time,temperature,valve,label\nb,25-Apr-19, 19:19:40 ,1,open,0\n")
    assert history.read(wanted, [path]).times == [1556219980.0]
    path.write_text("device,date,time,temperature,valve,label\nb,25-Apr-19, 25:19:40 ,1,open,0\n")
    with pytest.raises(HistoryError, match=r'row 2: column date, time: expected a time like .*, got "25-Apr-19 25:19:40"'):
        history.read(wanted, [path])


def with_time(recipe: Recipe, **time: Any) -> Recipe:
    return msgspec.structs.replace(recipe, history=msgspec.structs.replace(recipe.history, time=EventTime(**time)))


def with_label(recipe: Recipe, column: str, *normal: str) -> Recipe:
    label = Label(column=column, normal=normal or ("0",))
    return msgspec.structs.replace(recipe, history=msgspec.structs.replace(recipe.history, label=label))


def test_first_layout_that_fits_is_taken_and_all_are_named_in_a_fault(recipe: Recipe, write_table: Callable[..., Path]) -> None:
    wanted = with_time(recipe, columns=("ts",), format=("%d.%m.%Y %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%z"))
    texts = ["01.02.2024 10:00", "2024-02-01 10:00:00", "2024-02-01 12:00:00+0200"]
    assert history.read(wanted, [write_table([["b", ts, n, "open", 0] for n, ts in enumerate(texts)])]).times == [1706781600.0] * 3
    with pytest.raises(HistoryError) as caught:
        history.read(wanted, [write_table([["b", "noon", 1, "open", 0]])])
    assert 'a time like "%d.%m.%Y %H:%M" or "%Y-%m-%d %H:%M:%S" or "%Y-%m-%d %H:%M:%S%z", got "noon"' in str(caught.value)


def test_time_in_columns_before_1970_is_refused(recipe: Recipe, write_table: Callable[..., Path]) -> None:
    wanted = with_time(recipe, columns=("ts",), format="%H:%M")  # without a date it is 1900
    with pytest.raises(HistoryError, match=r'row 2: column ts: before 1970, got "10:00"'):
        history.read(wanted, [write_table([["b", "10:00", 1, "open", 0]])])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separator_is_what_the_header_holds_most_of(recipe: Recipe, tmp_path: Path, separator: str) -> None:
    rows = [["device", "ts", "temperature", "valve", '"label, of;all"'], ["b, c" if separator != "," else "b", "100", "1.5", "open", "0"]]
    path = tmp_path / "history.csv"
    path.write_text("\n".join(separator.join(row) for row in rows))
    read = history.read(with_label(recipe, "label, of;all"), [path])
    assert read.values == [(1.5, "open")]
    assert read.devices == [rows[1][0]]


def test_skab_file_is_read(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "skab.csv"
    path.write_text("datetime;Volume Flow RateRMS;anomaly\n2020-03-09 10:14:33;32.0;0.0\n2020-03-09 10:14:34;31.0;1.0\n")
    wanted = msgspec.structs.replace(
        with_label(with_time(recipe, columns=("datetime",), format="%Y-%m-%d %H:%M:%S"), "anomaly"),
        features=(Number(name="flow"),), fields={"flow": "Volume Flow RateRMS"},
    )  # fmt: skip
    wanted = msgspec.structs.replace(wanted, history=msgspec.structs.replace(wanted.history, device=recipes.Device(name="pump")))
    read = history.read(wanted, [path])
    assert read.devices == ["pump", "pump"]
    assert read.times == [1583748873.0, 1583748874.0]
    assert read.anomalous.tolist() == [False, True]  # 0.0 is the label "0"


def test_time_of_day_needs_no_column(recipe: Recipe, write_table: Callable[..., Path]) -> None:
    wanted = msgspec.structs.replace(recipe, features=(*recipe.features, TimeOfDay()))
    assert history.read(wanted, [write_table([GOOD])]).values == [(61.5, "open", 100.0)]


def test_label_that_is_not_there_is_never_taken_for_one(recipe: Recipe, write_table: Callable[..., Path]) -> None:
    with pytest.raises(HistoryError, match="row 2: column label: empty"):
        history.read(recipe, [write_table([[*GOOD[:4], "nan"]])])


# JSON

JSON_ROWS = [
    {"device": "b-1", "ts": 100, "temperature": 61.5, "valve": "open", "label": 0},
    {"device": "b-2", "ts": 101, "valve": "shut ", "label": 1, "more": [{}]},
    {"device": "b-1", "ts": 102.5, "temperature": -1e-3, "label": "0"},
]


def as_array(rows: Sequence[object]) -> str:
    return "\ufeff" + json.dumps(rows, indent=1)


def as_lines(rows: Sequence[object]) -> str:
    return "\ufeff" + "\n".join(json.dumps(row) for row in rows) + "\n\n"


def write_json(folder: Path, rows: Sequence[object], suffix: str = ".jsonl") -> Path:
    path = folder / f"history{suffix}"
    text = (as_array if suffix.startswith(".json") and "l" not in suffix.removeprefix(".json") else as_lines)(rows).encode()
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson", ".JSONL", ".json.gz", ".jsonl.gz"])
def test_json_objects_are_readings(recipe: Recipe, tmp_path: Path, suffix: str) -> None:
    read = history.read(recipe, [write_json(tmp_path, JSON_ROWS, suffix)])
    assert read.devices == ["b-1", "b-2", "b-1"]
    assert read.times == [100.0, 101.0, 102.5]
    assert read.values[0] == (61.5, "open")
    assert math.isnan(read.values[1][0])  # type: ignore[arg-type] # because a value may be text
    assert [row[1] for row in read.values] == ["open", "shut ", None]
    assert read.anomalous.tolist() == [False, True, False]
    assert read.sources[0].rows == 3


def test_json_file_may_hold_lines(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(as_lines(JSON_ROWS))
    assert history.read(recipe, [path]).times == [100.0, 101.0, 102.5]


def test_csv_and_json_of_the_same_rows_give_the_same_history(recipe: Recipe, tmp_path: Path, write_table: Callable[..., Path]) -> None:
    keys = ["device", "ts", "temperature", "valve", "label"]
    table = write_table([[row.get(key, "") for key in keys] for row in JSON_ROWS])
    packed = tmp_path / "history.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    reads = [history.read(recipe, [path]) for path in (table, packed, write_json(tmp_path, JSON_ROWS))]
    assert len({str(read[:3]) for read in reads}) == 1
    assert {tuple(read.anomalous.tolist()) for read in reads} == {(False, True, False)}


def test_nested_values_are_found_by_dotted_paths(recipe: Recipe, tmp_path: Path) -> None:
    row = {"id": {"node": 7}, "at": {"iso": "2024-02-01T12:00:00+02:00"}, "s": {"temp": 4.5, "roles": ["a", "b"]}, "meta": {"label": 1.0}}
    wanted = msgspec.structs.replace(
        with_label(with_time(recipe, field="at.iso", unit="iso"), "meta.label"),
        features=(Number(name="temperature"), Categories(name="roles")), fields={"temperature": "s.temp", "roles": "s.roles"},
    )  # fmt: skip
    wanted = msgspec.structs.replace(wanted, history=msgspec.structs.replace(wanted.history, device=recipes.Device(column="id.node")))
    read = history.read(wanted, [write_json(tmp_path, [row])])
    assert (read.devices, read.times, read.values) == (["7"], [1706781600.0], [(4.5, ["a", "b"])])
    assert read.anomalous.tolist() == [True]


def test_times_in_columns_work_for_json(recipe: Recipe, tmp_path: Path) -> None:
    wanted = with_time(recipe, columns=("on.date", "on.time"), format="%Y%m%d %H:%M")
    row = {**JSON_ROWS[0], "on": {"date": 20240201, "time": " 10:00 "}}
    assert history.read(wanted, [write_json(tmp_path, [row])]).times == [1706781600.0]
    del row["on"]["time"]  # type: ignore[attr-defined] # because a row is a plain object
    with pytest.raises(HistoryError, match=r"line 1: key on\.time: missing, but every row needs a time"):
        history.read(wanted, [write_json(tmp_path, [row])])


@pytest.mark.parametrize("label", [1, 1.0, "1", " 1 ", "1.0"])
def test_number_and_text_are_one_label(recipe: Recipe, tmp_path: Path, label: object) -> None:
    path = write_json(tmp_path, [{**JSON_ROWS[0], "label": label}])
    assert not history.read(with_label(recipe, "label", "1"), [path]).anomalous[0]
    assert history.read(with_label(recipe, "label", "0", "true"), [path]).anomalous[0]


def test_boolean_label_is_true_or_false(recipe: Recipe, tmp_path: Path) -> None:
    path = write_json(tmp_path, [{**row, "label": label} for row, label in zip(JSON_ROWS, (True, False, "false"), strict=True)])
    assert history.read(with_label(recipe, "label", "false"), [path]).anomalous.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": "warm"}, "key temperature: expected a number, got 'warm'"),
        ({"temperature": True}, "key temperature: expected a number, got True"),
        ({"temperature": None}, "key temperature: expected a number, got null: leave the key out where there is no value"),
        ({"valve": {"a": 1}}, "key valve: expected text, a number or true or false, got {'a': 1}"),
        ({"ts": None}, "key ts: "),
        ({"ts": -5}, "key ts: ts is before 1970, got -5"),
        ({"ts": ...}, "key ts: payload has no ts"),
        ({"device": ...}, "key device: payload has no device name"),
        ({"label": ...}, "key label: empty, but every row needs a label"),
        ({"label": ""}, "key label: empty, but every row needs a label"),
        ({"label": [1]}, "key label: expected text, a number or true or false, got [1]"),
    ],
)
@pytest.mark.parametrize(("suffix", "where"), [(".jsonl", "line 2"), (".json", "element 2")])
def test_fault_in_json_names_line_or_element_and_key(
    recipe: Recipe, tmp_path: Path, suffix: str, where: str, change: dict[str, object], words: str
) -> None:
    bad = {key: value for key, value in {**JSON_ROWS[0], **change}.items() if value is not ...}
    path = write_json(tmp_path, [JSON_ROWS[0], bad], suffix)
    with pytest.raises(HistoryError) as caught:
        history.read(recipe, [path])
    assert str(caught.value).startswith(f"{path}: {where}: {words}")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"device": 1}\n{"device"', "line 1: key ts: payload has no ts"),
        ("a.jsonl", "[1]\n", "line 1: expected an object"),
        ("a.jsonl", '{"ts": \n', "line 1: payload: Input data was truncated"),
        ("a.json", '[\n{"ts": 1},\n{"ts" 2}]', "line 3: JSON is malformed"),
        ("a.json", "[]", "no objects in it"),
        ("a.jsonl", "\n", "no objects in it"),
        ("a.jsonl.gz", "not packed", "Not a gzipped file"),
        ("a.parquet", "PAR1 it is not", "Parquet"),
        ("a.xlsx", "", "expected .csv, .tsv, .txt, .json, .jsonl, .ndjson (each also with .gz after it) or .parquet"),
    ],
)
def test_file_that_is_no_table_is_refused_by_name(recipe: Recipe, tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(HistoryError) as caught:
        history.read(recipe, [tmp_path / name])
    assert str(caught.value).startswith(str(tmp_path / name))
    assert words in str(caught.value)


def test_packed_file_that_is_cut_off_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    path = write_json(tmp_path, JSON_ROWS * 50, ".jsonl.gz")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(HistoryError, match="ended before"):
        history.read(recipe, [path])


PACKED = [b'{"t": 61.5, "valve": "open"}', b'{\n "t": 4,\n "valve": "shut "\n}', b'\t{"t": -1e-3}']


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_recording_is_history_up_to_where_a_crash_cut_it_off(
    recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    path = tmp_path / f"day{suffix}"
    with RecordingWriter(path) as writer:
        for number, payload in enumerate(PACKED):
            writer.write(Message(f"plant/b-{number}", payload, 100.5 + number), label=number % 2)
        writer.flush()
        left = path.read_bytes()
    path.write_bytes(left + (b'{"time":103.5,"topic":"pl' if suffix == ".jsonl" else b""))
    wanted = msgspec.structs.replace(
        recipe,
        fields={"temperature": "payload.t", "valve": "payload.valve"},
        history=msgspec.structs.replace(recipe.history, device=Device(column="topic"), time=EventTime(field="time")),
    )
    read = history.read(wanted, [path])
    assert read.devices == ["plant/b-0", "plant/b-1", "plant/b-2"]
    assert read.times == [100.5, 101.5, 102.5]
    assert read.values == [(61.5, "open"), (4.0, "shut "), (-1e-3, None)]
    assert read.anomalous.tolist() == [False, True, False]
    assert len(caplog.messages) == 1 and "cut off" in caplog.messages[0]


def test_feature_whose_key_never_occurs_is_named_beside_those_that_do(recipe: Recipe, tmp_path: Path) -> None:
    wanted = msgspec.structs.replace(recipe, fields={"temperature": "s.temp"})
    path = write_json(tmp_path, [{**JSON_ROWS[0], "s": {"tmp": 1}}, JSON_ROWS[1]])
    expected = 'feature temperature: no object has the key "s.temp"; the keys are device, ts, temperature, valve, label, s.tmp, more'
    with pytest.raises(HistoryError, match=re.escape(f"{path}: {expected}")):
        history.read(wanted, [path])


# Parquet

UTC_TIME = datetime(2024, 2, 1, 10, tzinfo=UTC)


def write_parquet(folder: Path, columns: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = folder / "history.parquet"
    parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


def parquet_columns(**changes: Any) -> dict[str, Any]:
    columns = {
        "device": ["b-1", "b-2", "b-1"],
        "ts": [100, 101, 102],
        "temperature": [None, 61.5, math.nan],
        "valve": ["open", None, "shut "],
        "label": [0, 1, 0],
        "unused": [b"", b"", b""],
    }
    return {key: value for key, value in {**columns, **changes}.items() if value is not ...}


def test_parquet_rows_are_readings(recipe: Recipe, tmp_path: Path) -> None:
    read = history.read(recipe, [write_parquet(tmp_path, parquet_columns())])
    assert read.devices == ["b-1", "b-2", "b-1"]
    assert read.times == [100.0, 101.0, 102.0]
    assert read.values[1] == (61.5, None)
    assert all(math.isnan(row[0]) for row in read.values[::2])  # type: ignore[arg-type] # because a value may be text
    assert [row[1] for row in read.values] == ["open", None, "shut "]
    assert read.anomalous.tolist() == [False, True, False]
    assert read.sources[0].rows == 3


@pytest.mark.parametrize("resolution", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(("zone", "offset_h"), [(None, 0), ("UTC", 0), ("Europe/Berlin", 0)])
@pytest.mark.parametrize("unit", ["iso", "s", "ms", "us"])
def test_parquet_timestamp_is_its_instant_in_any_unit_and_utc_without_a_zone(
    recipe: Recipe, tmp_path: Path, resolution: str, zone: str | None, offset_h: int, unit: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    instants = [UTC_TIME + timedelta(seconds=k) for k in range(3)]
    naive = [instant.replace(tzinfo=None) for instant in instants]
    columns = parquet_columns(ts=pa.array(naive if zone is None else instants, pa.timestamp(resolution, zone)))
    read = history.read(with_time(recipe, field="ts", unit=unit), [write_parquet(tmp_path, columns)])
    assert read.times == [1706781600.0, 1706781601.0, 1706781602.0]


def test_parquet_text_time_keeps_its_offset(recipe: Recipe, tmp_path: Path) -> None:
    zone = timezone(timedelta(hours=2))
    columns = parquet_columns(ts=[(UTC_TIME + timedelta(seconds=k)).astimezone(zone).isoformat() for k in range(3)])
    assert history.read(with_time(recipe, field="ts", unit="iso"), [write_parquet(tmp_path, columns)]).times[0] == 1706781600.0


def test_parquet_times_in_columns_and_decimals(recipe: Recipe, tmp_path: Path) -> None:
    columns = parquet_columns(on=[UTC_TIME.date()] * 3, at=["10:00", "10:01", "10:02"], temperature=[Decimal("4.25")] * 3)
    read = history.read(with_time(recipe, columns=("on", "at"), format="%Y-%m-%d %H:%M"), [write_parquet(tmp_path, columns)])
    assert read.times == [1706781600.0, 1706781660.0, 1706781720.0]
    assert read.values[0][0] == 4.25


@pytest.mark.parametrize("flat", [True, False])
def test_parquet_structs_and_dotted_columns_are_paths(recipe: Recipe, tmp_path: Path, flat: bool) -> None:
    temps = [1.0, 2.0, math.nan]
    nested: dict[str, Any] = {"s.temp": temps} if flat else {"s": [{"temp": temp, "other": "x"} for temp in temps]}
    wanted = msgspec.structs.replace(recipe, fields={"temperature": "s.temp"})
    read = history.read(wanted, [write_parquet(tmp_path, parquet_columns(temperature=..., **nested))])
    assert [row[0] for row in read.values[:2]] == [1.0, 2.0]
    assert math.isnan(read.values[2][0])  # type: ignore[arg-type] # because a value may be text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": ["1", "2", "3"]}, "row 1: column temperature: expected a number, got '1'"),
        ({"temperature": [1.0, 2.0, math.inf]}, "row 3: column temperature: expected a number, got 'inf'"),
        ({"ts": [1, 2, None]}, "row 3: column ts: payload has no ts"),
        ({"device": ["a", None, "a"]}, "row 2: column device: payload has no device name"),
        ({"label": [0, None, 1]}, "row 2: column label: empty, but every row needs a label"),
        ({"valve": ...}, 'row 1: no column "valve"; the columns are device, ts, temperature, label, unused'),
        ({"label": ...}, 'row 1: no column "label"; the columns are device, ts, temperature, valve, unused'),
    ],
)
def test_fault_in_parquet_names_row_and_column(recipe: Recipe, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write_parquet(tmp_path, parquet_columns(**changes))
    with pytest.raises(HistoryError) as caught:
        history.read(recipe, [path])
    assert str(caught.value) == f"{path}: {words}"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".json", ".jsonl", ".jsonl.gz", ".parquet"])
def test_progress_is_told_up_to_the_size_of_the_file(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        path = write_parquet(tmp_path, parquet_columns())
    elif suffix.startswith(".csv"):
        path = tmp_path / f"history{suffix}"
        text = ("device,ts\n" + "b,1\n" * 200_000).encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    else:
        path = write_json(tmp_path, [{"device": "b", "ts": n} for n in range(20_000)], suffix)
    told: list[int] = []
    wanted = tables.Wanted(("device", "ts"), (), None)
    rows = sum(1 for _ in tables.open_table(path, wanted, told.append).rows)
    assert rows in {3, 20_000, 200_000}
    assert 0.99 * path.stat().st_size <= sum(told) <= path.stat().st_size


def test_source_has_the_digest_and_the_rows_of_its_file(recipe: Recipe, write_table: Callable[..., Path]) -> None:
    path = write_table([GOOD, GOOD])
    (source,) = history.read(recipe, [path]).sources
    assert (source.name, source.rows) == ("history.csv", 2)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_glob_names_files_in_order_and_each_once(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).touch()
    expected = [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert history.find_files(["*.csv", "b.csv"], tmp_path) == expected
    assert history.find_files([str(tmp_path / "*.csv")], Path()) == expected


@pytest.mark.parametrize("pattern", ["absent.csv", "*.parquet", "."])
def test_pattern_that_names_no_file_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(HistoryError, match=re.escape(str(tmp_path))):
        history.find_files([pattern], tmp_path)


def test_history_that_nobody_gave_is_asked_for() -> None:
    with pytest.raises(HistoryError, match="--history"):
        history.find_files([], Path())


def strip_cells(source: Path, target: Path) -> Path:
    with source.open(encoding="utf-8-sig", newline="") as read, target.open("w", newline="") as written:
        csv.writer(written).writerows([cell.strip() for cell in row] for row in csv.reader(read))
    return target


def test_padded_fridge_file_gives_the_windows_of_a_stripped_one(fridge_60k: Path, tmp_path: Path) -> None:
    recipe = recipes.load("fridge-lstm")
    stripped = strip_cells(fridge_60k, tmp_path / "stripped.csv")
    padded_data, stripped_data = (dataset.build(history.read(recipe, [path]), recipe) for path in (fridge_60k, stripped))
    assert padded_data.features == stripped_data.features
    assert padded_data.train.windows.shape == (1, 3)  # temperature, high, low: no column for a trailing space
    np.testing.assert_array_equal(padded_data.train.windows.gather(), stripped_data.train.windows.gather())
    np.testing.assert_array_equal(padded_data.test.windows.gather(), stripped_data.test.windows.gather())


def test_raw_text_would_let_the_fridge_files_padding_in(fridge_60k: Path) -> None:
    recipe = recipes.load("fridge-lstm")
    raw = msgspec.structs.replace(recipe, features=(recipe.features[0], Category(name="temp_condition", text="raw")))
    assert dataset.build(history.read(raw, [fridge_60k]), raw).train.windows.shape == (1, 7)


def test_a_row_that_comes_again_is_left_out_with_its_label_unless_the_recipe_keeps_it(
    recipe: Recipe, write_table: Callable[..., Path]
) -> None:
    rows = [
        ["b", 100, 1, "open", 0],
        ["c", 100, 1, "open", 0],
        ["b", 100, 1, " Open", 1],
        ["b", 99, 1, "open", 1],
        ["b", 101, 1, "open", 1],
    ]
    path = write_table(rows)
    read = history.read(recipe, [path])
    # What is too late is left to who cuts windows, and to the audit.
    assert list(zip(read.devices, read.times, read.anomalous.tolist(), strict=True)) == [
        ("b", 100, False), ("c", 100, False), ("b", 99, True), ("b", 101, True),
    ]  # fmt: skip
    kept = msgspec.structs.replace(recipe, history=msgspec.structs.replace(recipe.history, repeats="keep"))
    assert history.read(kept, [path]).devices == [row[0] for row in rows]


def test_of_a_recording_the_stream_says_whether_repeats_are_dropped(recipe: recipes.Recipe, tmp_path: Path) -> None:
    reading = {"ts": 50, "temperature": 4.5, "valve": "open"}
    path = write_recording(tmp_path, ("b/1", reading), ("b/1", reading), ("b/2", reading))
    for payload, devices in (
        ({"time": {"field": "ts"}}, ["1", "2"]),
        ({"time": {"field": "ts"}, "repeats": "keep"}, ["1", "1", "2"]),
        ({}, ["1", "1", "2"]),
    ):
        assert history.read(with_recording(recipe, topic="b/{device}", payload=payload), [path]).devices == devices


def write_recording(folder: Path, *said: tuple[str, object]) -> Path:
    path = folder / "day.jsonl"
    path.write_text("".join(json.dumps({"time": 100 + i, "topic": t, "payload": p}) + "\n" for i, (t, p) in enumerate(said)))
    return path


def with_recording(recipe: recipes.Recipe, **recording: Any) -> recipes.Recipe:
    spec = msgspec.convert(recording, recipes.Recording)
    return msgspec.structs.replace(recipe, history=recipes.History(recording=spec), detector=IsolationForest())


def test_a_recording_in_any_format_is_history(recipe: recipes.Recipe, tmp_path: Path) -> None:
    wanted = with_recording(recipe, topic="home/{device}/{field}", payload={"format": "value"})
    said = [
        ("home/b-1/temperature", 61.5),
        ("home/b-2/valve", "shut"),
        ("home/b-1/valve", "open"),
        ("other", 1),
        ("home/b-1/temperature", "x"),
    ]
    read = history.read(wanted, [write_recording(tmp_path, *said)])
    assert (read.devices, read.times) == (["b-1", "b-2", "b-1"], [100.0, 101.0, 102.0])
    # A value holds on until the next.
    assert read.values[0][1] is None and read.values[2] == (61.5, "open")
    assert read.sources[0].rows == 3 and not read.anomalous.any()


def test_a_recording_without_readings_says_why(recipe: recipes.Recipe, tmp_path: Path) -> None:
    wanted = with_recording(recipe, topic="plant/{device}")
    with pytest.raises(HistoryError, match="no readings in it: type: payload: Expected `float`, got `str`"):
        history.read(wanted, [write_recording(tmp_path, ("plant/a", {"temperature": "hot"}))])
    with pytest.raises(HistoryError, match="no readings in it: no message on plant/"):
        history.read(wanted, [write_recording(tmp_path, ("else", 1))])
