import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vedette.contract.features import Category, Number
from vedette.contract.windows import WindowSpec
from vedette_training.detectors.lstm import Lstm
from vedette_training.recipe import Device, EventTime, History, Label, Recipe, Split, Threshold

WriteTable = Callable[[Sequence[Sequence[object]]], Path]


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        name="boiler",
        detector=Lstm(units=4, epochs=1),
        history=History(device=Device(column="device"), time=EventTime(field="ts"), label=Label(column="label")),
        features=(Number(name="temperature"), Category(name="valve")),
        window=WindowSpec(steps=3),
        split=Split(by="device", train=0.5, calibrate=0.25, seed=7),
        threshold=Threshold(quantile=0.99),
    )


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """Write rows below the header device, ts, temperature, valve, label."""

    def write(rows: Sequence[Sequence[object]], name: str = "history.csv") -> Path:
        path = tmp_path / name
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["device", "ts", "temperature", "valve", "label"], *rows])
        return path

    return write


@pytest.fixture
def boilers(write_table: WriteTable) -> Path:
    """Eight boilers in step, 60 readings each; in the anomalous ones it is 20 degrees hotter."""
    rng = np.random.default_rng(3)
    rows = []
    for minute in range(60):
        for boiler in range(8):
            label = int(40 <= minute < 52 and boiler % 2 == 0)
            temperature = round(60 + 20 * label + rng.normal(), 2)
            rows.append([f"boiler-{boiler}", 60 * minute + boiler, temperature, "open" if minute % 5 else "shut", label])
    return write_table(rows)
