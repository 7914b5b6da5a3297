"""Devices: which of them has which place in the arrays that hold what is remembered of all of them.

Rules this module keeps: what is remembered of devices is arrays, one record a device, never an object a device; at the cap the device
least recently heard of gives its slot to the new one; who remembers something of a slot is told before another device has it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.contract.admission import Admission
from vedette.contract.per_device import PerDevice, Slots

__all__ = ["Devices", "Groups", "PerDevice", "Placed", "Slots", "grouped"]

Arrivals = npt.NDArray[np.float64]


class Placed(NamedTuple):
    """Some of a batch's readings, with the slots of their devices.

    Attributes:
        readings: Which of the batch.
        slots: int `(n,)`.
        evicted: Slots that changed hands, int `(e,)`: what is remembered of them is to be forgotten before these readings are looked at.
        forgotten: Whose they were.
        kept: Which of these readings have slots, where some were refused; None where all have.
        refused: Which of them have none, and why: `newcomer` or `flood`.
    """

    readings: slice
    slots: Slots
    evicted: Slots
    forgotten: list[str]
    kept: Slots | None = None
    refused: Sequence[tuple[int, str]] = ()


class Devices:
    """Which device has which slot.

    Args:
        most: Cap on devices.
        admission: Limits what they send, and how fast they give way; None for neither.

    Attributes:
        names: By slot.
        evicted: How many devices had to give way so far.
    """

    def __init__(self, most: int, admission: Admission | None = None) -> None:
        self._most, self._admission = most, admission
        self.names: list[str] = []
        self._slots: dict[str, int] = {}
        self._heard = PerDevice(np.array(-1, dtype=np.int64))
        self._count = 0
        self.evicted = 0

    def __len__(self) -> int:
        """Devices that are remembered."""
        return len(self.names)

    def slot(self, device: str) -> int | None:
        """A device's slot, if it has one."""
        return self._slots.get(device)

    def recent(self) -> Slots:
        """All slots, that of the device least recently heard of first."""
        return self._heard.values[: len(self.names)].argsort()

    def place(self, devices: Sequence[str], arrived: Arrivals | None = None, messages: Sequence[int] = ()) -> Iterator[Placed]:
        """Find slots for readings' devices, in order. Each part is to be dealt with before the next is asked for.

        Args:
            devices: n names.
            arrived: float64 `(n,)`: times of arrival, epoch seconds; without them nothing is refused.
            messages: Which message each is of, where one may hold several readings.

        Yields:
            Mostly one part with all of them; more where devices have to give way to each other within the batch.
        """
        start = 0
        verdicts: dict[tuple[int, str], bool] = {}
        while start < len(devices):
            some = devices[start:] if start else devices
            evicted: list[int] = []
            forgotten: list[str] = []
            # -1 for one that is not known: in most batches all are.
            found = [self._slots.get(device, -1) for device in some]
            if -1 in found:
                found = self._make_room(some, found.index(-1), found, evicted, forgotten, None if arrived is None else arrived[start:])
            part = slice(start, start + len(found))
            slots, count = np.array(found, dtype=np.intp), np.arange(self._count, self._count + len(found))
            self._count += len(found)
            refused = [(position, "newcomer") for position, slot in enumerate(found) if slot < 0] if -1 in found else []
            if refused:
                has_slot = slots >= 0
                self._heard.reach(slots)[slots[has_slot]] = count[has_slot]
            else:
                self._heard.reach(slots)[slots] = count
            if self._admission is not None and arrived is not None:
                too_many = self._too_many(self._admission, some, slots, arrived[part], messages[part], verdicts, all_known=not refused)
                refused += [(position, "flood") for position in too_many.tolist()]
            kept = np.delete(np.arange(len(found)), [position for position, _ in refused]) if refused else None
            yield Placed(part, slots if kept is None else slots[kept], np.array(evicted, dtype=np.intp), forgotten, kept, refused)
            start += len(found)

    def surplus(self) -> Slots:
        """Slots of the devices beyond the cap, those least recently heard of, where more were restored than are allowed now."""
        return self.recent()[: max(0, len(self.names) - self._most)]

    def leave(self, slots: Slots) -> Slots:
        """Forget the surplus.

        Returns:
            Which slot the device of each slot has from now on, int `(n,)`; those that are forgotten are last.
        """
        stay = np.setdiff1d(np.arange(len(self.names)), slots)
        order = np.concatenate([stay, slots])
        to = np.empty(len(order), dtype=np.intp)
        to[order] = np.arange(len(order))
        self._heard.reset(slots)
        self._heard.move(to)
        self.names[:] = [self.names[slot] for slot in stay.tolist()]
        self._slots = {name: slot for slot, name in enumerate(self.names)}
        if self._admission is not None:
            self._admission.move(to, len(stay))
        self.evicted += len(slots)
        return to

    def saved(self) -> dict[str, Any]:
        """All that is known of the devices."""
        admission = self._admission.saved() if self._admission is not None else None
        return {"names": self.names, "heard": self._heard.values, "count": self._count, "evicted": self.evicted, "admission": admission}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved; there may be more devices than the cap, see `surplus`."""
        self.names[:] = saved["names"]
        self._slots = {name: slot for slot, name in enumerate(self.names)}
        self._heard.restore(saved["heard"])
        self._count, self.evicted = saved["count"], saved["evicted"]
        if self._admission is not None and saved["admission"] is not None:
            self._admission.restore(saved["admission"])

    def _too_many(
        self,
        admission: Admission,
        devices: Sequence[str],
        slots: Slots,
        arrived: Arrivals,
        messages: Sequence[int],
        verdicts: dict[tuple[int, str], bool],
        *,
        all_known: bool,
    ) -> Slots:
        """Positions of readings that their devices should not have sent; `verdicts` are those on messages that hold several."""
        if not messages and all_known:
            return admission.refused(slots, arrived)
        asked = np.flatnonzero(slots >= 0)
        if not messages:
            return asked[admission.refused(slots[asked], arrived[asked])]
        firsts: dict[tuple[int, str], int] = {}
        for at in asked.tolist():
            if (key := (messages[at], devices[at])) not in verdicts:
                firsts.setdefault(key, at)
        keys, at_first = list(firsts), np.array(list(firsts.values()), dtype=np.intp)
        refused = admission.refused(slots[at_first], arrived[at_first])
        verdicts.update(dict.fromkeys(keys, False) | {keys[at]: True for at in refused.tolist()})
        return np.array([at for at in asked.tolist() if verdicts[messages[at], devices[at]]], dtype=np.intp)

    def _make_room(
        self, devices: Sequence[str], first: int, found: list[int], evicted: list[int], forgotten: list[str], arrived: Arrivals | None
    ) -> list[int]:
        """The slots of as many readings as can be placed, from the first of an unknown device on; -1 for one that is refused."""
        admission, times = (self._admission, arrived.tolist()) if arrived is not None else (None, [])
        found = found[:first]
        known = np.array(found, dtype=np.intp)
        heard = self._heard.reach(known)
        heard[known] = np.arange(self._count, self._count + first)
        for position in range(first, len(devices)):
            device = devices[position]
            slot = self._slots.get(device)
            if slot is None:
                if len(self.names) < self._most:
                    slot = len(self.names)
                    self.names.append(device)
                    heard = self._heard.reach(np.array([slot]))
                else:
                    if admission is not None and admission.is_shut(times[position]):
                        found.append(-1)
                        continue
                    slot = int(heard[: len(self.names)].argmin())
                    if heard[slot] >= self._count:
                        return found  # it is one of this part's: that is to be dealt with first
                    if admission is not None and not admission.may_take(slot, times[position]):
                        found.append(-1)
                        continue
                    if self._admission is not None:
                        self._admission.vacate(slot)
                    evicted.append(slot)
                    forgotten.append(self.names[slot])
                    del self._slots[self.names[slot]]
                    self.names[slot] = device
                    self.evicted += 1
                self._slots[device] = slot
            heard[slot] = self._count + position
            found.append(slot)
        return found


class Groups(NamedTuple):
    """A batch's n readings, device by device.

    Attributes:
        order: int `(n,)`: positions of the readings, those of one device together and in their order.
        slots: int `(d,)`: of each device.
        starts: int `(d,)`: where in `order` each device begins.
        lengths: int `(d,)`: how many each has.
    """

    order: Slots
    slots: Slots
    starts: Slots
    lengths: Slots

    def rounds(self) -> Iterator[tuple[Slots, Slots]]:
        """Which devices have one more reading, and its place in `order`: the first of each, then the second, …"""
        devices = np.arange(len(self.slots))
        for turn in range(int(self.lengths.max(initial=0))):
            devices = devices[self.lengths[devices] > turn]
            yield devices, self.starts[devices] + turn


def grouped(slots: Slots) -> Groups:
    """Sort readings by device: int `(n,)`."""
    order = slots.argsort(kind="stable")
    ordered = slots[order]
    is_first = np.empty(len(slots), dtype=np.bool_)
    is_first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    starts = is_first.nonzero()[0]
    lengths = np.diff(starts, append=len(slots))
    return Groups(order, ordered[starts], starts, lengths)
