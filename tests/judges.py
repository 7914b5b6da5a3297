"""A judge for tests, fed with readings as a pipeline feeds it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vedette.alerts import Alert, Finding, Judge, Judged, Model
from vedette.config import Alerts
from vedette.contract.devices import Devices
from vedette.contract.features import Number


class Reading(NamedTuple):
    """A reading that completes a window, unless it has no score."""

    device: str
    time: float
    score: float | None = 0.1
    values: tuple[float, ...] = (math.nan, math.nan)
    arrived: float | None = None


class Bench:
    """One stream's judge."""

    def __init__(self, rules: Alerts, most: int = 1000) -> None:
        self.devices = Devices(most)
        spec = (Number(name="temperature", mean=4.0), Number(name="power", mean=80.0))
        self.judge = Judge(rules, "gw", "fridges", Model(name="fridge", version="1.0.0"), self.devices, spec)

    def take(self, readings: Sequence[Reading]) -> list[Finding]:
        """One batch."""
        found: list[Finding] = []
        for part in self.devices.place([r.device for r in readings]):
            some = readings[part.readings]
            arrived = np.array([r.time if r.arrived is None else r.arrived for r in some])
            times = np.array([r.time for r in some])
            raw = np.array([r.values for r in some])
            at = np.array([k for k, r in enumerate(some) if r.score is not None], dtype=np.intp)
            scores = np.array([r.score for r in some if r.score is not None], dtype=np.float32)
            found += self.judge.judge(Judged(part.slots, times, arrived, raw, at, times[at], scores, part.evicted, part.forgotten))
        return found

    def alerts(self, readings: Sequence[Reading]) -> list[Alert]:
        """One batch's alerts."""
        return [finding.alert for finding in self.take(readings)]


def told(alerts: Sequence[Alert]) -> list[tuple[str, str, str, float]]:
    """What and when, of each."""
    return [(alert.type, alert.kind, alert.device, alert.time.timestamp()) for alert in alerts]
