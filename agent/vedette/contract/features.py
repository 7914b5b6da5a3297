"""Features: what a reading's values mean and how they become the columns of a model's input.

Rules this module keeps: a spec is plain data that travels in the bundle; large magnitudes are centred in float64 before the
cast to float32; a value that cannot be used is never guessed at: it is missing, it is filled, and it is counted; what depends on
earlier readings (a number's average) is not worked out here but by the windower, which knows whose they are.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

Scalar = float | int | str | bool
Value = Scalar | list[Scalar] | None
"""What a payload may hold for a feature: NaN or None where the device sent nothing."""

MAX_CATEGORIES = 52
"""Known values of a list: while it is encoded they are the bits of a float64's whole part, which has room for one more: unknown."""

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
        clip: Beyond so many standard deviations the scaled value grows as a logarithm only, so that one wild sensor does not drown
            the others.
        averages: Half-lives, in readings, of exponential averages of the number; each is one more column: what is only a little off,
            but for long, stands out in it.
    """

    name: str
    minimum: float | None = None
    maximum: float | None = None
    mean: float = 0.0
    scale: float = 1.0
    fill: float | None = None
    clip: Annotated[float, msgspec.Meta(gt=0)] | None = None
    averages: tuple[Annotated[float, msgspec.Meta(gt=0)], ...] | None = None


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
        """The text under which `value` is looked up."""
        return _normalise(value, self.text)


class Categories(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="categories", tag_field="kind"):
    """A list of texts, such as roles; one column of 0 and 1 for each known value, as many set as are in the list.

    Attributes:
        values: Known values, normalised, at most MAX_CATEGORIES. An unknown one sets no column.
        text: As a Category's.
    """

    name: str
    values: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_CATEGORIES)] = ()
    text: Literal["folded", "raw"] = "folded"


class TimeOfDay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="time_of_day", tag_field="kind"):
    """The hour of the reading's event time, which no payload field holds: sine and cosine, so that 23:59 is near 00:01.

    Attributes:
        utc_offset_h: Hours that the site's clocks are ahead of UTC.
        waves: 1 for the day's sine and cosine, 2 for those of the half day too: a linear model can then have a morning and an evening.
    """

    name: str = "time_of_day"
    utc_offset_h: float = 0.0
    waves: Literal[1, 2] = 1


class DayOfWeek(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="day_of_week", tag_field="kind"):
    """The reading's place in the week, Monday 00:00 being 0: sine and cosine, as TimeOfDay."""

    name: str = "day_of_week"
    utc_offset_h: float = 0.0
    waves: Literal[1, 2] = 1


class Elapsed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="elapsed", tag_field="kind"):
    """How long ago the device's previous reading was, for devices that report when something happens: one column, the logarithm of
    1 + seconds, in units of that of the window's `max_gap_s`, which a window's first reading counts as.
    """

    name: str = "elapsed"


Feature = Number | Category | Categories | TimeOfDay | DayOfWeek | Elapsed
FeatureSpec = tuple[Feature, ...]
"""Features in the order of a reading's values."""


