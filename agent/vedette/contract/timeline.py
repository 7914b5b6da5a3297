"""The timeline: from readings as they come to each device's rows in the order of time.

Rules this module keeps: time is the readings' own, no clock is read; what one device sends never changes another's rows; a batch gives what
its readings would give one by one. Step by step: what comes late waits for its place or is dropped, what comes again is dropped, a
silence or a clock that goes back begins anew, what a partial payload left out is what the device sent before, and, where there is a grid,
its points get the last values.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.contract.devices import Groups, PerDevice, Slots, grouped
from vedette.contract.features import Raw
from vedette.contract.lateness import Lateness, Turn
from vedette.contract.windows import Times, WindowSpec


class Arranged(NamedTuple):
    """The k rows that a batch of readings came to; those of one device are in the order of time.

    Attributes:
        positions: int `(k,)`, ascending: which reading of the batch brought each row about.
        sources: int `(k,)`: which reading of the batch each row's values came with; -1 for one of an earlier batch.
        slots: int `(k,)`.
        times: float64 `(k,)`, epoch seconds.
        since_s: float64 `(k,)`: seconds since the device's row before; infinite where a window begins anew.
        raw: float64 `(k, features)`, encoded.
        late: Which readings of the batch were dropped at once, because they came too late.
        repeated: Which were dropped at once, because they came again.
    """

    positions: Slots
    sources: Slots
    slots: Slots
    times: Times
    since_s: Times
    raw: Raw
    late: Slots
    repeated: Slots


class Timeline:
    """Arranges a stream's readings.

    Args:
        spec: The windows' gap, lateness and grid.
        features: How many there are.
        clocks: Which of them are the event time itself.
        merges: Whether a value that is missing is the last one that the device sent.
        drops_repeats: Whether a reading is dropped that equals its device's newest one, or one that waits, in time and all values.

    Attributes:
        late: Readings that came too late and were dropped.
        repeated: Readings that came again and were dropped.
        restarted: Gaps and clocks that went back.
    """

    def __init__(
        self, spec: WindowSpec, features: int, clocks: Sequence[int] = (), *, merges: bool = False, drops_repeats: bool = False
    ) -> None:
        self._spec, self._clocks, self._merges, self._drops_repeats = spec, list(clocks), merges, drops_repeats
        self._holds = merges or spec.period_s is not None
        remembered = [name for name, is_needed in (("held", self._holds), ("sent", drops_repeats)) if is_needed]
        record: list[Any] = [("newest", np.float64), ("on_grid", np.bool_)]
        fresh = np.zeros((), dtype=record + [(name, np.float64, (features,)) for name in remembered])
        fresh["newest"] = -np.inf
        for name in remembered:
            fresh[name] = np.nan
        self._devices = PerDevice(fresh)
        self._lateness = Lateness(spec.late_s, spec.max_gap_s, drops_repeats=drops_repeats) if spec.late_s else None
        self.late = self.repeated = self.restarted = 0

    @property
    def waiting(self) -> int:
        """Readings that wait for what may still come before them."""
        return len(self._lateness) if self._lateness is not None else 0

    def arrange(self, slots: Slots, times: Times, raw: Raw, dated: npt.NDArray[np.bool_] | None = None) -> Arranged:
        """Take in readings, in the order in which they came.

        Args:
            slots: int `(n,)`.
            times: float64 `(n,)`, epoch seconds.
            raw: float64 `(n, features)`, from `FeatureEncoder.encode`.
            dated: bool `(n,)`: which have a time of their own, so that they may be repeats; None if all have.
        """
        turn = Turn(places := np.arange(len(slots)), places, slots, times, raw, dated)
        again: list[int] = []
        if self._lateness is not None:
            turn, again = self._lateness.sort(slots, times, raw, dated)
        groups, ordered, before = self._line_up(turn)
        late = repeated = _NONE
        if (on_time := self._on_time(groups, ordered, before)) is not None:
            self.late += len(on_time) - int(on_time.sum())
            late = _at_once(turn, ~on_time)
            turn = turn.only(on_time)
            groups, ordered, before = self._line_up(turn)
        if self._drops_repeats and (new := self._new(groups, ordered == before, turn)) is not None:
            self.repeated += len(new) - int(new.sum())
            repeated = _at_once(turn, ~new)
            turn = turn.only(new)
            groups, ordered, before = self._line_up(turn)
        if again:
            self.repeated += len(again)
            repeated = np.sort(np.concatenate([repeated, np.array(again, dtype=np.intp)]))
        positions, sources, slots, times, raw, _ = turn
        since_s = self._since(groups, ordered, before)
        lasts = groups.order[groups.starts + groups.lengths - 1]
        if self._drops_repeats:
            self._devices.reach(groups.slots)["sent"][groups.slots] = raw[lasts]
        if self._holds:
            state = self._devices.reach(groups.slots)
            held, on_grid = state["held"][groups.slots], state["on_grid"][groups.slots]
            newest = state["newest"][groups.slots]
            if self._merges:
                raw = _merged(raw, groups, since_s, held)
            state["held"][groups.slots] = raw[lasts]
        arranged = Arranged(positions, sources, slots, times, since_s, raw, late, repeated)
        if self._spec.period_s is not None:
            arranged = self._put_on_grid(arranged, groups, newest, held, on_grid)
        if len(slots):
            self._devices.reach(groups.slots)["newest"][groups.slots] = times[lasts]
        return arranged

    def reset(self, slots: Slots) -> None:
        """Forget these slots' devices."""
        self._devices.reset(slots)
        if self._lateness is not None:
            self._lateness.reset(slots)

    def move(self, to: Slots) -> None:
        """Devices have other slots: slot k's now has `to[k]`."""
        self._devices.move(to)
        if self._lateness is not None:
            self._lateness.move(to)

    def saved(self) -> dict[str, Any]:
        """Where each device's timeline ends, and what waits; what was counted is not among it."""
        return {"devices": self._devices.values, "lateness": self._lateness.saved() if self._lateness is not None else None}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        self._devices.restore(saved["devices"])
        if self._lateness is not None:
            self._lateness.restore(saved["lateness"])

    def _line_up(self, turn: Turn) -> tuple[Groups, Times, Times]:
        """Readings device by device; each one's time, and that of its device's reading before it, in the order of the groups."""
        groups = grouped(turn.slots)
        times = turn.times[groups.order]
        return groups, times, _shifted(times, groups.starts, self._devices.reach(groups.slots)["newest"][groups.slots])

    def _on_time(self, groups: Groups, times: Times, before: Times) -> npt.NDArray[np.bool_] | None:
        """Which readings are kept, by position; None where all are, as mostly.

        Args:
            groups: The batch's.
            times: float64 `(n,)`, in the order of the groups.
            before: float64 `(n,)`: of the reading before each.
        """
        if not (times < before).any():
            return None
        keep = np.ones(len(times), dtype=np.bool_)
        for group in np.unique(np.searchsorted(groups.starts, np.flatnonzero(times < before), side="right") - 1).tolist():
            start = int(groups.starts[group])
            last = float(before[start])
            for place in range(start, start + int(groups.lengths[group])):
                time = float(times[place])
                keep[place] = not 0 < last - time <= self._spec.max_gap_s
                last = time if keep[place] else last
        by_position = np.empty_like(keep)
        by_position[groups.order] = keep
        return by_position

    def _new(self, groups: Groups, again: npt.NDArray[np.bool_], turn: Turn) -> npt.NDArray[np.bool_] | None:
        """Which readings are no repeats, by position; None where none is one, as mostly.

        Args:
            groups: The batch's.
            again: bool `(n,)`: which have the time of the reading before, in the order of the groups.
            turn: The readings.
        """
        if not again.any():
            return None
        places = np.flatnonzero(again)
        values = turn.raw[groups.order]
        # Where the reading before is a repeat itself, it equals the one that is kept.
        earlier = _shifted(values, groups.starts, self._devices.reach(groups.slots)["sent"][groups.slots])[places]
        values = values[places]
        equal = ((values == earlier) | (np.isnan(values) & np.isnan(earlier))).all(axis=1)
        chosen = groups.order[places[equal]]
        if turn.dated is not None:
            chosen = chosen[turn.dated[chosen]]
        if not len(chosen):
            return None
        new = np.ones(len(again), dtype=np.bool_)
        new[chosen] = False
        return new

    def _since(self, groups: Groups, times: Times, before: Times) -> Times:
        """Seconds since each device's reading before, by position; infinite where there was none, or too long ago, or it lies ahead."""
        since_s = times - before
        broken = np.abs(since_s) > self._spec.max_gap_s
        if broken.any():
            self.restarted += int((broken & np.isfinite(before)).sum())
            since_s[broken] = np.inf
        by_position: Times = np.empty_like(since_s)
        by_position[groups.order] = since_s
        return by_position

    def _put_on_grid(self, readings: Arranged, groups: Groups, newest: Times, held: Raw, on_grid: npt.NDArray[np.bool_]) -> Arranged:
        """The grid's points up to each device's newest reading, each with the values of the last reading at or before it.

        Args:
            readings: What would be the rows without a grid.
            groups: Of these.
            newest: float64 `(d,)`: time of each device's last reading of an earlier batch.
            held: float64 `(d, features)`: the values that came with it.
            on_grid: bool `(d,)`: whether its window has a point already.
        """
        period = np.float64(self._spec.period_s or 1.0)
        order = groups.order
        times, raw, since_s = readings.times[order], readings.raw[order], readings.since_s[order]
        anew = np.isinf(since_s)
        reached = np.floor(times / period)
        # Where it begins anew, the points up to it are nobody's, but one that it stands on is its own.
        passed = np.where(anew, np.ceil(times / period) - 1, np.floor(_shifted(times, groups.starts, newest) / period))
        counts = (reached - passed).astype(np.intp)
        row = np.repeat(np.arange(len(order)), counts)
        at = (passed[row] + 1 + np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)) * period
        own = at >= times[row]
        values = np.where(own[:, None], raw[row], _shifted(raw, groups.starts, held)[row])
        values[:, self._clocks] = at[:, None]
        source = _shifted(readings.sources[order], groups.starts, np.full(len(groups.slots), -1))
        # The first point since the window began anew: within this batch, or with an earlier batch's readings.
        begins = np.maximum.accumulate(np.where(anew, np.arange(len(order)), -1))[row]
        group = np.repeat(np.arange(len(groups.slots)), groups.lengths)
        earlier = (begins < groups.starts[group[row]]) & on_grid[group[row]]
        segment = np.where(begins < groups.starts[group[row]], -1 - group[row], begins)
        is_first = np.diff(segment, prepend=np.iinfo(np.intp).max) != 0
        since = np.where(is_first & ~earlier, np.inf, period)
        self._remember_grid(groups, anew, row, group)
        back = np.argsort(order[row], kind="stable")
        return Arranged(
            readings.positions[order][row][back],
            np.where(own, readings.sources[order][row], source[row])[back],
            readings.slots[order][row][back],
            at[back],
            since[back],
            values[back],
            readings.late,
            readings.repeated,
        )

    def _remember_grid(self, groups: Groups, anew: npt.NDArray[np.bool_], row: Slots, group: Slots) -> None:
        """Note of each device whether its window has a point of the grid."""
        state = self._devices.reach(groups.slots)
        last_anew = np.full(len(groups.slots), -1)
        np.maximum.at(last_anew, group[anew], np.flatnonzero(anew))
        last_point = np.full(len(groups.slots), -1)
        np.maximum.at(last_point, group[row], row)
        had = state["on_grid"][groups.slots] & (last_anew < 0)
        state["on_grid"][groups.slots] = had | ((last_point >= 0) & (last_point >= last_anew))


