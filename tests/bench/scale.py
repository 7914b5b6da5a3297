"""Ten devices and ten thousand at the same rate: what becomes of readings a second, and of memory.

Rules this module keeps: both are driven at one rate, beyond what either takes; a device's own window is taken off its memory.
"""

from bench.models import DEVIATION_5, STEPS
from bench.rig import Figure, Plan, Rig
from bench.throughput import sustain

FEW, MANY = 10, 10_000
_WINDOW_BYTES = 4 * STEPS[DEVIATION_5]
"""Of one device: float32, one feature."""

RATIO = f"readings/s, {MANY} devices / {FEW} devices, {DEVIATION_5}"
BYTES = f"agent rss a device beyond its window, {FEW} -> {MANY} devices"
_READINGS = {FEW: f"agent readings/s, {FEW} devices, {DEVIATION_5}", MANY: f"agent readings/s, {MANY} devices, {DEVIATION_5}"}

FIGURES = (
    Figure(RATIO, "ratio", 0.8, "higher"),
    Figure(BYTES, "KiB", 2.0),
    *(Figure(name, "readings/s", None, "higher") for name in _READINGS.values()),
)


def measure(rig: Rig, plan: Plan) -> None:
    """Few, then many, in rounds."""
    capacities: dict[str, float] = {}
    for _ in range(plan.runs):
        rates, resident = {}, {}
        for devices in (FEW, MANY):
            rig.step(f"agent beyond its capacity, {devices} devices")
            with rig.agent((DEVIATION_5,)) as agent:
                # The capacity with few devices is what both are driven by.
                rates[devices], resident[devices] = sustain(rig, plan, agent, (DEVIATION_5,), capacities, devices)
            rig.samples[_READINGS[devices]].append(rates[devices])
        rig.samples[RATIO].append(rates[MANY] / rates[FEW])
        rig.samples[BYTES].append(((resident[MANY] - resident[FEW]) / (MANY - FEW) - _WINDOW_BYTES) / 1024)
