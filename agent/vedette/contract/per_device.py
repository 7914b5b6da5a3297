"""What is remembered of devices: arrays, one record a device, by slot."""

from typing import Any

import numpy as np
import numpy.typing as npt

Slots = npt.NDArray[np.intp]


class PerDevice:
    """One record a device, by slot; there is room for more as soon as a higher slot is used.

    Args:
        fresh: What a device begins with: an array of any shape and dtype, often one structured record.

    Attributes:
        values: `(room, *fresh.shape)`.
    """

    def __init__(self, fresh: npt.NDArray[Any]) -> None:
        self._fresh = fresh
        self.values: npt.NDArray[Any] = np.empty((0, *fresh.shape), dtype=fresh.dtype)

    def reach(self, slots: Slots) -> npt.NDArray[Any]:
        """Make room for these slots, and give `values`."""
        if len(slots) and (room := int(slots.max()) + 1) > len(self.values):
            self._grow(max(room, min(2 * len(self.values), len(self.values) + 4096), 16))
        return self.values

    def reset(self, slots: Slots) -> None:
        """Let these slots begin anew: another device has them."""
        self.values[slots[slots < len(self.values)]] = self._fresh

    def move(self, to: Slots) -> None:
        """Give the record of slot k to slot `to[k]`; slots that nothing moves to begin anew."""
        records = self.reach(np.arange(len(to)))[: len(to)].copy()
        self.values = self.values[:0]
        self.reach(to)[to] = records

    def restore(self, values: npt.NDArray[Any]) -> None:
        """Go on with what `values` held."""
        self.values = np.zeros((len(values), *self._fresh.shape), dtype=self._fresh.dtype)
        self.values[:] = values

    def _grow(self, room: int) -> None:
        # Zeros, so that what lies between the fields of a record is no accident: it is saved with them.
        grown = np.zeros((room, *self._fresh.shape), dtype=self._fresh.dtype)
        grown[: len(self.values)] = self.values
        grown[len(self.values) :] = self._fresh
        self.values = grown
