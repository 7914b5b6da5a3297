"""One fault while it acts: how hard it strikes, and what it makes of the readings.

How hard is drawn from a generator of the fault's own, so that no fault changes another or a healthy reading.
Sizes are chosen so that hardly any single reading gives a fault away, and yet each shows in an hour or two of
readings.
"""

from typing import Final

import numpy as np

from vedette.simulate.faults import PHYSICAL, RECOVERY_CAP_S, Fault

Values = dict[str, float | str]

# How far a forgotten door stands open: ajar on its seal, to half open. Wide open it would be noticed.
_GAP: Final = (0.35, 1.0)
# Of the failed compressors, those that hum on without cooling (refrigerant lost) rather than stand still.
_HUMMING_SHARE: Final = 0.4
_HUMMING_DRAW: Final = (0.55, 0.8)
_DRIFT_K_PER_H: Final = (1.0, 2.0)
# A forger knows what a fridge looks like, but not this one's mood: level beside the set point, swing, cycle.
_FORGED_OFFSET_K: Final = (0.6, 1.8)
_FORGED_SWING_K: Final = (1.4, 2.4)
_FORGED_CYCLE_S: Final = (25 * 60.0, 40 * 60.0)
_FORGED_DUTY: Final = 0.3
_FORGED_IDLE_W: Final = (6.0, 12.0)
_FORGED_RUNNING_W: Final = (85.0, 150.0)


class Episode:
    """A fault that acts on one device, and after a physical one its recovery.

    Attributes:
        fault: What was asked for.
        gap: How far a forgotten door is open, 0 to 1.
        draw_share: What a failed compressor still draws, as a share of its healthy power.
    """

    def __init__(self, fault: Fault, *, set_point_c: float, rng: np.random.Generator) -> None:
        self.fault = fault
        self._rng = rng
        self.gap = self._between(_GAP)
        hums = float(rng.random()) < _HUMMING_SHARE
        humming_draw = self._between(_HUMMING_DRAW)
        self.draw_share = humming_draw if hums else 0.0
        self._drift_k_per_s = self._sign() * self._between(_DRIFT_K_PER_H) / 3600.0
        self._forged_c = set_point_c + self._sign() * self._between(_FORGED_OFFSET_K)
        self._swing_k = self._between(_FORGED_SWING_K)
        self._cycle_s = self._between(_FORGED_CYCLE_S)
        self._phase = float(rng.random())
        self._idle_w = self._between(_FORGED_IDLE_W)
        self._running_w = self._between(_FORGED_RUNNING_W)
        self._stuck_c: float | None = None

    def over(self, time: float, *, well: bool) -> bool:
        """Whether a reading at `time` needs no label any more, of a fridge that is `well` (cold) or not."""
        if time < self.fault.end:
            return False
        return self.fault.kind not in PHYSICAL or well or time >= self.fault.end + RECOVERY_CAP_S

    def shown(self, time: float, temperature_c: float) -> float:
        """What the sensor reports instead of `temperature_c`."""
        if self.fault.kind == "sensor_drift":
            return temperature_c + self._drift_k_per_s * (time - self.fault.start)
        if self.fault.kind == "sensor_stuck":
            if self._stuck_c is None:
                self._stuck_c = temperature_c
            return self._stuck_c
        return temperature_c

    def forge(self, time: int, interval_s: int) -> tuple[int, Values] | None:
        """Forge what a second publisher sends between the reading at `time` and the next.

        Returns:
            When it is sent and what it claims, or None if nobody forges, or no longer.
        """
        if self.fault.kind != "spoofed_readings":
            return None
        # About half way, as of a publisher with the same interval and a clock of its own.
        after = interval_s * (0.35 + 0.3 * float(self._rng.random()))
        at = time + min(interval_s - 1, max(1, round(after)))
        noise_k, noise_w = self._between((-0.08, 0.08)), self._between((-0.01, 0.01))
        if at >= self.fault.end:
            return None
        place = ((at - self.fault.start) / self._cycle_s + self._phase) % 1.0
        runs = place < _FORGED_DUTY
        # From the top of the swing to the bottom while "running", and back up.
        height = 1.0 - place / _FORGED_DUTY if runs else (place - _FORGED_DUTY) / (1.0 - _FORGED_DUTY)
        power_w = self._running_w if runs else self._idle_w
        return at, {
            "temperature": round(self._forged_c + self._swing_k * (height - 0.5) + noise_k, 2),
            "power": round(power_w * (1.0 + noise_w), 1),
            "door": "closed",
        }

    def _between(self, limits: tuple[float, float]) -> float:
        low, high = limits
        return low + (high - low) * float(self._rng.random())

    def _sign(self) -> float:
        return 1.0 if float(self._rng.random()) < 0.5 else -1.0
