"""A fleet of fridges as its subscribers see it: readings in order of time, each with the truth beside it.

What a reading's `fault` says (its label):

- From a fault's start until just before its end, every reading of the device is labelled with its kind,
  visible yet or not: how long a detector needs to see it is what is to be measured.
- After a physical fault (door, compressor) the fridge is still warm. Readings keep the label until air and
  contents are back at the thermostat's upper limit (air within half a kelvin, contents within two), for at
  most `faults.RECOVERY_CAP_S`. Air alone would not do: it is cold minutes after the compressor starts again,
  and hours of odd cycles while the contents cool would count as normal. The contents all the way would not do
  either: the last two kelvin take hours and change little that a reader of the topic could see.
- After a sensor fault the next reading is a healthy one.
- While readings are spoofed, the forged ones and the true ones between them are labelled alike: whoever reads
  the topic cannot tell them apart, and it is the series that is wrong.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vedette.simulate.cold_chain import MAX_STEP_S, Flags, Fridges
from vedette.simulate.episodes import Episode
from vedette.simulate.faults import PHYSICAL, Fault, check_faults
from vedette.simulate.surroundings import Surroundings

# Long enough for the invented initial temperatures to be forgotten and for most fridges to have defrosted
# once.
_WARM_UP_S: Final = 6 * 3600
_STRETCH_S: Final = 3600
_RECOVERED_AIR_K: Final = 0.5
_RECOVERED_CONTENT_K: Final = 2.0


class Sample(NamedTuple):
    """One reading as a device publishes it, and what only the simulator knows.

    Attributes:
        device: Its name, such as `fridge-03`.
        time: Epoch seconds, UTC, whole.
        values: `temperature` (deg C, two decimals), `power` (W, mean since the last reading, one decimal) and
            `door`. `door` is "open" or "closed" at the moment of the reading, as a plain contact says it: an
            opening shorter than the interval often goes unseen there, and is then seen only in what it does
            to the air.
        fault: The fault's kind, or None; see this module's docstring.
    """

    device: str
    time: float
    values: dict[str, float | str]
    fault: str | None


class ColdChain:
    """A fleet of refrigerators, `fridge-01` and on, with faults.

    A seed gives the same readings always. A device's readings depend on the seed, its number, the start, the
    interval and its own faults; not on how many others there are or what befalls them.

    Args:
        devices: How many, at least 1.
        seed: At least 0.
        start: Epoch seconds of the first interval's start; the fraction is dropped.
        interval_s: Seconds between two readings of a device, whole, at least 2 (a forged reading must fit
            between).
        faults: What goes wrong, where and when.

    Raises:
        FaultError: a fault names no device of the fleet, or two faults of a device overlap.
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        devices: int,
        seed: int,
        start: float,
        interval_s: float = 60.0,
        faults: Sequence[Fault] = (),
    ) -> None:
        if devices < 1:
            raise ValueError(f"devices: expected at least 1, got {devices}")
        if interval_s < 2 or interval_s != int(interval_s):
            raise ValueError(f"interval: expected whole seconds, at least 2, got {interval_s:g}")
        self.device_names = tuple(device_name(number) for number in range(1, devices + 1))
        self.faults = check_faults(faults, devices=self.device_names)
        self._seed = seed
        self._interval_s = int(interval_s)
        # The longest step that divides the interval: readings then fall between steps, on whole seconds.
        self._step_s = max(step for step in range(1, MAX_STEP_S + 1) if self._interval_s % step == 0)
        per_tick = self._interval_s // self._step_s
        chances = [self._chance(1, device) for device in range(devices)]
        self._surroundings = Surroundings(site=self._chance(0), devices=chances, interval_s=self._interval_s, step_s=self._step_s)
        # Real devices do not report in one breath.
        turns = np.array([int(chance.integers(per_tick)) for chance in chances])
        self._turns = [np.flatnonzero(turns == turn) for turn in range(per_tick)]
        self._fridges = Fridges(self._surroundings.build)
        self._metered_j = np.zeros(devices)
        self._changes = _changes(self.faults, self.device_names)
        self._episodes: dict[int, Episode] = {}
        self._forged: list[Sample] = []

        warm_up = -(-_WARM_UP_S // self._interval_s)
        self._time = int(start) - warm_up * self._interval_s
        self._stretch_ticks = max(1, _STRETCH_S // self._interval_s)
        self._stretch_at = self._stretch_ticks
        # A fault that is said to have begun before the start begins at the start: the fleet warms up healthy.
        for _ in range(warm_up):
            self._tick(report=False)

    @property
    def time(self) -> float:
        """Epoch seconds at which the next interval starts."""
        return float(self._time)

    def step(self) -> list[Sample]:
        """The next interval's readings of all devices, in order of time."""
        fresh = self._tick(report=True)
        ready = sorted(self._forged + fresh, key=lambda sample: (sample.time, sample.device))
        # A forged reading that follows a device's late turn belongs to the next interval.
        self._forged = [sample for sample in ready if sample.time >= self._time]
        return [sample for sample in ready if sample.time < self._time]

    def _tick(self, *, report: bool) -> list[Sample]:
        """Let one interval pass; the readings taken in it, which are none unless asked to `report`."""
        if self._stretch_at == self._stretch_ticks:
            self._stretch = self._surroundings.stretch(float(self._time), self._stretch_ticks)
            self._stretch_at = 0
        row = self._stretch_at
        ambient_c = self._stretch.ambient_c[row]
        samples: list[Sample] = []
        for turn, members in enumerate(self._turns):
            opened = self._stretch.opened[row * len(self._turns) + turn]
            time = self._time + turn * self._step_s
            if report and self._changes and self._changes[0].time <= time:
                self._begin_and_end(time)
            if members.size:
                samples += self._read(members, time, row, opened, report=report)
            self._fridges.advance(self._step_s, ambient_c, opened)
        self._stretch_at += 1
        self._time += self._interval_s
        return samples

    def _read(self, members: npt.NDArray[np.intp], time: int, row: int, opened: Flags, *, report: bool) -> list[Sample]:
        """Take the readings of those whose turn it is; reset their meters."""
        fridges, habits = self._fridges, self._surroundings.habits
        power_w = (fridges.energy_j[members] - self._metered_j[members]) / self._interval_s
        self._metered_j[members] = fridges.energy_j[members]
        if not report:
            return []
        shown_c = fridges.probe_c[members] + habits.sensor_offset_k[members] + self._stretch.temperature_noise_k[row, members]
        shown_w = power_w * (1.0 + self._stretch.power_noise[row, members])
        doors = opened[members] | (fridges.held_open[members] > 0.0)
        samples: list[Sample] = []
        for device, sensed, power, door in zip(members.tolist(), shown_c.tolist(), shown_w.tolist(), doors.tolist(), strict=True):
            episode = self._episodes.get(device)
            if episode is not None and episode.over(time, well=self._well(device)):
                del self._episodes[device]
                episode = None
            temperature = sensed
            if episode is not None:
                temperature = episode.shown(time, sensed)
                forged = episode.forge(time, self._interval_s)
                if forged is not None:
                    at, claims = forged
                    self._forged.append(Sample(self.device_names[device], float(at), claims, episode.fault.kind))
            values: dict[str, float | str] = {
                "temperature": round(temperature, 2),
                "power": round(power, 1),
                "door": "open" if door else "closed",
            }
            kind = None if episode is None else episode.fault.kind
            samples.append(Sample(self.device_names[device], float(time), values, kind))
        return samples

    def _begin_and_end(self, time: int) -> None:
        """Let the faults act whose time has come, and cease those whose time is over."""
        while self._changes and self._changes[0].time <= time:
            change = self._changes.pop(0)
            device, fault = change.device, change.fault
            fridges = self._fridges
            fridges.held_open[device], fridges.cooling_share[device], fridges.draw_share[device] = (
                0.0,
                1.0,
                1.0,
            )
            if not change.begins:
                if fault.kind not in PHYSICAL:
                    self._episodes.pop(device, None)
                continue
            episode = Episode(
                fault,
                set_point_c=float(self._surroundings.build.set_point_c[device]),
                rng=self._chance(2, device, int(fault.start)),
            )
            self._episodes[device] = episode
            if fault.kind == "door_left_open":
                fridges.held_open[device] = episode.gap
            elif fault.kind == "compressor_failure":
                fridges.cooling_share[device] = 0.0
                fridges.draw_share[device] = episode.draw_share

    def _well(self, device: int) -> bool:
        """Whether a fridge is, in truth, as cold as its thermostat wants it."""
        limit_c = float(self._surroundings.build.cut_in_c[device])
        air_c, content_c = float(self._fridges.air_c[device]), float(self._fridges.content_c[device])
        return air_c <= limit_c + _RECOVERED_AIR_K and content_c <= limit_c + _RECOVERED_CONTENT_K

    def _chance(self, *key: int) -> np.random.Generator:
        """A generator that depends on the seed and `key` alone."""
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))


def device_name(number: int) -> str:
    """The name of the fridge with this number, from 1."""
    return f"fridge-{number:02d}"


class _Change(NamedTuple):
    time: float
    begins: bool
    device: int
    fault: Fault


def _changes(faults: Sequence[Fault], names: Sequence[str]) -> list[_Change]:
    """Starts and ends in order of time; an end before a start at the same time."""
    index = {name: number for number, name in enumerate(names)}
    changes = [_Change(time=fault.start, begins=True, device=index[fault.device], fault=fault) for fault in faults]
    changes += [_Change(time=fault.end, begins=False, device=index[fault.device], fault=fault) for fault in faults]
    return sorted(changes, key=lambda change: (change.time, change.begins, change.device))