class FeatureEncoder:
    """Turns readings' values into model columns, as one FeatureSpec says.

    Attributes:
        columns: Names of the columns, feature by feature: a number's own name, `name=value` for a category's, `name.sin` and
            `name.cos` for a time's; then `name~2` for the average of half-life 2, and so on.
        feature_of_column: Index of the feature that each column belongs to.
        averages: Index of each average's column, and the half-life that the windower keeps it with.
        elapsed: Indexes of the columns in which the windower puts the time since the device's previous reading.
        counts: How many values were `missing`, `out_of_range` or `unknown_category` so far.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self.counts: Counter[str] = Counter()
        self.columns: list[str] = []
        self.feature_of_column: list[int] = []
        first: list[int] = []
        for index, feature in enumerate(spec):
            first.append(len(self.columns))
            names = _column_names(feature)
            self.columns += names
            self.feature_of_column += [index] * len(names)
        numbers = [(i, f) for i, f in enumerate(spec) if isinstance(f, Number)]
        averaged = [(position, half_life) for position, (_, f) in enumerate(numbers) for half_life in f.averages or ()]
        self.averages = tuple((len(self.columns) + k, half_life) for k, (_, half_life) in enumerate(averaged))
        self.columns += [f"{numbers[position][1].name}~{half_life:g}" for position, half_life in averaged]
        self.feature_of_column += [numbers[position][0] for position, _ in averaged]
        self.elapsed = tuple(first[i] for i, f in enumerate(spec) if isinstance(f, Elapsed))
        self._averaged = np.array([position for position, _ in averaged], dtype=np.intp)
        self._numbers = np.array([i for i, _ in numbers], dtype=np.intp)
        self._number_columns = np.array([first[i] for i, _ in numbers], dtype=np.intp)
        self._minimum = np.array([-math.inf if f.minimum is None else f.minimum for _, f in numbers])
        self._maximum = np.array([math.inf if f.maximum is None else f.maximum for _, f in numbers])
        self._mean = np.array([f.mean for _, f in numbers])
        self._scale = np.array([f.scale for _, f in numbers])
        self._fill = np.array([f.mean if f.fill is None else f.fill for _, f in numbers])
        self._clip = np.array([MAX_SIGMA if f.clip is None else f.clip for _, f in numbers])
        self._clips = any(f.clip is not None for _, f in numbers)
        self._known = {i: {v: k for k, v in enumerate(f.values)} for i, f in enumerate(spec) if isinstance(f, Category | Categories)}
        self._others = [(i, f, first[i]) for i, f in enumerate(spec) if not isinstance(f, Number | Elapsed)]

    def encode(self, values: Sequence[Sequence[Value]]) -> Raw:
        """Put values as sent into one array.

        Args:
            values: One sequence a reading, in the spec's order; a time's is the event time, epoch seconds.

        Returns:
            float64 `(n, features)`: numbers in the sensor's unit; a category as the index of the known value, -1 if unknown;
            categories as the sum of 2 ** index, an unknown one adding 2 ** MAX_CATEGORIES; NaN where nothing was sent.
        """
        if not self._known:
            return np.array(values, dtype=np.float64).reshape(len(values), len(self.spec))
        columns = [list(column) for column in zip(*values, strict=True)] or [[] for _ in self.spec]
        for index, known in self._known.items():
            feature = self.spec[index]
            if isinstance(feature, Category):
                columns[index] = [math.nan if v is None else known.get(feature.normalise(v), -1) for v in columns[index]]
            elif isinstance(feature, Categories):
                columns[index] = [math.nan if v is None else _bits(v, known, feature.text) for v in columns[index]]
        return np.array(columns, dtype=np.float64).T

    def transform(self, raw: Raw) -> Rows:
        """Check, fill and scale encoded values; count what could not be used.

        Args:
            raw: float64 `(n, features)` from `encode`.

        Returns:
            float32 `(n, columns)`. In an average's column is the number itself, in an elapsed time's nothing: the windower makes
            them what they are.
        """
        rows = np.zeros((len(raw), len(self.columns)), dtype=np.float32)
        numbers = raw[:, self._numbers]
        absent = np.isnan(numbers)
        outside = (numbers < self._minimum) | (numbers > self._maximum)
        self.counts["missing"] += int(absent.sum())
        self.counts["out_of_range"] += int(outside.sum())
        usable = np.where(absent | outside, self._fill, numbers)
        scaled = np.clip((usable - self._mean) / self._scale, -MAX_SIGMA, MAX_SIGMA)
        if self._clips:
            beyond = np.maximum(np.abs(scaled) - self._clip, 0.0)
            scaled = np.where(beyond > 0, np.sign(scaled) * (self._clip + np.log1p(beyond)), scaled)
        rows[:, self._number_columns] = scaled
        if self.averages:
            rows[:, len(self.columns) - len(self.averages) :] = scaled[:, self._averaged]
        for index, feature, first in self._others:
            self._transform_other(raw[:, index], feature, rows[:, first:])
        return rows

    def _transform_other(self, codes: Raw, feature: Feature, rows: Rows) -> None:
        """Fill the columns of a feature that is no number; they are the first ones of `rows`."""
        if isinstance(feature, TimeOfDay | DayOfWeek):
            angle = 2 * math.pi * _place(feature, codes)
            for wave in range(feature.waves):
                rows[:, 2 * wave], rows[:, 2 * wave + 1] = np.sin((wave + 1) * angle), np.cos((wave + 1) * angle)
            return
        absent = np.isnan(codes)
        self.counts["missing"] += int(absent.sum())
        known = len(feature.values) if isinstance(feature, Category | Categories) else 0
        if isinstance(feature, Category):
            self.counts["unknown_category"] += int((codes == -1).sum())
            rows[:, :known] = codes[:, None] == np.arange(known)
            return
        bits = np.where(absent, 0, codes).astype(np.int64)
        self.counts["unknown_category"] += int((bits >> MAX_CATEGORIES).sum())
        rows[:, :known] = bits[:, None] >> np.arange(known) & 1

    def observed(self, index: int, code: float) -> float | str | None:
        """An encoded value for people: None where nothing usable was sent.

        Args:
            index: Of the feature.
            code: From `encode`.
        """
        feature = self.spec[index]
        if math.isnan(code) or isinstance(feature, Elapsed):
            return None
        if isinstance(feature, Category):
            return feature.values[int(code)] if code >= 0 else None
        if isinstance(feature, Categories):
            return ", ".join(value for bit, value in enumerate(feature.values) if int(code) >> bit & 1)
        return code if isinstance(feature, Number) else _clock(feature, code)


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY_S = 86400.0
_MONDAY_S = 4 * _DAY_S  # 1970 began on a Thursday


def _place(feature: TimeOfDay | DayOfWeek, times: Any) -> Any:
    """Where in its day or week an event time is, 0 to 1."""
    local = times + feature.utc_offset_h * 3600
    return local % _DAY_S / _DAY_S if isinstance(feature, TimeOfDay) else (local - _MONDAY_S) % (7 * _DAY_S) / (7 * _DAY_S)


def _clock(feature: TimeOfDay | DayOfWeek, time: float) -> str:
    """An event time as the feature sees it: `14:05`, or the day's name."""
    place = float(_place(feature, time))
    return "{:02d}:{:02d}".format(*divmod(int(place * 1440), 60)) if isinstance(feature, TimeOfDay) else _DAYS[int(place * 7)]