_NONE: Slots = np.zeros(0, dtype=np.intp)


def _at_once(turn: Turn, dropped: npt.NDArray[np.bool_]) -> Slots:
    """Which of the batch's readings are among those dropped, but for those that waited."""
    found: Slots = turn.sources[dropped & (turn.sources == turn.positions)]
    return found


def _merged(raw: Raw, groups: Groups, since_s: Times, held: Raw) -> Raw:
    """Fill what is missing with what the device sent before, unless its window has begun anew since.

    Args:
        raw: float64 `(n, features)`, by position.
        groups: Of the readings.
        since_s: float64 `(n,)`, by position.
        held: float64 `(d, features)`: what each device is known to have sent.
    """
    ordered, places = raw[groups.order], np.arange(len(raw))
    begins = np.isinf(since_s[groups.order])
    segment = np.maximum.accumulate(np.where(begins, places, -1))
    group = np.repeat(np.arange(len(groups.slots)), groups.lengths)
    start = groups.starts[group]
    sent = np.maximum.accumulate(np.where(np.isnan(ordered), -1, places[:, None]), axis=0)
    known = sent >= np.maximum(start, segment)[:, None]
    earlier = np.where((segment < start)[:, None], held[group], np.nan)
    merged = np.empty_like(raw)
    merged[groups.order] = np.where(known, np.take_along_axis(ordered, np.maximum(sent, 0), axis=0), earlier)
    return merged


def _shifted(ordered: npt.NDArray[Any], starts: Slots, earlier: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What stands before each of a device's readings, in the order of the groups; `earlier` stands before the first."""
    shifted = np.empty_like(ordered)
    shifted[1:] = ordered[:-1]
    shifted[starts] = earlier
    return shifted
