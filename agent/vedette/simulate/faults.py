"""Faults that can be put into a simulated fleet: how they are written, how a schedule is drawn.

Physical faults act on the fridge itself; sensor faults only on what it reports, because the thermostat has a
sensor of its own. What each fault does is in `episodes` and `cold_chain`; here is only *which, where and
when*.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args

import msgspec
import numpy as np

from vedette.contract.durations import parse_duration
from vedette.contract.errors import VedetteError

Kind = Literal["door_left_open", "compressor_failure", "sensor_stuck", "sensor_drift", "spoofed_readings"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PHYSICAL: Final[frozenset[str]] = frozenset({"door_left_open", "compressor_failure"})

# A fridge is called recovered no later than this after a physical fault; see `fleet.ColdChain`.
RECOVERY_CAP_S: Final = 4 * 3600.0

# Between two planned faults of a device: the longest recovery and two hours of health, so that a detector's
# windows can fill with normal readings and every fault is judged by itself. Before the first: the two hours
# alone.
_HEALTHY_S: Final = 2 * 3600.0
_GAP_S: Final = RECOVERY_CAP_S + _HEALTHY_S

# Shortest and longest planned duration, seconds. Doors are noticed soon; a dead compressor waits for the
# morning. A stuck or drifting sensor needs an hour or more before anybody could know.
_DURATIONS_S: Final[dict[Kind, tuple[float, float]]] = {
    "door_left_open": (30 * 60.0, 2 * 3600.0),
    "compressor_failure": (2 * 3600.0, 6 * 3600.0),
    "sensor_stuck": (90 * 60.0, 6 * 3600.0),
    "sensor_drift": (2 * 3600.0, 5 * 3600.0),
    "spoofed_readings": (30 * 60.0, 3 * 3600.0),
}


class FaultError(VedetteError, ValueError):
    """A fault cannot be put into the simulation as asked. The message quotes it and names the choices."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault of one device, from `start` until just before `end` (epoch seconds, UTC)."""

    kind: Kind
    device: str
    start: float
    end: float


def parse_fault(text: str, *, devices: Sequence[str], start: float) -> Fault:
    """Read a fault written as `KIND:DEVICE:START:DURATION`, such as `door_left_open:fridge-03:2h:45m`.

    Args:
        text: What was written. START counts from the simulation's start.
        devices: Names of the devices that there are.
        start: The simulation's start, epoch seconds.

    Raises:
        FaultError: a part is missing, unknown, or no duration.
    """
    parts = text.split(":")
    if len(parts) != 4:
        raise FaultError(f'fault "{text}": expected KIND:DEVICE:START:DURATION, such as door_left_open:{devices[0]}:2h:45m')
    kind, device, after, lasting = parts
    try:
        known_kind = msgspec.convert(kind, Kind)
    except msgspec.ValidationError:
        raise FaultError(f'fault "{text}": kind: expected one of {", ".join(KINDS)}, got "{kind}"') from None
    if device not in devices:
        raise FaultError(f'fault "{text}": device: expected {name_range(devices)}, got "{device}"')
    try:
        begin = start + parse_duration(after)
    except ValueError as error:
        raise FaultError(f'fault "{text}": start: {error}') from None
    try:
        duration_s = parse_duration(lasting)
    except ValueError as error:
        raise FaultError(f'fault "{text}": duration: {error}') from None
    if duration_s <= 0:
        raise FaultError(f'fault "{text}": duration: expected more than 0, got "{lasting}"')
    return Fault(kind=known_kind, device=device, start=begin, end=begin + duration_s)


def check_faults(faults: Iterable[Fault], *, devices: Sequence[str]) -> list[Fault]:
    """Put faults in order of their start, sure that every device is known and has one fault at a time.

    Raises:
        FaultError: a device is unknown, a fault ends before it starts, or two faults of a device overlap.
    """
    ordered = sorted(faults, key=lambda fault: (fault.start, fault.device))
    last: dict[str, Fault] = {}
    known = set(devices)
    for fault in ordered:
        if fault.device not in known:
            raise FaultError(f'{fault.kind}: device: expected {name_range(devices)}, got "{fault.device}"')
        if not fault.start < fault.end:
            raise FaultError(f"{fault.kind} of {fault.device}: ends at {fault.end:g}, not after {fault.start:g}")
        before = last.get(fault.device)
        if before is not None and fault.start < before.end:
            # Two at once would leave no answer to what a reading's label should be.
            raise FaultError(
                f"{fault.kind} of {fault.device} starts {before.end - fault.start:g} s before its "
                f"{before.kind} is over; give a device one fault at a time"
            )
        last[fault.device] = fault
    return ordered


def plan_faults(
    devices: Sequence[str],
    start: float,
    duration_s: float,
    rng: np.random.Generator,
    per_device_day: float,
) -> list[Fault]:
    """Draw a schedule: kinds and devices dealt evenly, times at random, devices well in between.

    Args:
        devices: Names of the devices.
        start: The simulation's start, epoch seconds.
        duration_s: Its length, seconds.
        rng: Chance.
        per_device_day: Faults wanted per device and day. Where the time does not hold as many, there are
            fewer.

    Returns:
        Faults in order of their start, on whole seconds, none in the first two hours, none past the end.
    """
    wanted = round(per_device_day * len(devices) * duration_s / 86400.0)
    free_s = dict.fromkeys(devices, duration_s - _HEALTHY_S)
    dealt: dict[str, list[tuple[Kind, float]]] = {device: [] for device in devices}
    kinds: list[Kind] = []
    queue: list[str] = []
    for _ in range(wanted):
        if not kinds:
            kinds = [KINDS[int(index)] for index in rng.permutation(len(KINDS))]
        kind = kinds.pop()
        shortest_s, longest_s = _DURATIONS_S[kind]
        lasting_s = float(round(shortest_s + (longest_s - shortest_s) * rng.random()))
        if not queue:
            queue = [devices[int(index)] for index in rng.permutation(len(devices))]
        device = next((name for name in queue if free_s[name] >= lasting_s + _GAP_S), None)
        if device is None:
            # The queue may hold only full devices; look once at all of them before giving up.
            device = max(devices, key=lambda name: free_s[name])
            if free_s[device] < lasting_s + _GAP_S:
                break
        if device in queue:
            queue.remove(device)
        free_s[device] -= lasting_s + _GAP_S
        dealt[device].append((kind, lasting_s))

    faults: list[Fault] = []
    for device, episodes in dealt.items():
        # What is left free is cut at random points: uniform placement without trying again and again.
        cuts = sorted(float(cut) * free_s[device] for cut in rng.random(len(episodes)))
        taken_s = _HEALTHY_S
        for (kind, lasting_s), cut in zip(episodes, cuts, strict=True):
            begin = float(int(start + taken_s + cut))
            faults.append(Fault(kind=kind, device=device, start=begin, end=begin + lasting_s))
            taken_s += lasting_s + _GAP_S
    return check_faults(faults, devices=devices)


def name_range(devices: Sequence[str]) -> str:
    """The names as a person would say them: the first and the last."""
    return devices[0] if len(devices) == 1 else f"{devices[0]} to {devices[-1]}"
