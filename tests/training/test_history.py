import csv
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vedette.contract.errors import HistoryError
from vedette.contract.features import Category
from vedette_training import dataset, history
from vedette_training import recipe as recipes
from vedette_training.recipe import EventTime, Recipe

GOOD = ["b-1", 100, 61.5, "open", 0]


def test_row_is_read_as_the_gateway_reads_a_payload(recipe: Recipe, write_table: Callable[..., Path]) -> None:
    read = history.read(recipe, [write_table([GOOD, ["b-2", 101, "", "shut ", " 1 "], ["b-1", 102, "NaN", "", 0]])])
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
    assert padded_data.train.windows.shape[2] == 3  # temperature, high, low: no column for a trailing space
    np.testing.assert_array_equal(padded_data.train.windows, stripped_data.train.windows)
    np.testing.assert_array_equal(padded_data.test.windows, stripped_data.test.windows)


def test_raw_text_would_let_the_fridge_files_padding_in(fridge_60k: Path) -> None:
    recipe = recipes.load("fridge-lstm")
    raw = msgspec.structs.replace(recipe, features=(recipe.features[0], Category(name="temp_condition", text="raw")))
    assert dataset.build(history.read(raw, [fridge_60k]), raw).train.windows.shape[2] == 7
