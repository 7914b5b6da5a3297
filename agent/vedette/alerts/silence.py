"""Silence: devices that were heard of, and then not for longer than they should be.

Rules this module keeps: time is that of arrival, of which no device's clock knows; what is told depends on the readings alone, never on
where batches end or how often somebody looks; looking costs next to nothing before the earliest device is due.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.alerts.alert import Alert, Origin, ended
from vedette.alerts.finding import Finding, Proposal, Rank
from vedette.contract.devices import PerDevice, Slots, grouped

Times = npt.NDArray[np.float64]


class Silence:
    """Tells which devices fell silent, and when they were heard again.

    Args:
        allowed_s: So long a device may be silent, seconds.
        origin: Of the alerts.
        names: Of the devices, by slot.
    """

    def __init__(self, allowed_s: float, origin: Origin, names: Sequence[str]) -> None:
        self._allowed_s, self._origin, self._names = allowed_s, origin, names
        self._heard = PerDevice(np.array(np.inf))  # infinite for one that was not heard of yet
        self._gone = PerDevice(np.array(False))
        self._open: dict[int, tuple[Alert, float]] = {}
        self._earliest = np.inf  # no device is due before

    def open_alert(self, slot: int) -> str | None:
        """The id of the device's alert, if it is silent."""
        return self._open[slot][0].id if slot in self._open else None

    def __len__(self) -> int:
        """Devices that are silent."""
        return len(self._open)

    def hear(self, slots: Slots, now: Times) -> Iterator[Proposal]:
        """Take note of readings.

        Args:
            slots: Of their devices, int `(n,)`.
            now: When they arrived, epoch seconds, float64 `(n,)`, never going back.

        Yields:
            What they call for: silence that somebody was in before a reading, and that a reading ends.
        """
        heard, gone = self._heard.reach(slots), self._gone.reach(slots)
        self._earliest = min(self._earliest, float(now[0]) + self._allowed_s)
        if now[-1] <= self._earliest and not (self._open and gone[slots].any()):
            heard[slots] = now  # a device's last reading is the one that stays
            return
        groups = grouped(slots)
        arrived = now[groups.order]
        before = np.roll(arrived, 1)
        before[groups.starts] = heard[groups.slots]
        was_gone = np.zeros(len(slots), dtype=np.bool_)
        was_gone[groups.starts] = gone[groups.slots]
        heard[slots] = now
        for place in np.flatnonzero(was_gone | (arrived > before + self._allowed_s)).tolist():
            position, since = int(groups.order[place]), float(before[place])
            slot = int(slots[position])
            if not was_gone[place]:
                yield self._fall_silent(slot, self._names[slot], since, now)
            yield Proposal(position, Rank.HEARD, self._end(slot, float(arrived[place])))
        yield from self._find(float(now[-1]), now)

    def evict(self, slot: int, device: str, position: int, now: Times) -> Iterator[Proposal]:
        """Forget a device whose slot is another's from a reading of the batch on; it may have fallen silent before.

        Args:
            slot: The slot.
            device: Whose it was.
            position: Of that reading.
            now: When each of the batch's readings arrived.
        """
        since = float(self._heard.reach(np.array([slot]))[slot])
        if slot not in self._open and now[position] > since + self._allowed_s:
            yield self._fall_silent(slot, device, since, now)
        for finding in self.forget(slot, float(now[position])):
            yield Proposal(position, Rank.EVICTED, finding)

    def pause(self, since: float, until: float) -> None:
        """Nothing could be heard from `since` to `until`, epoch seconds: that time is nobody's silence."""
        heard = self._heard.values
        heard[heard <= until] += until - since
        np.minimum(heard, until, where=np.isfinite(heard), out=heard)
        self._earliest = -np.inf  # to be worked out anew

    def look(self, now: float) -> Iterator[Finding]:
        """Find who is silent at `now`, epoch seconds; all that arrived up to then was heard."""
        if now > self._earliest:
            for proposal in sorted(self._find(now, np.zeros(0)), key=lambda p: (p.finding.at, p.finding.alert.device)):
                yield proposal.finding

    def depart(self, slot: int, at: float) -> Iterator[Finding]:
        """A device said that it goes: it is silent at once, unless it was heard of since."""
        heard = self._heard.reach(np.array([slot]))[slot]
        if slot not in self._open and heard <= at:
            yield self._begin(slot, self._names[slot], float(heard), at)

    def forget(self, slot: int, at: float) -> Iterator[Finding]:
        """Forget a device; its alert ends if it has one."""
        if slot in self._open:
            yield self._end(slot, at)
        self._heard.reset(np.array([slot]))

    def move(self, to: Slots) -> None:
        """Devices have other slots: that of slot k is now at `to[k]`."""
        self._heard.move(to)
        self._gone.move(to)
        self._open = {int(to[slot]): entry for slot, entry in self._open.items()}

    def open_by_slot(self) -> dict[int, str]:
        """Ids of the alerts that are open now."""
        return {slot: alert.id for slot, (alert, _) in self._open.items()}

    def saved(self) -> dict[str, Any]:
        """When each device was heard of last, and who is silent."""
        return {"heard": self._heard.values, "open": msgspec.msgpack.encode(self._open)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        self._heard.restore(saved["heard"])
        self._open = msgspec.msgpack.decode(saved["open"], type=dict[int, tuple[Alert, float]])
        slots = np.array(list(self._open), dtype=np.intp)
        self._gone.reach(slots)[:] = False
        self._gone.values[slots] = True
        self._earliest = -np.inf  # to be found out anew

    def _find(self, until: float, now: Times) -> Iterator[Proposal]:
        """Who is due before `until`, and when the next one will be."""
        heard = self._heard.values
        due = heard + self._allowed_s
        due[self._gone.reach(np.arange(len(heard)))[: len(heard)]] = np.inf
        overdue = np.flatnonzero(due < until)
        self._earliest = np.inf
        if len(due):
            due[overdue] = np.inf
            self._earliest = float(due.min())
        for slot in overdue.tolist():
            yield self._fall_silent(slot, self._names[slot], float(heard[slot]), now)

    def _fall_silent(self, slot: int, device: str, since: float, now: Times) -> Proposal:
        """Where among the readings it was due: before the first that arrived later."""
        finding = self._begin(slot, device, since, since + self._allowed_s)
        return Proposal(int(now.searchsorted(finding.at, side="right")), Rank.DUE, finding)

    def _begin(self, slot: int, device: str, since: float, at: float) -> Finding:
        id_ = self._origin.identify(device, since, "silent")
        alert = self._origin.alert("new", "silent", id_, device, score=1.0, peak=1.0, started=since, time=at)
        self._open[slot] = alert, since
        self._gone.reach(np.array([slot]))[slot] = True
        return Finding(at, None, alert)

    def _end(self, slot: int, at: float) -> Finding:
        alert, since = self._open.pop(slot)
        self._gone.values[slot] = False
        score = round(max(1.0, (at - since) / self._allowed_s), 4)
        return Finding(at, None, ended(alert, at, score))
