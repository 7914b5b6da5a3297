"""Adaptation: how rare a raw score is among a device's own recent ones, for telemetry that does not stay what it was.

What is kept of a device is a histogram of its raw scores, which begins as that of held-out history and forgets with a half-life. What a
score then means is its surprisal, -log10 of the share of windows that score as high: 2 is one window in a hundred.

Rules this module keeps: a window is compared with those before it, then counted; what one device sends never changes another's histogram;
the state is finite and of one size whatever comes, and no surprisal exceeds the cap. The price: what lasts
is told when it begins, not for as long as it lasts, because after 1 % of a half-life it is one of the things that happen; and a device that
has changed for good is ordinary after about a half-life. That is drift, and `Adapter.shifted` tells it.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.devices import PerDevice, Slots, grouped
from vedette.contract.windows import Batch

BINS = 64
LOW, HIGH = -2.0, 4.0
"""Decades of (raw - origin) / unit that the bins cover; what is outside counts as at the end."""

COMMON, RARE, FEW = 0.1, 0.01, 0.02
"""Beyond the RARE windows the histogram holds too few to count, and the tail goes on as it fell from COMMON to RARE: a Pareto tail. Taken
only where the share is under FEW, which a handful of windows cannot say.
"""

SHIFTED = 0.05
"""A device's median among the upper twentieth of what history scored is no longer what was learnt."""

_STEEPEST = 0.25
"""In bins, the least distance from COMMON to RARE: a narrow seed would otherwise make everything beyond it infinitely rare."""

Floats = npt.NDArray[np.float64]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Adaptation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device's histogram begins with and how it forgets.

    Attributes:
        origin: Raw score from which distances are measured: near the smallest.
        unit: Distance of an ordinary raw score from it.
        seed: Share of the held-out windows in each bin.
        weight: As how many windows the seed counts.
        half_life: In windows of the device.
        cap: Largest surprisal.
    """

    origin: float
    unit: Positive
    seed: Annotated[tuple[Annotated[float, msgspec.Meta(ge=0)], ...], msgspec.Meta(min_length=BINS, max_length=BINS)]
    weight: Positive
    half_life: Positive
    cap: Positive = 8.0

    def __post_init__(self) -> None:
        if not np.isfinite([self.origin, self.unit, self.weight, self.half_life, self.cap, *self.seed]).all() or not sum(self.seed) > 0:
            raise ValueError("adaptation needs finite numbers and a seed that is not empty")

    def surprisal(self, raw: npt.NDArray[np.generic]) -> Floats:
        """How rare raw scores are among the seed's, each by itself: any shape to float64 of that shape, 0 to `cap`."""
        places = places_of(np.asarray(raw, dtype=np.float64), self.origin, self.unit).ravel()
        counts = np.broadcast_to(_counts(self), (len(places), BINS))
        return np.minimum(_surprisals(counts, places), self.cap).reshape(raw.shape)