def _normalise(value: Value, text: Literal["folded", "raw"]) -> str:
    """The text under which a value is looked up: 1, 1.0 and "1" are one value, as are true and "true"."""
    if isinstance(value, bool):
        found = "true" if value else "false"
    elif isinstance(value, float) and value.is_integer():
        found = str(int(value))
    else:
        found = str(value)
    return found if text == "raw" else found.strip().casefold()


def _members(value: Value) -> list[Scalar]:
    """A list's members; a single value is a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _bits(value: Value, known: Mapping[str, int], text: Literal["folded", "raw"]) -> int:
    bits = 0
    for member in _members(value):
        bits |= 1 << known.get(_normalise(member, text), MAX_CATEGORIES)
    return bits


def _column_names(feature: Feature) -> list[str]:
    if isinstance(feature, Number | Elapsed):
        return [feature.name]
    if isinstance(feature, TimeOfDay | DayOfWeek):
        return [f"{feature.name}.{wave}" for wave in ("sin", "cos", "sin2", "cos2")[: 2 * feature.waves]]
    return [f"{feature.name}={value}" for value in feature.values]


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
        elif isinstance(feature, Categories):
            seen = Counter(_normalise(member, feature.text) for value in column for member in _members(value))
            # The rarest are left to be unknown where there are too many.
            frequent = tuple(sorted(text for text, _ in seen.most_common(MAX_CATEGORIES)))
            fitted.append(msgspec.structs.replace(feature, values=feature.values or frequent))
        elif isinstance(feature, Number):
            fitted.append(_fit_number(feature, np.array(column, dtype=np.float64)))
        else:
            fitted.append(feature)
    return tuple(fitted)


def _fit_number(feature: Number, numbers: Raw) -> Number:
    low = -math.inf if feature.minimum is None else feature.minimum
    high = math.inf if feature.maximum is None else feature.maximum
    numbers = numbers[(numbers >= low) & (numbers <= high)]
    mean, scale = (float(numbers.mean()), float(numbers.std())) if len(numbers) else (0.0, 1.0)
    return msgspec.structs.replace(feature, mean=mean, scale=scale if scale > 0 else 1.0)
