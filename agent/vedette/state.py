"""A device's present state as subscribers see it: its latest score and its alert, retained and rate-limited."""

from collections import OrderedDict
from typing import NamedTuple

import msgspec

from vedette.pipeline import Outcome


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON on a device's state topic. `time` is event time, epoch seconds; `alert` is an open alert's id or null."""

    score: float
    time: float
    alert: str | None


class Latest(NamedTuple):
    """A device's latest score; `time` is event time, epoch seconds."""

    stream: str
    device: str
    time: float
    score: float


class StateBoard:
    """Which devices' states are due to be published.

    Args:
        every_s: A device's state is due at most this often, and at once when its alert begins or ends; 0 is never.
        max_devices: Cap on devices whose last time of publishing is kept.
    """

    def __init__(self, every_s: float, max_devices: int) -> None:
        self._every_s, self._max_devices = every_s, max_devices
        self._published: OrderedDict[tuple[str, str], float] = OrderedDict()

    def due(self, outcome: Outcome, now: float) -> list[Latest]:
        """The latest score of each device of a batch whose state should be published now.

        Args:
            outcome: Of the batch.
            now: Monotonic clock, seconds.
        """
        if not self._every_s:
            return []
        changed = {(alert.stream, alert.device) for alert in outcome.alerts if alert.type != "update"}
        due = []
        for stream, devices, times, scores in outcome.scored:
            for device, window in dict(zip(devices, range(len(devices)), strict=True)).items():
                key = stream, device
                last = self._published.get(key)
                if last is None or now - last >= self._every_s or key in changed:
                    self._published[key] = now
                    self._published.move_to_end(key)
                    due.append(Latest(stream, device, float(times[window]), float(scores[window])))
        while len(self._published) > self._max_devices:
            self._published.popitem(last=False)
        return due
