"""Drift of a stream: most of its devices are over the threshold at once, so that it is the model, or the world, that has changed.

Told as one alert about the stream, and no device's own alert is raised meanwhile. As soon as so many are over, within one round of
windows, devices' alerts are held back; the stream's alert follows when it has lasted for as many rounds as it takes windows to raise a
device's; it ends when few are over for as many rounds as it takes windows to clear one.

Rules this module keeps: a device counts once, however often it reports; what is told depends on the readings alone, never on where
batches end; while few are over, windows of devices that are well cost a comparison and an assignment.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vedette.alerts.alert import MAX_NAMES, Alert, Origin, Type
from vedette.config import Alerts
from vedette.contract.devices import PerDevice, Slots

LEAST_DEVICES = 6
"""Of a stream that can drift as a whole: with fewer, an alert for each is no flood, and half of them is no majority to go by."""

ACTIVE_S = 86400.0
"""A device counts so long after its last window; users, unlike sensors, come and go."""

_TICK_S = ACTIVE_S / 64
"""Who counts is worked out anew so often."""

_STANDING = (
    "_since", "_devices", "_devices_over", "holds", "calm", "_started", "_peak", "_windows", "_windows_over", "_quiet", "id",
)  # fmt: skip


class StreamDrift:
    """Counts how many devices of a stream are over the threshold.

    Args:
        rules: When to raise and clear.
        origin: Of the alert.
        names: Of the devices, by slot.

    Attributes:
        holds: Whether devices' alerts are to be held back now.
        calm: Whether only windows over the threshold, and those of devices that are watched or unheard, need to be counted.
    """

    def __init__(self, rules: Alerts, origin: Origin, names: Sequence[str]) -> None:
        self._rules, self._origin, self._names = rules, origin, names
        self._share = rules.drift_share
        self._known = PerDevice(np.array((-np.inf, False), dtype=[("last", np.float64), ("over", np.bool_)]))
        self._since: float | None = None  # a device counts if its last window is not before
        self._devices = self._devices_over = 0
        self.holds, self.calm = False, True
        self._started = self._peak = 0.0
        self._windows = self._windows_over = self._quiet = 0
        self.id: str | None = None

    @property
    def devices(self) -> int:
        """Devices that count."""
        return self._devices

    def unheard(self, slots: Slots, now: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which windows are of devices that did not count any more: bool `(m,)`, for slots and times of arrival `(m,)`."""
        found: npt.NDArray[np.bool_] = self._known.reach(slots)["last"][slots] < now // _TICK_S * _TICK_S - ACTIVE_S
        return found

    def hear(self, slots: Slots, now: npt.NDArray[np.float64]) -> None:
        """Take note of windows of devices that count, that were not over before and are not now."""
        self._known.reach(slots)["last"][slots] = now

    def take(self, slot: int, now: float, time: float, *, is_over: bool) -> Alert | None:
        """Take a window into account.

        Args:
            slot: Its device's.
            now: When its last reading arrived, epoch seconds.
            time: That reading's event time.
            is_over: Whether its score is at or over the threshold.

        Returns:
            The message that it calls for, mostly none.
        """
        self._count(slot, now, is_over=is_over)
        if self._share is None:
            return None
        limit = self._share * self._devices
        many = self._devices >= LEAST_DEVICES and self._devices_over >= limit
        few = self._devices_over < limit / 2
        if self.id is not None:
            self._windows_over += is_over
            self._quiet = self._quiet + 1 if few else 0
            return self._tell("end", time) if self._quiet >= self._rules.clear.m * self._devices else None
        if self.calm:
            if not many:
                return None
            self.calm, self._started, self._windows, self._windows_over = False, time, 0, 0
        elif few:
            self.calm, self.holds = True, False
            return None
        self.holds = many
        self._windows += many
        self._windows_over += is_over
        return self._tell("new", time) if self._windows >= self._rules.raise_.m * self._devices else None

    def forget(self, slots: Slots) -> None:
        """Devices are no more."""
        known = self._known.reach(slots)[slots]
        active = known["last"] >= (np.inf if self._since is None else self._since)
        self._devices -= int(active.sum())
        self._devices_over -= int((active & known["over"]).sum())
        self._known.reset(slots)

    def move(self, to: Slots) -> None:
        """Devices have other slots: that of slot k is now at `to[k]`."""
        self._known.move(to)

    def saved(self) -> dict[str, Any]:
        """What is known of the devices, and where the stream's own episode stands."""
        return {"known": self._known.values, **{name: getattr(self, name) for name in _STANDING}}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        self._known.restore(saved["known"])
        for name in _STANDING:
            setattr(self, name, saved[name])

    def _count(self, slot: int, now: float, *, is_over: bool) -> None:
        # Room was made when the batch's windows were looked at.
        last, over = self._known.values["last"], self._known.values["over"]
        since = now // _TICK_S * _TICK_S - ACTIVE_S
        if since != self._since:
            active = last >= since
            self._since, self._devices, self._devices_over = since, int(active.sum()), int((active & over).sum())
        if last[slot] < since:
            self._devices += 1
            self._devices_over += is_over
        else:
            self._devices_over += is_over - bool(over[slot])
        last[slot], over[slot] = now, is_over

    def _tell(self, type_: Type, time: float) -> Alert:
        assert self._share
        score = self._devices_over / (self._share * self._devices)
        if type_ == "new":
            self.id = self._origin.identify("", self._started, "drift")
            self._peak, self._quiet, self.holds = score, 0, True
        assert self.id
        self._peak = max(self._peak, score)
        known = self._known.values
        over = np.flatnonzero(known["over"] & (known["last"] >= self._since))
        alert = self._origin.alert(
            type_,
            "drift",
            self.id,
            "",
            score=score,
            peak=self._peak,
            started=self._started,
            time=time,
            windows=self._windows_over,
            count=self._devices_over,
            devices=[self._names[slot] for slot in over[:MAX_NAMES].tolist()],
        )
        if type_ == "end":
            self.id, self.calm, self.holds = None, True, False
        return alert
