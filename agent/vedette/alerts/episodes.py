"""Episodes: of each device, from the windows that raise an alert to those that end it.

Rules this module keeps: all times are event time, so that a replay gives the same alerts with the same ids; a device that is well
takes no memory but a bit; every `new` is followed by an `end`, even if its device is forgotten at the cap.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.alerts.alert import Alert, Kind, Origin, Severity, Type
from vedette.config import Alerts
from vedette.contract.devices import PerDevice, Slots

NOTEWORTHY_RISE = 1.1
"""An alert's peak must have risen by a tenth since it was last told for an update."""

DRIFT_SHARE = 0.5
"""An alert that lasts becomes drift if at least this share of its windows was over the threshold: not one that merely never cleared."""


class _Episode(msgspec.Struct):
    """What is remembered of a device that is not well, or was not a moment ago.

    Attributes:
        over: The last windows' verdicts, newest in the lowest bit; so is `cleared`.
    """

    device: str
    over: int = 0
    cleared: int = 0
    peak: float = 0.0
    score: float = 0.0
    time: float = 0.0
    windows: int = 0
    judged: int = 0
    id: str | None = None
    kind: Kind = "anomaly"
    started: float = 0.0
    sent: float = 0.0
    sent_peak: float = 0.0
    severity: Severity = "warning"
    ended: float | None = None
    held: bool = False


