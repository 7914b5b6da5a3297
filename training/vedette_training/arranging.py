"""History as the gateway's timeline makes it: late readings in their place, repeats left out, partial ones filled, points of a grid instead
of readings.

The gateway's own Timeline does it, on the places where values stand rather than on the values, so that texts and lists go the same way.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.features import Categories, Category, DayOfWeek, Elapsed, Feature, FeatureSpec, Number, TimeOfDay, Value
from vedette.contract.timeline import Arranged, Timeline
from vedette.contract.windows import WindowSpec


def is_needed(window: WindowSpec, *, merges: bool) -> bool:
    """Whether a timeline changes anything but what `windows.cut` does by itself."""
    return merges or window.period_s is not None or bool(window.late_s)


def find_new(
    devices: Sequence[str],
    times: Sequence[float],
    values: Sequence[tuple[Value, ...]],
    spec: FeatureSpec,
    window: WindowSpec,
    dated: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.intp]:
    """Which readings a gateway that drops repeats does not take for repeats.

    Args:
        devices: n names.
        times: n event times, epoch seconds.
        values: n tuples in the order of the spec.
        spec: The features.
        window: Lateness and gap.
        dated: bool `(n,)`: which have a time of their own; None if all have.

    Returns:
        Their positions, ascending; those that are too late among them.
    """
    slots, at = _slots(devices), np.asarray(times, dtype=np.float64)
    order = np.lexsort((at, slots))
    is_same = (np.diff(slots[order]) == 0) & (np.diff(at[order]) == 0)
    tied = np.unique(np.concatenate([order[1:][is_same], order[:-1][is_same]]))
    places = np.arange(len(values))
    if not len(tied):
        return places
    # A value is the place where it stood first; what has no other reading of its time can equal none.
    codes = np.repeat(places[:, None].astype(np.float64), len(spec), axis=1)
    first: dict[tuple[int, object], int] = {}
    for place in tied.tolist():
        codes[place] = [first.setdefault((index, _key(spec[index], value)), place) for index, value in enumerate(values[place])]
    ungridded = msgspec.structs.replace(window, period_s=None)
    repeated = Timeline(ungridded, len(spec), drops_repeats=True).arrange(slots, at, codes, dated).repeated
    return np.delete(places, repeated)


def _key(feature: Feature, value: Value) -> object:
    """What an encoder cannot tell apart is one value."""
    if value is None or value != value:
        return None
    if isinstance(feature, Category):
        return feature.normalise(value)
    if isinstance(feature, Categories):
        one = Category(name="", text=feature.text)
        return frozenset(one.normalise(member) for member in (value if isinstance(value, list) else [value]))
    return value


def _slots(devices: Sequence[str]) -> npt.NDArray[np.intp]:
    """A number for each reading's device."""
    slots: npt.NDArray[np.intp] = np.unique(np.asarray(devices, dtype=np.str_), return_inverse=True)[1]
    return slots


def arrange(
    devices: Sequence[str],
    times: Sequence[float],
    values: Sequence[tuple[Value, ...]],
    spec: FeatureSpec,
    window: WindowSpec,
    *,
    merges: bool,
) -> tuple[npt.NDArray[np.intp], list[float], list[tuple[Value, ...]]]:
    """Arrange readings, as a gateway that receives them in this order.

    Args:
        devices: n names.
        times: n event times, epoch seconds.
        values: n tuples in the order of the spec.
        spec: The features.
        window: Lateness, gap and grid.
        merges: Whether a value that is missing is the last one that the device sent.

    Returns:
        Of each of the k rows: which reading its device and label are those of, its time, and its values. Readings that a gateway would
        still hold back at the end are left out.
    """
    slots = _slots(devices)
    # NaN is not itself.
    where = [[math.nan if value is None or value != value else place for value in row] for place, row in enumerate(values)]
    places = np.array(where, dtype=np.float64).reshape(len(values), len(spec))
    rows: Arranged = Timeline(window, len(spec), merges=merges).arrange(slots, np.asarray(times, dtype=np.float64), places)
    clocks = {index for index, feature in enumerate(spec) if isinstance(feature, TimeOfDay | DayOfWeek | Elapsed)}
    nothing: list[Value] = [math.nan if isinstance(feature, Number) else None for feature in spec]
    filled = [
        tuple(
            time if index in clocks else nothing[index] if place != place else values[int(place)][index] for index, place in enumerate(row)
        )
        for time, row in zip(rows.times.tolist(), rows.raw.tolist(), strict=True)
    ]
    return rows.sources, rows.times.tolist(), filled
