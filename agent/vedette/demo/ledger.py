"""What was done to the fleet, held against what the agent said of it."""

from collections.abc import Sequence

import msgspec

from vedette.alerts import Alert
from vedette.simulate.faults import Fault
from vedette.simulate.fleet import Sample


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one injected fault; `delay_s` is simulated time from its start to its alert, None if there was none."""

    kind: str
    device: str
    start: float
    delay_s: float | None


class Ledger:
    """Matches alerts with faults.

    An alert is the fault's if it began while readings of the device carried the fault's label, or within `grace_s` after, as
    long as a window still holds such readings. Any other is false.

    Args:
        faults: All that will be injected.
        grace_s: A window's length, seconds.
    """

    def __init__(self, faults: Sequence[Fault], grace_s: float) -> None:
        self._faults = list(faults)
        self._grace_s = grace_s
        self._labelled_until = {id(fault): fault.end for fault in faults}
        self._started: list[tuple[str, float]] = []

    def sent(self, sample: Sample) -> None:
        """Take note of a reading's label, which lasts as long as the fridge has not recovered."""
        if sample.fault is None:
            return
        for fault in self._faults:
            if fault.device == sample.device and fault.kind == sample.fault and fault.start <= sample.time:
                self._labelled_until[id(fault)] = max(self._labelled_until[id(fault)], sample.time)

    def alerted(self, alert: Alert) -> None:
        """Take note of an alert."""
        if alert.type == "new":
            self._started.append((alert.device, alert.started.timestamp()))

    def verdicts(self) -> list[Verdict]:
        """Every fault, in order of its start."""
        found = []
        for fault in self._faults:
            times = [t for device, t in self._started if self._belongs(fault, device, t)]
            delay_s = min(times) - fault.start if times else None
            found.append(Verdict(kind=fault.kind, device=fault.device, start=fault.start, delay_s=delay_s))
        return found

    def false_alerts(self) -> int:
        """Alerts that belong to no fault."""
        return sum(not any(self._belongs(fault, device, t) for fault in self._faults) for device, t in self._started)

    def _belongs(self, fault: Fault, device: str, time: float) -> bool:
        return device == fault.device and fault.start <= time <= self._labelled_until[id(fault)] + self._grace_s