class Adapter:
    """Keeps, for every device, a histogram of each adapting stage's raw scores: `4 x BINS` bytes each.

    Args:
        adaptations: Of the stages; None leaves a stage's score as it is.
    """

    def __init__(self, adaptations: Sequence[Adaptation | None]) -> None:
        self._columns = np.array([column for column, adaptation in enumerate(adaptations) if adaptation], dtype=np.intp)
        found = [adaptation for adaptation in adaptations if adaptation]
        self._origins = np.array([a.origin for a in found])
        self._units = np.array([a.unit for a in found])
        self._caps = np.array([a.cap for a in found])
        self._keeps = np.array([0.5 ** (1.0 / a.half_life) for a in found], dtype=np.float32)[:, None]
        self._seed = np.array([_counts(a) for a in found], dtype=np.float32).reshape(-1, BINS)
        self._counts = PerDevice(self._seed)

    def adapt(self, raw: Floats, batch: Batch) -> Floats:
        """Make surprisals of the adapting stages' raw scores, window by window.

        Args:
            raw: float64 `(n, voters)`, smoothed.
            batch: The windows that they are of.

        Returns:
            float64 `(n, voters)`.
        """
        if not len(self._columns) or not len(raw):
            return raw
        groups = grouped(batch.slots)
        records = self._counts.reach(groups.slots)
        histograms = records[groups.slots]
        places = places_of(raw[:, self._columns], self._origins, self._units)
        adapted = raw.copy()
        for devices, turn in groups.rounds():
            windows = groups.order[turn]
            counts, at = histograms[devices].reshape(-1, BINS), places[windows].ravel()
            found = _surprisals(counts, at).reshape(len(windows), -1)
            adapted[windows[:, None], self._columns] = np.minimum(found, self._caps)
            faded = (counts.reshape(-1, *self._seed.shape) * self._keeps).reshape(-1, BINS)
            faded[np.arange(len(at)), at.astype(np.intp)] += np.float32(1)
            histograms[devices] = faded.reshape(-1, *self._seed.shape)
        records[groups.slots] = histograms
        return adapted

    def reset(self, slots: Slots) -> None:
        """Forget these slots' devices."""
        self._counts.reset(slots)

    def move(self, to: Slots) -> None:
        """Devices have other slots: slot k's now has `to[k]`."""
        self._counts.move(to)

    def saved(self) -> dict[str, Any]:
        """The histograms."""
        return {"counts": self._counts.values}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        self._counts.restore(saved["counts"])

    def shifts(self, slots: npt.NDArray[np.intp]) -> Floats:
        """How far devices have moved from held-out history.

        Args:
            slots: Of devices that had a window, `(n,)`.

        Returns:
            float64 `(n, adapting stages)`: the share of held-out windows that score under the device's present median. 0.5 is no change;
            near 1, what was rare has become ordinary.
        """
        tails = _tails(self._counts.reach(slots)[slots])
        medians = _place_of_share(tails.reshape(-1, BINS + 1), 0.5)
        seeds = np.broadcast_to(_tails(self._seed), tails.shape).reshape(-1, BINS + 1)
        shares: Floats = 1.0 - _tail_at(seeds, medians) / seeds[:, 0]
        return shares.reshape(tails.shape[:2])

    def shifted(self) -> int:
        """Devices whose ordinary scores are where only SHIFTED of the held-out windows were: drift, which adapting keeps silent about."""
        if not len(self._columns) or not len(self._counts.values):
            return 0
        return int((self.shifts(np.arange(len(self._counts.values))) > 1 - SHIFTED).any(axis=1).sum())


def places_of(raw: Floats, origin: float | Floats, unit: float | Floats) -> Floats:
    """Where raw scores are among the bins, from 0 to just under BINS."""
    # Divided first: a raw score may be as large as float32 goes.
    decades = np.log10(np.maximum((raw - origin) / unit, 10.0**LOW))
    places: Floats = np.minimum((decades - LOW) * (BINS / (HIGH - LOW)), np.nextafter(BINS, 0))
    return places


def _counts(adaptation: Adaptation) -> Floats:
    """The histogram that a device begins with, `(BINS,)`. It weighs no more than all that a device's own can come to."""
    seed = np.array(adaptation.seed)
    counts: Floats = seed / seed.sum() * min(adaptation.weight, 1.0 / (1.0 - 0.5 ** (1.0 / adaptation.half_life)))
    return counts


def _surprisals(counts: npt.NDArray[np.floating], places: Floats) -> Floats:
    """-log10 of the share of windows at or over each place.

    Args:
        counts: Each place's own histogram, `(n, BINS)`.
        places: `(n,)`.
    """
    tails = _tails(counts)
    # As if half of this very window had been seen before: no share is 0.
    share = (_tail_at(tails, places) + 0.5) / (tails[:, 0] + 1.0)
    found: Floats = -np.log10(share)
    few = np.flatnonzero(share < FEW)
    if len(few):
        rare, common = _place_of_share(tails[few], RARE), _place_of_share(tails[few], COMMON)
        beyond = np.maximum(places[few] - rare, 0.0) / np.maximum(rare - common, _STEEPEST)
        found[few] = np.where(beyond > 0, -np.log10(RARE) + beyond, found[few])
    return found


def _tails(counts: npt.NDArray[np.floating]) -> Floats:
    """How much is at or over each edge, `(…, BINS)` to float64 `(…, BINS + 1)`; a sum in one order, however many are summed at once."""
    tails = np.zeros((*counts.shape[:-1], BINS + 1))
    np.cumsum(counts[..., ::-1], axis=-1, dtype=np.float64, out=tails[..., -2::-1])
    return tails


def _tail_at(tails: Floats, places: Floats) -> Floats:
    """How much is at or over a place, linear within its bin."""
    rows, bins = np.arange(len(tails)), places.astype(np.intp)
    at, after = tails[rows, bins], tails[rows, bins + 1]
    found: Floats = at + (places - bins) * (after - at)
    return found


def _place_of_share(tails: Floats, share: float) -> Floats:
    """The place that this share of a histogram is over, linear within its bin."""
    wanted = share * tails[:, 0]
    rows, bins = np.arange(len(tails)), (tails >= wanted[:, None]).sum(axis=1) - 1
    at, after = tails[rows, bins], tails[rows, bins + 1]
    found: Floats = bins + (at - wanted) / (at - after)
    return found
