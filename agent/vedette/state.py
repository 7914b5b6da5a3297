"""A device's present state as subscribers see it: its latest score and its alert, retained and rate-limited."""

from collections import OrderedDict

import msgspec

from vedette.alerts import Alert
from vedette.pipeline import Score


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON on a device's state topic. `time` is event time, epoch seconds; `alert` is an open alert's id or null."""

    score: float
    time: float
    alert: str | None


class StateBoard:
    """Which devices' states are due to be published.

    Args:
        every_s: A device's state is due at most this often, and at once when its alert begins or ends; 0 is never.
        max_devices: Cap on devices whose last time of publishing is kept.
    """

    def __init__(self, every_s: float, max_devices: int) -> None:
        self._every_s, self._max_devices = every_s, max_devices
        self._published: OrderedDict[tuple[str, str], float] = OrderedDict()

    def due(self, scores: list[Score], alerts: list[Alert], now: float) -> list[Score]:
        """The latest score of each device of a batch whose state should be published now.

        Args:
            scores: Of the batch, in order.
            alerts: Of the batch.
            now: Monotonic clock, seconds.
        """
        if not self._every_s:
            return []
        changed = {(alert.stream, alert.device) for alert in alerts if alert.type != "update"}
        latest = {(score.stream, score.device): score for score in scores}
        due = []
        for key, score in latest.items():
            last = self._published.get(key)
            if key in changed or last is None or now - last >= self._every_s:
                self._published[key] = now
                self._published.move_to_end(key)
                due.append(score)
        while len(self._published) > self._max_devices:
            self._published.popitem(last=False)
        return due
