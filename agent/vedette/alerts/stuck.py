"""Stuck sensors: readings keep coming, and one value in them is always the very same.

Rules this module keeps: time is event time; a value that is not there says nothing, neither that it changed nor that it did not; what is
told depends on the readings alone, never on where batches end; no Python runs for readings in which no sensor gets stuck or free.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.alerts.alert import Alert, Origin, Type, ended
from vedette.alerts.finding import Finding, Proposal, Rank
from vedette.contract.devices import PerDevice, Slots, grouped
from vedette.contract.features import FeatureSpec, Number, Raw
from vedette.detector import MAX_CAUSES, Cause

LEAST_READINGS = 10
"""So many equal values it takes, however long they last: two readings that are half a day apart may well be equal."""


class _Stuck(msgspec.Struct):
    """A device with sensors that are stuck: each one's value by its index, since when, and the message that told of it last."""

    since: float
    values: dict[int, float] = {}
    alert: Alert | None = None


class Stuck:
    """Tells which sensors of a device are stuck, in one alert for each device.

    Args:
        after_s: So long a value must have been the same, seconds.
        features: Names of the numbers to look at; None is all.
        spec: The features of a reading.
        origin: Of the alerts.
        names: Of the devices, by slot.
    """

    def __init__(self, after_s: float, features: Sequence[str] | None, spec: FeatureSpec, origin: Origin, names: Sequence[str]) -> None:
        self._after_s, self._origin, self._names = after_s, origin, names
        self._features = features
        self._columns, self._numbers = self._watched(spec)
        width = len(self._columns)
        self._value = PerDevice(np.full(width, np.nan))
        self._since = PerDevice(np.zeros(width))
        self._count = PerDevice(np.zeros(width, dtype=np.int64))
        self._stuck = PerDevice(np.zeros(width, dtype=np.bool_))
        self._kept = {"value": self._value, "since": self._since, "count": self._count, "stuck": self._stuck}
        self._open: dict[int, _Stuck] = {}

    def open_alert(self, slot: int) -> str | None:
        """The id of the device's alert, if a sensor of it is stuck."""
        entry = self._open.get(slot)
        return entry.alert.id if entry and entry.alert else None

    def __len__(self) -> int:
        """Devices with a sensor that is stuck."""
        return len(self._open)

    def look(self, slots: Slots, times: npt.NDArray[np.float64], raw: Raw, now: npt.NDArray[np.float64]) -> Iterator[Proposal]:
        """Take note of readings.

        Args:
            slots: Of their devices, int `(n,)`.
            times: Event times, epoch seconds, float64 `(n,)`.
            raw: Their values as sent, float64 `(n, features)`.
            now: When they arrived, float64 `(n,)`.

        Yields:
            What they call for.
        """
        if not len(self._columns):
            return
        groups = grouped(slots)
        values, at = raw[groups.order][:, self._columns], times[groups.order, None]
        mine = np.repeat(np.arange(len(groups.slots)), groups.lengths)
        first, row = groups.starts[mine, None], np.arange(len(slots))[:, None]
        known = self._value.reach(slots)[groups.slots]
        known_since = self._since.reach(slots)[groups.slots]
        known_count = self._count.reach(slots)[groups.slots]
        was_stuck = self._stuck.reach(slots)[groups.slots][mine]

        sent = ~np.isnan(values)
        latest = np.maximum.accumulate(np.where(sent, row, -1), axis=0)  # row of the newest value sent, maybe another device's
        earlier = np.vstack([np.full((1, values.shape[1]), -1), latest[:-1]])
        before = np.where(earlier >= first, np.take_along_axis(values, np.maximum(earlier, 0), 0), known[mine])
        changed = sent & (values != before)
        turn = np.maximum.accumulate(np.where(changed, row, -1), axis=0)
        total = np.cumsum(sent, axis=0)
        skipped = total - sent
        turned = turn >= first
        safe = np.maximum(turn, 0)
        since = np.where(turned, at[safe, 0], known_since[mine])
        counted = np.where(turned, total - np.take_along_axis(skipped, safe, 0), total - skipped[first[:, 0]] + known_count[mine])

        last = groups.starts + groups.lengths - 1
        newest = latest[last]
        self._value.values[groups.slots] = np.where(
            newest >= groups.starts[:, None], np.take_along_axis(values, np.maximum(newest, 0), 0), known
        )
        self._since.values[groups.slots], self._count.values[groups.slots] = since[last], counted[last]

        lasting = sent & (at - since >= self._after_s) & (counted >= LEAST_READINGS)
        strange = (lasting & ~was_stuck) | (changed & was_stuck)
        if not strange.any():
            return
        for device in np.unique(mine[strange.any(axis=1)]).tolist():
            slot = int(groups.slots[device])
            for place in range(int(groups.starts[device]), int(last[device]) + 1):
                position = int(groups.order[place])
                time = float(at[place, 0])
                alert = self._take(slot, time, lasting[place], changed[place], values[place], since[place])
                if alert:
                    yield Proposal(position, Rank.STUCK, Finding(float(now[position]), None, alert))

    def adopt(self, spec: FeatureSpec) -> bool:
        """Go on with another bundle's features, if the same numbers are in the same places; says whether they are."""
        columns, numbers = self._watched(spec)
        if list(zip(columns.tolist(), [number.name for number in numbers], strict=True)) != self.looks_at:
            return False
        self._numbers = numbers
        return True

    def _watched(self, spec: FeatureSpec) -> tuple[Slots, list[Number]]:
        """The numbers to look at, and where they are among a reading's values."""
        watched = [(i, f) for i, f in enumerate(spec) if isinstance(f, Number) and (self._features is None or f.name in self._features)]
        return np.array([i for i, _ in watched], dtype=np.intp), [f for _, f in watched]

    def forget(self, slot: int, at: float) -> Iterator[Finding]:
        """Forget a device; its alert ends if it has one."""
        entry = self._open.pop(slot, None)
        if entry and entry.alert:
            yield Finding(at, None, ended(entry.alert, entry.alert.time.timestamp()))
        for kept in self._kept.values():
            kept.reset(np.array([slot]))

    def move(self, to: Slots) -> None:
        """Devices have other slots: that of slot k is now at `to[k]`."""
        for kept in self._kept.values():
            kept.move(to)
        self._open = {int(to[slot]): entry for slot, entry in self._open.items()}

    def open_by_slot(self) -> dict[int, str]:
        """Ids of the alerts that are open now."""
        return {slot: entry.alert.id for slot, entry in self._open.items() if entry.alert}

    @property
    def looks_at(self) -> list[tuple[int, str]]:
        """The numbers that it looks at: where each is among a reading's values, and its name."""
        return list(zip(self._columns.tolist(), [number.name for number in self._numbers], strict=True))

    def saved(self) -> dict[str, Any]:
        """Each sensor's last value, since when, how often, and whether it is stuck; and what was told."""
        return {**{name: kept.values for name, kept in self._kept.items()}, "open": msgspec.msgpack.encode(self._open)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        for name, kept in self._kept.items():
            kept.restore(saved[name])
        self._open = msgspec.msgpack.decode(saved["open"], type=dict[int, _Stuck])

    def _take(
        self,
        slot: int,
        time: float,
        lasting: npt.NDArray[np.bool_],
        changed: npt.NDArray[np.bool_],
        values: npt.NDArray[np.float64],
        since: npt.NDArray[np.float64],
    ) -> Alert | None:
        """One reading of a device with something strange in the batch."""
        entry = self._open.get(slot)
        stuck = self._stuck.values[slot]
        freed = [k for k in np.flatnonzero(changed).tolist() if stuck[k]]
        begun = [k for k in np.flatnonzero(lasting).tolist() if not stuck[k]]
        if not freed and not begun:
            return None
        stuck[freed], stuck[begun] = False, True
        if entry is None:
            entry = self._open[slot] = _Stuck(min(float(since[k]) for k in begun))
        for k in freed:
            del entry.values[k]
        entry.values.update((k, float(values[k])) for k in begun)
        score = (time - entry.since) / self._after_s
        if not entry.values:
            assert entry.alert
            del self._open[slot]
            return ended(entry.alert, time, score)
        if not begun:
            return None
        entry.alert = self._message("update" if entry.alert else "new", slot, entry, time, score)
        return entry.alert

    def _message(self, type_: Type, slot: int, entry: _Stuck, time: float, score: float) -> Alert:
        device = self._names[slot]
        id_ = entry.alert.id if entry.alert else self._origin.identify(device, entry.since, "stuck")
        share = round(1.0 / len(entry.values), 2)
        causes = tuple(
            Cause(feature=self._numbers[k].name, share=share, observed=value, expected=float(f"{self._numbers[k].mean:.3g}"))
            for k, value in list(entry.values.items())[:MAX_CAUSES]
        )
        peak = max(score, entry.alert.peak) if entry.alert else score
        return self._origin.alert(type_, "stuck", id_, device, score=score, peak=peak, started=entry.since, time=time, explanation=causes)
