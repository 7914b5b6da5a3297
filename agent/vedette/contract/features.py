"""Features: what a reading's values mean and how they become the columns of a model's input.

Rules this module keeps: a spec is plain data that travels in the bundle; large magnitudes are centred in float64 before the
cast to float32; a value that cannot be used is never guessed at: it is missing, it is filled, and it is counted.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Value = float | int | str | bool | None
"""What a payload may hold for a feature: NaN or None where the device sent nothing."""

MAX_SIGMA = 1e6
"""Scaled numbers are clamped here, so that one absurd value cannot overflow float32 and spoil its batch."""

Rows = npt.NDArray[np.float32]
Raw = npt.NDArray[np.float64]


class Number(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="number", tag_field="kind"):
    """A measured quantity; one column, (value - mean) / scale.

    Attributes:
        minimum: Smallest value that is physically possible, in the sensor's unit; smaller ones count as missing.
        maximum: Largest value that is physically possible.
        fill: What a missing value is taken for, in the sensor's unit; None is the mean.
    """

    name: str
    minimum: float | None = None
    maximum: float | None = None
    mean: float = 0.0
    scale: float = 1.0
    fill: float | None = None


class Category(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="category", tag_field="kind"):
    """A text with few values; one column of 0 and 1 for each known value.

    Attributes:
        values: Known values, normalised. An unknown one sets no column.
        usual: The one that is seen most often.
        text: `folded` strips and case-folds before lookup. `raw` takes the text as it is: a trailing space is then another
            value, which is how the public fridge data gives its labels away.
    """

    name: str
    values: tuple[str, ...] = ()
    usual: str | None = None
    text: Literal["folded", "raw"] = "folded"

    def normalise(self, value: Value) -> str:
        """The text under which `value` is looked up: 1, 1.0 and "1" are one value, as are true and "true"."""
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, float) and value.is_integer():
            text = str(int(value))
        else:
            text = str(value)
        return text if self.text == "raw" else text.strip().casefold()


Feature = Number | Category
FeatureSpec = tuple[Feature, ...]
"""Features in the order of a reading's values."""


class FeatureEncoder:
    """Turns readings' values into model columns, as one FeatureSpec says.

    Attributes:
        columns: Names of the columns: a number's own, `name=value` for a category's.
        feature_of_column: Index of the feature that each column belongs to.
        counts: How many values were `missing`, `out_of_range` or `unknown_category` so far.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self.counts: Counter[str] = Counter()
        self.columns: list[str] = []
        self.feature_of_column: list[int] = []
        for index, feature in enumerate(spec):
            names = [feature.name] if isinstance(feature, Number) else [f"{feature.name}={v}" for v in feature.values]
            self.columns += names
            self.feature_of_column += [index] * len(names)
        numbers = [(i, f) for i, f in enumerate(spec) if isinstance(f, Number)]
        self._numbers = np.array([i for i, _ in numbers], dtype=np.intp)
        self._number_columns = np.array([self.feature_of_column.index(i) for i, _ in numbers], dtype=np.intp)
        self._minimum = np.array([-math.inf if f.minimum is None else f.minimum for _, f in numbers])
        self._maximum = np.array([math.inf if f.maximum is None else f.maximum for _, f in numbers])
        self._mean = np.array([f.mean for _, f in numbers])
        self._scale = np.array([f.scale for _, f in numbers])
        self._fill = np.array([f.mean if f.fill is None else f.fill for _, f in numbers])
        self._categories = [(i, f, {v: k for k, v in enumerate(f.values)}) for i, f in enumerate(spec) if isinstance(f, Category)]

    def encode(self, values: Sequence[Sequence[Value]]) -> Raw:
        """Put values as sent into one array.

        Args:
            values: One sequence a reading, in the spec's order.

        Returns:
            float64 `(n, features)`: numbers in the sensor's unit; categories as the index of the known value, -1 if unknown;
            NaN where nothing was sent.
        """
        if not self._categories:
            return np.array(values, dtype=np.float64).reshape(len(values), len(self.spec))
        columns = [list(column) for column in zip(*values, strict=True)] or [[] for _ in self.spec]
        for index, feature, known in self._categories:
            columns[index] = [math.nan if v is None else known.get(feature.normalise(v), -1) for v in columns[index]]
        return np.array(columns, dtype=np.float64).T

    def transform(self, raw: Raw) -> Rows:
        """Check, fill and scale encoded values; count what could not be used.

        Args:
            raw: float64 `(n, features)` from `encode`.

        Returns:
            float32 `(n, columns)`.
        """
        rows = np.zeros((len(raw), len(self.columns)), dtype=np.float32)
        numbers = raw[:, self._numbers]
        absent = np.isnan(numbers)
        outside = (numbers < self._minimum) | (numbers > self._maximum)
        self.counts["missing"] += int(absent.sum())
        self.counts["out_of_range"] += int(outside.sum())
        usable = np.where(absent | outside, self._fill, numbers)
        rows[:, self._number_columns] = np.clip((usable - self._mean) / self._scale, -MAX_SIGMA, MAX_SIGMA)
        for index, _, known in self._categories:
            codes = raw[:, index]
            self.counts["missing"] += int(np.isnan(codes).sum())
            self.counts["unknown_category"] += int((codes == -1).sum())
            if known:
                first = self.feature_of_column.index(index)
                rows[:, first : first + len(known)] = codes[:, None] == np.arange(len(known))
        return rows


def fit(spec: FeatureSpec, values: Sequence[Sequence[Value]]) -> FeatureSpec:
    """Learn each number's mean and scale and each category's known and usual values.

    Args:
        spec: What the recipe says. Category values that it names are kept, in its order.
        values: Training readings' values, in the spec's order; NaN, None and out-of-range numbers are left out.

    Returns:
        The spec with `mean`, `scale` (population standard deviation, 1.0 for a constant) `values` and `usual` filled in.
    """
    fitted: list[Feature] = []
    for index, feature in enumerate(spec):
        column = [row[index] for row in values]
        if isinstance(feature, Category):
            seen = Counter(feature.normalise(v) for v in column if v is not None)
            known = feature.values or tuple(sorted(seen))
            usual = max(known, key=lambda text: seen[text], default=None)
            fitted.append(msgspec.structs.replace(feature, values=known, usual=usual))
            continue
        numbers = np.array(column, dtype=np.float64)
        low = -math.inf if feature.minimum is None else feature.minimum
        high = math.inf if feature.maximum is None else feature.maximum
        numbers = numbers[(numbers >= low) & (numbers <= high)]
        mean, scale = (float(numbers.mean()), float(numbers.std())) if len(numbers) else (0.0, 1.0)
        fitted.append(msgspec.structs.replace(feature, mean=mean, scale=scale if scale > 0 else 1.0))
    return tuple(fitted)
