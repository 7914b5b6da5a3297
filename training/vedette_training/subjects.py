"""What is audited: history as arrays, a feature a column.

Rules this module keeps: a column knows both what was sent and what the model will see of it, folded or raw, in range or missing.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.contract.features import Categories, Category, DayOfWeek, Elapsed, Feature, Number, TimeOfDay, Value
from vedette_training.dataset import PartName
from vedette_training.history import History
from vedette_training.recipe import Recipe

TIMES = TimeOfDay | DayOfWeek | Elapsed
"""Features that no device sends: what is in them follows from the event time."""

FOLDED = Category(name="")
RAW = Category(name="", text="raw")

_BINS = 64

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]


class Column(NamedTuple):
    """A feature's n values: a number's in `numbers` (a time's: its place in day or week, or the seconds elapsed); a text's as codes, -1
    where nothing was sent, with the raw members that each code stands for in `members`.
    """

    feature: Feature
    numbers: Floats
    codes: Codes
    members: list[tuple[str, ...]]

    @property
    def usable(self) -> Floats:
        """The numbers, NaN where they are missing or out of their range."""
        if not isinstance(self.feature, Number):
            return self.numbers
        low = -math.inf if self.feature.minimum is None else self.feature.minimum
        high = math.inf if self.feature.maximum is None else self.feature.maximum
        return np.where((self.numbers >= low) & (self.numbers <= high), self.numbers, np.nan)

    @property
    def texts_seen(self) -> list[str]:
        """The texts that the model can tell apart, ascending."""
        return sorted({", ".join(members) for members in self.seen})

    @property
    def codes_seen(self) -> Codes:
        """Each reading's place in `texts_seen`, -1 where nothing was sent."""
        places = {text: place for place, text in enumerate(self.texts_seen)}
        return np.array([*(places[", ".join(members)] for members in self.seen), -1], dtype=np.intp)[self.codes]

    @property
    def seen(self) -> list[tuple[str, ...]]:
        """Each code's members as the model looks them up."""
        fold = FOLDED if isinstance(self.feature, Category | Categories) and self.feature.text == "folded" else RAW
        return [tuple(sorted({fold.normalise(member) for member in members})) for members in self.members]


class Subject(NamedTuple):
    """What is audited, as arrays of n."""

    recipe: Recipe
    columns: list[Column]
    devices: Codes
    device_names: list[str]
    times: Floats
    anomalous: Mask
    train: Mask
    test: Mask
    rng: np.random.Generator

    def sample(self, part: Mask, at_most: int) -> Codes:
        """Positions of a part's readings: all, or so many drawn at random, ascending."""
        positions = np.flatnonzero(part)
        return np.sort(self.rng.choice(positions, at_most, replace=False)) if len(positions) > at_most else positions


def gather(history: History, recipe: Recipe, parts: Mapping[PartName, Mask], seed: int) -> Subject:
    """Make the arrays."""
    names, devices = np.unique(np.array(history.devices), return_inverse=True)
    times = np.array(history.times, dtype=np.float64)
    values: list[tuple[Value, ...]] = list(zip(*history.values, strict=True)) or [() for _ in recipe.features]
    return Subject(
        recipe=recipe,
        columns=[
            Column(feature, _elapsed(devices, times), np.zeros(0, dtype=np.intp), [])
            if isinstance(feature, Elapsed)
            else _column(feature, column)
            for feature, column in zip(recipe.features, values, strict=True)
        ],
        devices=devices,
        device_names=names.tolist(),
        times=times,
        anomalous=np.asarray(history.anomalous),
        train=parts["train"],
        test=parts["test"],
        rng=np.random.default_rng(seed),
    )


def _column(feature: Feature, values: tuple[Value, ...]) -> Column:
    none = np.zeros(0)
    if isinstance(feature, Number):
        return Column(feature, np.array(values, dtype=np.float64), none.astype(np.intp), [])
    if isinstance(feature, TimeOfDay | DayOfWeek):
        period = 86400 if isinstance(feature, TimeOfDay) else 7 * 86400
        return Column(
            feature, (np.array(values, dtype=np.float64) + feature.utc_offset_h * 3600) % period / period, none.astype(np.intp), []
        )
    known: dict[Any, int] = {}
    codes = [-1 if v is None else known.setdefault(v if type(v) is str else _members(v), len(known)) for v in values]
    return Column(feature, none, np.array(codes, dtype=np.intp), [(key,) if isinstance(key, str) else key for key in known])


def _elapsed(devices: Codes, times: Floats) -> Floats:
    """Seconds since the device's previous reading, NaN for its first."""
    order = np.argsort(devices, kind="stable")
    seconds = np.full(len(times), np.nan)
    seconds[order[1:]] = np.where(np.diff(devices[order]) == 0, np.diff(times[order]), np.nan)
    return seconds


def _members(value: Value) -> tuple[str, ...]:
    return tuple(RAW.normalise(member) for member in value) if isinstance(value, list) else (RAW.normalise(value),)


def bins(column: Column, subject: Subject) -> tuple[Codes, bool]:
    """A column as a lookup could take it, 0 where the model sees nothing; and whether its values were taken one by one."""
    feature = column.feature
    if isinstance(feature, TimeOfDay | DayOfWeek):
        return (column.numbers * (48 if isinstance(feature, TimeOfDay) else 7)).astype(np.intp) + 1, False
    if isinstance(feature, Category | Categories):
        known = known_values(column, subject)
        index: dict[tuple[str, ...], int] = {}
        kept_codes = [
            index.setdefault(kept, len(index) + 1) if (kept := tuple(m for m in members if m in known)) else 0 for members in column.seen
        ]
        return np.array([*kept_codes, 0], dtype=np.intp)[column.codes], True
    usable = column.usable
    values = np.unique(usable[subject.train & ~np.isnan(usable)])
    if discrete := len(values) <= _BINS:
        places = np.searchsorted(values, usable)
        codes = np.where(np.append(values, np.nan)[places] == usable, places + 1, len(values) + 1)
    else:
        edges = np.unique(np.nanquantile(usable[subject.train], np.linspace(0, 1, _BINS + 1)[1:-1]))
        codes = np.searchsorted(edges, usable, side="right") + 1
    return np.where(np.isnan(usable), 0, codes), discrete


def known_values(column: Column, subject: Subject) -> set[str]:
    """The values that set a column: the recipe's, or those that training has."""
    assert isinstance(column.feature, Category | Categories)
    if column.feature.values:
        return set(column.feature.values)
    learnt = subject.train if subject.recipe.detector.learns_from_labels else subject.train & ~subject.anomalous
    seen = column.seen
    return {member for code in np.unique(column.codes[learnt]).tolist() if code >= 0 for member in seen[code]}