class Episodes:
    """Decides which windows begin, go on with and end an alert of their device.

    Args:
        rules: When to raise, update and clear.
        origin: Of the alerts.

    Attributes:
        held: Alerts that were not raised because they were to be held back.
    """

    def __init__(self, rules: Alerts, origin: Origin) -> None:
        self._rules, self._origin = rules, origin
        self._episodes: dict[int, _Episode] = {}
        self._watched = PerDevice(np.array(False))
        self._over_mask = (1 << rules.raise_.n) - 1
        self._clear_mask = (1 << rules.clear.n) - 1
        self._clear_below = rules.clear_below * rules.threshold
        self._critical = rules.critical * rules.threshold
        self.held = 0

    def __len__(self) -> int:
        """Devices that are not well, or were not a moment ago."""
        return len(self._episodes)

    def watched(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Whether a device's next window has to be looked at even if it is ordinary: bool, for each slot."""
        found: npt.NDArray[np.bool_] = self._watched.reach(slots)[slots]
        return found

    def open_alert(self, slot: int) -> str | None:
        """The id of the device's alert, if it has one now."""
        episode = self._episodes.get(slot)
        return episode.id if episode else None

    def open_by_slot(self) -> dict[int, str]:
        """Ids of the alerts that are open now."""
        return {slot: episode.id for slot, episode in self._episodes.items() if episode.id is not None}

    def open_by_kind(self) -> dict[Kind, list[str]]:
        """Ids of the alerts that are open now, by kind."""
        found: dict[Kind, list[str]] = {}
        for episode in self._episodes.values():
            if episode.id is not None:
                found.setdefault(episode.kind, []).append(episode.id)
        return found

    def withheld(self) -> int:
        """How many devices have an alert now that was held back."""
        return sum(episode.held for episode in self._episodes.values())

    def judge(self, slot: int, device: str, time: float, score: float, *, hold: bool = False) -> Iterator[Alert]:
        """Take a window's score into account. Its device must be watched, or the score at or over the threshold.

        Args:
            slot: The device's.
            device: Its name.
            time: Event time of the window's last reading, epoch seconds.
            score: 1.0 where the model has its threshold.
            hold: Whether no alert may begin now.

        Yields:
            The messages that it calls for, mostly none.
        """
        is_over = score >= self._rules.threshold
        episode = self._episodes.get(slot)
        if episode is None:
            if not is_over:
                return
            episode = self._episodes[slot] = _Episode(device)
            self._watched.reach(np.array([slot]))[slot] = True
        episode.score, episode.time = score, time
        episode.over = (episode.over << 1 | is_over) & self._over_mask
        if episode.id is None:
            episode.peak = max(episode.peak, score) if episode.over != is_over else score
            yield from self._raise(episode, hold=hold)
            if episode.id is None and not episode.over and not self._cooling(episode):
                self._drop(slot)
            return
        episode.cleared = (episode.cleared << 1 | (score < self._clear_below)) & self._clear_mask
        episode.windows += is_over
        episode.judged += 1
        episode.peak = max(episode.peak, score)
        if episode.cleared.bit_count() >= self._rules.clear.m:
            yield self._end(episode)
        elif self._is_drift(episode):
            yield self._end(episode)
            episode.windows = episode.judged = int(is_over)
            episode.peak = score
            yield self._begin("drift", episode)
        else:
            yield from self._update(episode)

    def end_all(self) -> Iterator[Alert]:
        """End every alert that is open, the oldest first: another one tells of all of them."""
        for episode in self._episodes.values():
            if episode.id is not None:
                yield self._end(episode)

    def forget(self, slot: int) -> Iterator[Alert]:
        """Forget a device; its alert ends if it has one."""
        episode = self._episodes.get(slot)
        if episode is None:
            return
        if episode.id is not None:
            yield self._end(episode)
        self._drop(slot)

    def move(self, to: Slots) -> None:
        """Devices have other slots: that of slot k is now at `to[k]`."""
        self._watched.move(to)
        self._episodes = {int(to[slot]): episode for slot, episode in self._episodes.items()}

    def saved(self) -> dict[str, Any]:
        """The episodes, the oldest first."""
        return {"episodes": msgspec.msgpack.encode(self._episodes), "held": self.held}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        self._episodes = msgspec.msgpack.decode(saved["episodes"], type=dict[int, _Episode])
        slots = np.array(list(self._episodes), dtype=np.intp)
        self._watched.reach(slots)[:] = False
        self._watched.values[slots] = True
        self.held = saved["held"]

    def _drop(self, slot: int) -> None:
        del self._episodes[slot]
        self._watched.values[slot] = False

    def _raise(self, episode: _Episode, *, hold: bool) -> Iterator[Alert]:
        if episode.over.bit_count() < self._rules.raise_.m or self._cooling(episode):
            return
        if hold:
            self.held += not episode.held
            episode.held = True
            return
        episode.held = False
        episode.windows = episode.judged = episode.over.bit_count()
        yield self._begin("anomaly", episode)

    def _begin(self, kind: Kind, episode: _Episode) -> Alert:
        episode.id = self._origin.identify(episode.device, episode.time, *(["drift"] if kind == "drift" else []))
        episode.kind, episode.started, episode.cleared, episode.ended = kind, episode.time, 0, None
        return self._message("new", episode)

    def _is_drift(self, episode: _Episode) -> bool:
        return (
            episode.kind == "anomaly"
            and episode.time - episode.started >= self._rules.drift_after
            and episode.windows >= DRIFT_SHARE * episode.judged
        )

    def _update(self, episode: _Episode) -> Iterator[Alert]:
        if episode.kind == "drift":
            return  # told once, and over when it is over
        escalated = self._severity(episode) != episode.severity
        risen = episode.peak >= NOTEWORTHY_RISE * episode.sent_peak
        due = episode.time - episode.sent >= self._rules.update
        if escalated or (due and risen):
            yield self._message("update", episode)

    def _end(self, episode: _Episode) -> Alert:
        alert = self._message("end", episode)
        episode.id, episode.over, episode.ended = None, 0, episode.time
        return alert

    def _cooling(self, episode: _Episode) -> bool:
        return episode.ended is not None and 0 <= episode.time - episode.ended < self._rules.cooldown

    def _severity(self, episode: _Episode) -> Severity:
        return "critical" if episode.kind == "anomaly" and episode.peak >= self._critical else "warning"

    def _message(self, type_: Type, episode: _Episode) -> Alert:
        assert episode.id
        episode.severity, episode.sent, episode.sent_peak = self._severity(episode), episode.time, episode.peak
        return self._origin.alert(
            type_,
            episode.kind,
            episode.id,
            episode.device,
            score=episode.score,
            peak=episode.peak,
            started=episode.started,
            time=episode.time,
            severity=episode.severity,
            windows=episode.windows,
        )
