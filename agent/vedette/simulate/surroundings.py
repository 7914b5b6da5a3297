"""What chance does to the fleet: builds, the weather in the room, people at the door, noise in the sensor.

Each device draws from a generator of its own, and always as many numbers for a stretch of time, so that
neither a fault nor another device in the fleet changes what happens to it. All draws are uniform numbers put
together by + - * /: numpy's normal and exponential numbers call the C library, whose last bit may differ
between CPUs.
"""

import math
from typing import NamedTuple

import numpy as np

from vedette.simulate.cold_chain import Build, Flags, Floats

_DAY_S = 86400.0
_SUNRISE_TO_MEAN_S = 9 * 3600.0  # the room is at its mean, warming, at 09:00 and so at its warmest at 15:00
_UNIT_SPREAD = math.sqrt(3.0)  # the sum of four uniform numbers has the variance 1/3

# Door openings an hour of an average fridge. A shop or canteen: lunch and late afternoon are busiest.
_NIGHT_RATE, _OPEN_RATE, _BUSY_RATE = 0.25, 4.0, 7.0
_SATURDAY, _SUNDAY = 0.6, 0.15
# One opening in sixty is a delivery or a cleaning: minutes instead of seconds.
_LONG_SHARE = 1 / 60

_SITE_SPREAD_K, _SITE_MEMORY_S = 0.7, 2 * 3600.0
_ROOM_SPREAD_K, _ROOM_MEMORY_S = 0.3, 20 * 60.0


class Habits(NamedTuple):
    """What differs between devices apart from how they are built: float64 `(n,)` each."""

    ambient_c: Floats
    ambient_swing_k: Floats
    door_rate: Floats  # as a share of the average fridge's
    door_length: Floats
    sensor_offset_k: Floats
    sensor_noise_k: Floats
    meter_noise: Floats  # as a share of the power


class Stretch(NamedTuple):
    """Everything drawn for `ticks` readings of `n` devices."""

    ambient_c: Floats  # (ticks, n)
    opened: Flags  # (ticks * steps a tick, n)
    temperature_noise_k: Floats  # (ticks, n)
    power_noise: Floats  # (ticks, n), as a share of the power


class Surroundings:
    """Draws builds and habits once, then one stretch of time after another.

    Args:
        site: Chance for what all devices share.
        devices: Chance for each device.
        interval_s: Seconds from reading to reading.
        step_s: Seconds of a step of the physics; divides `interval_s`.
    """

    def __init__(self, *, site: np.random.Generator, devices: list[np.random.Generator], interval_s: int, step_s: int) -> None:
        self._site_rng = site
        self._rngs = devices
        self._interval_s = interval_s
        self._step_s = step_s
        drawn = [_draw_device(rng) for rng in devices]
        self.build = Build(**{name: np.array([build[name] for build, _ in drawn]) for name in drawn[0][0]})
        self.habits = Habits(**{name: np.array([habits[name] for _, habits in drawn]) for name in drawn[0][1]})
        self._site_k = 0.0
        self._room_k = np.zeros(len(devices))
        self._open_steps = [0] * len(devices)

    def stretch(self, start: float, ticks: int) -> Stretch:
        """Draw what happens in `ticks` intervals from `start` (epoch seconds) on; call in order of time."""
        count = len(self._rngs)
        per_tick = self._interval_s // self._step_s
        times = [start + tick * self._interval_s for tick in range(ticks)]
        chances = np.repeat([opening_rate(time) * self._step_s / 3600.0 for time in times], per_tick)
        opened = np.zeros((ticks * per_tick, count), dtype=np.bool_)
        noise = np.empty((3, ticks, count))
        for device, rng in enumerate(self._rngs):
            draws = rng.random((ticks * per_tick, 3))
            self._open_door(opened[:, device], device, chances, draws)
            for row in range(3):
                noise[row, :, device] = _bell(rng.random((4, ticks)))
        return Stretch(
            ambient_c=self._ambient(times, noise[2]),
            opened=opened,
            temperature_noise_k=noise[0] * self.habits.sensor_noise_k,
            power_noise=noise[1] * self.habits.meter_noise,
        )

    def _open_door(self, opened: Flags, device: int, chances: Floats, draws: Floats) -> None:
        """Mark the steps at which people hold one door open: `opened` is one device's column."""
        opened[: self._open_steps[device]] = True
        end = self._open_steps[device]
        for step in np.flatnonzero(draws[:, 0] < chances * self.habits.door_rate[device]):
            luck, size = float(draws[step, 1]), float(draws[step, 2])
            length_s = 120.0 + 180.0 * size if luck < _LONG_SHARE else 10.0 + 150.0 * size * size * size
            steps = max(1, round(length_s * float(self.habits.door_length[device]) / self._step_s))
            opened[step : step + steps] = True
            end = max(end, int(step) + steps)
        self._open_steps[device] = max(0, end - len(opened))

    def _ambient(self, times: list[float], room_noise: Floats) -> Floats:
        """Add up the room around each fridge, `(ticks, n)`: mean, day, the site's weather and its own."""
        ambient = np.empty_like(room_noise)
        site_noise = _bell(self._site_rng.random((4, len(times))))
        site_pull = min(1.0, self._interval_s / _SITE_MEMORY_S)
        room_pull = min(1.0, self._interval_s / _ROOM_MEMORY_S)
        site_kick_k = _SITE_SPREAD_K * math.sqrt(site_pull * (2.0 - site_pull))
        room_kick_k = _ROOM_SPREAD_K * math.sqrt(room_pull * (2.0 - room_pull))
        for tick, time in enumerate(times):
            self._site_k += site_kick_k * float(site_noise[tick]) - site_pull * self._site_k
            self._room_k += room_kick_k * room_noise[tick] - room_pull * self._room_k
            swing = day_swing(time)
            ambient[tick] = self.habits.ambient_c + self.habits.ambient_swing_k * swing + self._site_k + self._room_k
        return ambient


