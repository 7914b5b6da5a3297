"""The physics of a fleet of fridges: heat between room, air, contents and coil, and a thermostat.

Three thermal masses a fridge (air with liner and shelves, contents, coil) and a lagging thermometer,
integrated with explicit Euler. All fridges advance together in arrays; nothing couples one to another.

Rules this module keeps: no chance and no clock (see `surroundings`); only + - * / and comparisons on arrays,
whose results IEEE 754 fixes, so that a seed gives the same readings on any CPU. Transcendental functions
differ between vector units in the last bit, and a thermostat turns such a bit into another minute of cooling.

The figures are those of a 300 to 500 litre commercial upright fridge (85 to 150 W compressor, 2.2 to 3.6 W/K
through walls and glass door), set so that a cycle lasts 20 to 45 minutes and a defrost is a bump of a few
kelvin.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# The longest step with a margin of ten to the fastest exchange (air through an open door, some 200 s).
MAX_STEP_S = 10

_LIGHT_W = 15.0
# What of the defrost heater warms the coil; the rest melts frost and leaves with the water.
_HEATER_TO_COIL = 0.3
# Coil and room at which a compressor gives its rated cooling, and how that changes per kelvin away from it.
_RATED_COIL_C, _RATED_AMBIENT_C = -10.0, 22.0
_COOLING_PER_COIL_K, _COOLING_PER_AMBIENT_K = 0.03, -0.01
_POWER_PER_COIL_K, _POWER_PER_AMBIENT_K = 0.008, 0.008


@dataclass(frozen=True)
class Build:
    """How each fridge is built and set: float64 `(n,)` each."""

    set_point_c: Floats
    hysteresis_k: Floats  # from cut-out to cut-in
    min_off_s: Floats
    leak_w_per_k: Floats
    door_w_per_k: Floats  # through the open door
    air_j_per_k: Floats
    content_j_per_k: Floats
    content_w_per_k: Floats
    coil_j_per_k: Floats
    coil_w_per_k: Floats
    probe_lag_s: Floats
    compressor_w: Floats  # electric
    efficiency: Floats  # heat moved per electric energy
    standby_w: Floats  # fans and controller
    heater_w: Floats
    defrost_every_s: Floats
    defrost_s: Floats  # heater on
    drip_s: Floats  # between heater and compressor, so that water drains before it freezes
    defrost_phase_s: Floats  # until the first one

    @property
    def cut_in_c(self) -> Floats:
        """The temperature at which the thermostat calls for cooling: `(n,)`, deg C."""
        return self.set_point_c + self.hysteresis_k / 2

    @property
    def cut_out_c(self) -> Floats:
        """The temperature at which the thermostat is content: `(n,)`, deg C."""
        return self.set_point_c - self.hysteresis_k / 2


class Fridges:
    """The state of `n` fridges. Physical faults are arrays to be set from outside; they act until set back.

    Attributes:
        air_c: Air, deg C, `(n,)`. The truth, for labels.
        content_c: Contents, deg C, `(n,)`.
        coil_c: Evaporator coil, deg C, `(n,)`.
        probe_c: What a perfect thermometer in the air shows: the air, a minute or two late. `(n,)`.
        energy_j: Electric energy since the start, `(n,)`.
        held_open: Fault: how far the door stands open whatever people do, 0 (not at all) to 1. `(n,)`.
        cooling_share: Fault: cooling that is left, 1 when healthy. `(n,)`.
        draw_share: Fault: electric draw of the compressor that is left, 1 when healthy. `(n,)`.
    """

    def __init__(self, build: Build) -> None:
        count = len(build.set_point_c)
        self._build = build
        self._cut_in_c = build.cut_in_c
        self._cut_out_c = build.cut_out_c
        self._cooling_w = build.compressor_w * build.efficiency
        self.air_c = build.set_point_c.copy()
        self.content_c = build.set_point_c.copy()
        self.coil_c = build.set_point_c - 2.0
        self.probe_c = build.set_point_c.copy()
        self.energy_j = np.zeros(count)
        self.held_open = np.zeros(count)
        self.cooling_share = np.ones(count)
        self.draw_share = np.ones(count)
        self._calling = np.zeros(count, dtype=np.bool_)
        self._off_s = np.zeros(count)
        self._defrost_in_s = build.defrost_phase_s.copy()
        self._defrost_left_s = np.zeros(count)

    def advance(self, step_s: float, ambient_c: Floats, opened: Flags) -> None:
        """Let `step_s` seconds pass, at most `MAX_STEP_S`.

        Args:
            step_s: Seconds.
            ambient_c: The room around each fridge, deg C, `(n,)`.
            opened: Whose door people hold open, `(n,)`.
        """
        build = self._build
        heating = self._control(step_s)

        coil_off_rating_k = np.minimum(self.coil_c - _RATED_COIL_C, 15.0)
        ambient_off_rating_k = ambient_c - _RATED_AMBIENT_C
        cooling_w = np.where(
            self._calling,
            np.maximum(
                self._cooling_w * (1.0 + _COOLING_PER_COIL_K * coil_off_rating_k + _COOLING_PER_AMBIENT_K * ambient_off_rating_k),
                0.0,
            )
            * self.cooling_share,
            0.0,
        )
        motor_w = np.where(
            self._calling,
            build.compressor_w
            * (1.0 + _POWER_PER_COIL_K * coil_off_rating_k + _POWER_PER_AMBIENT_K * ambient_off_rating_k)
            * self.draw_share,
            0.0,
        )
        heater_w = np.where(heating, build.heater_w, 0.0)
        gap = np.maximum(self.held_open, opened)

        # Every flow is taken before any temperature moves: energy then neither appears nor vanishes.
        into_air_w = (build.leak_w_per_k + build.door_w_per_k * gap) * (ambient_c - self.air_c)
        from_content_w = build.content_w_per_k * (self.content_c - self.air_c)
        to_coil_w = build.coil_w_per_k * (self.air_c - self.coil_c)
        self.probe_c += step_s * (self.air_c - self.probe_c) / build.probe_lag_s
        self.air_c += step_s * (into_air_w + from_content_w - to_coil_w) / build.air_j_per_k
        self.content_c -= step_s * from_content_w / build.content_j_per_k
        self.coil_c += step_s * (to_coil_w - cooling_w + _HEATER_TO_COIL * heater_w) / build.coil_j_per_k
        self.energy_j += step_s * (build.standby_w + motor_w + heater_w + np.where(gap > 0.0, _LIGHT_W, 0.0))

    def _control(self, step_s: float) -> Flags:
        """Move thermostat and defrost clock on; whose heater is on, `(n,)`."""
        build = self._build
        self._defrost_in_s -= step_s
        due = self._defrost_in_s <= 0.0
        self._defrost_in_s += np.where(due, build.defrost_every_s, 0.0)
        self._defrost_left_s = np.where(due, build.defrost_s + build.drip_s, self._defrost_left_s - step_s)
        # A stopped compressor rests, for it cannot start against the pressure that it left.
        may_start = (self.probe_c >= self._cut_in_c) & (self._off_s >= build.min_off_s)
        goes_on = self._calling & (self.probe_c > self._cut_out_c)
        self._calling = (may_start | goes_on) & (self._defrost_left_s <= 0.0)
        self._off_s = np.where(self._calling, 0.0, self._off_s + step_s)
        heating: Flags = self._defrost_left_s > build.drip_s
        return heating