def day_swing(time: float) -> float:
    """Where the day's warmth stands at `time` (epoch seconds): -1 at 03:00 UTC to 1 at 15:00."""
    # Rounded, because C libraries agree on a sine to fifteen digits but not to the last bit.
    return round(math.sin(2.0 * math.pi * ((time % _DAY_S) - _SUNRISE_TO_MEAN_S) / _DAY_S), 9)


def opening_rate(time: float) -> float:
    """Door openings an hour of an average fridge at `time` (epoch seconds, read as UTC)."""
    weekday = int(time // _DAY_S + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    hour = (time % _DAY_S) / 3600.0
    if not 7 <= hour < 19:
        return _NIGHT_RATE
    rate = _BUSY_RATE if 11 <= hour < 13 or 16 <= hour < 18 else _OPEN_RATE
    return rate * (_SUNDAY if weekday == 6 else _SATURDAY if weekday == 5 else 1.0)


def _bell(uniform: Floats) -> Floats:
    """Four rows of uniform numbers to one of mean 0 and variance 1: near enough to normal for noise."""
    # Written out: a numpy sum may add in another order on another CPU.
    bell: Floats = (uniform[0] + uniform[1] + uniform[2] + uniform[3] - 2.0) * _UNIT_SPREAD
    return bell


def _draw_device(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, float]]:
    """Build and habits of one device."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(rng.random())

    build = {
        "set_point_c": between(3.0, 5.0),
        "hysteresis_k": between(1.2, 2.0),
        "min_off_s": between(180.0, 300.0),
        "leak_w_per_k": between(2.2, 3.6),
        "door_w_per_k": between(12.0, 22.0),
        "air_j_per_k": between(10e3, 16e3),
        "content_j_per_k": between(70e3, 130e3),
        "content_w_per_k": between(8.0, 12.0),
        "coil_j_per_k": between(2e3, 3.5e3),
        "coil_w_per_k": between(10.0, 15.0),
        "probe_lag_s": between(60.0, 150.0),
        "compressor_w": between(85.0, 150.0),
        "efficiency": between(1.4, 1.8),
        "standby_w": between(6.0, 12.0),
        "heater_w": between(140.0, 220.0),
        "defrost_every_s": between(7.5, 8.5) * 3600.0,
        "defrost_s": between(12.0, 20.0) * 60.0,
        "drip_s": between(120.0, 240.0),
    }
    build["defrost_phase_s"] = build["defrost_every_s"] * float(rng.random())
    habits = {
        "ambient_c": between(20.0, 23.0),
        "ambient_swing_k": between(2.0, 3.5),
        "door_rate": between(0.5, 1.6),
        "door_length": between(0.7, 1.4),
        "sensor_offset_k": between(-0.3, 0.3),
        "sensor_noise_k": between(0.02, 0.06),
        "meter_noise": between(0.003, 0.01),
    }
    return build, habits
