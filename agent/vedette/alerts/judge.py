"""The judge of a stream: which alerts a batch of scored readings calls for.

Rules this module keeps: no I/O and no clock; what is told depends on the readings alone, their event times and times of arrival, never on
where batches end or how often time is said to pass; no Python runs for windows under the threshold of devices that are well, as long as
the stream is.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vedette.alerts.alert import Alert, Kind, Model, Origin
from vedette.alerts.drift import StreamDrift
from vedette.alerts.episodes import Episodes
from vedette.alerts.finding import Finding, Judged, Proposal, Rank
from vedette.alerts.group import Grouping
from vedette.alerts.silence import Silence
from vedette.alerts.stuck import Stuck
from vedette.config import Alerts
from vedette.contract.devices import Devices, Slots
from vedette.contract.features import FeatureSpec
from vedette.contract.saved import fingerprint

Times = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.floating] | Sequence[float]


class Judge:
    """Decides for one stream what is told of its devices.

    Args:
        rules: The stream's.
        gateway: Its name.
        stream: Its name.
        model: The bundle that scores.
        devices: Which device has which slot.
        spec: The features of a reading.

    Attributes:
        devices: As given.
    """

    def __init__(self, rules: Alerts, gateway: str, stream: str, model: Model, devices: Devices, spec: FeatureSpec) -> None:
        self._rules = rules
        self._threshold = rules.threshold
        self.devices = devices
        self._origin = Origin(gateway, stream, model)
        self._episodes = Episodes(rules, self._origin)
        self._names: list[str] = []  # by slot, as they were at the window that is being judged
        self._drift = StreamDrift(rules, self._origin, self._names)
        self._group = Grouping(rules.group, self._origin)
        names = devices.names  # always the same list
        self._silence = Silence(rules.silent, self._origin, names) if rules.silent else None
        self._stuck = Stuck(rules.stuck, rules.stuck_features, spec, self._origin, names) if rules.stuck else None
        self._now = -np.inf

    @property
    def model(self) -> Model:
        """The bundle that scores."""
        return self._origin.model

    def adopt(self, model: Model, spec: FeatureSpec) -> list[Finding]:
        """Let another bundle score from now on: alerts that are open keep their ids; those of sensors end if it looks at others."""
        self._origin.model = model
        findings: list[Finding] = []
        if self._stuck is not None and self._rules.stuck and not self._stuck.adopt(spec):
            for slot in range(len(self.devices.names)):
                findings += self._grouped(self._stuck.forget(slot, self._now))
            self._stuck = Stuck(self._rules.stuck, self._rules.stuck_features, spec, self._origin, self.devices.names)
        return findings

    @property
    def held(self) -> int:
        """Devices' alerts that were not told because the whole stream drifts."""
        return self._episodes.held

    def open_alert(self, device: str) -> str | None:
        """The id of the device's alert, or of the group's that stands for it, if it has one now: an anomaly's rather than another's."""
        if not device:
            return self.open_devices().get("")
        slot = self.devices.slot(device)
        if slot is None:
            return None
        for kind in (self._episodes, self._stuck, self._silence):
            if kind is not None and (found := kind.open_alert(slot)):
                return self._group.open_alert(found)
        return None

    def open_devices(self) -> dict[str, str]:
        """Every device that has an alert now, and its id as `open_alert` has it; an empty device is the stream, for what is about many."""
        found: dict[str, str] = {}
        for kind in (self._silence, self._stuck, self._episodes):
            if kind is not None:
                found.update((self.devices.names[slot], self._group.open_alert(id_)) for slot, id_ in kind.open_by_slot().items())
        if about_many := [id_ for id_ in (self._drift.id, *self._group.open_groups()) if id_ is not None]:
            found[""] = about_many[0]
        return found

    def open_alerts(self) -> int:
        """How many alerts are open now."""
        return len(self.open_ids())

    def open_ids(self) -> set[str]:
        """Ids of the episodes that were told and are not over."""
        kinds = [kind.open_by_slot() for kind in (self._episodes, self._stuck, self._silence) if kind is not None]
        found = {self._group.open_alert(id_) for ids in kinds for id_ in ids.values()}
        return found | ({self._drift.id} if self._drift.id is not None else set())

    def open_kinds(self) -> dict[Kind, int]:
        """How many alerts of each kind are open now; a group's is one."""
        by_kind: list[tuple[Kind, Iterable[str]]] = [*self._episodes.open_by_kind().items()]
        by_kind += [("stuck", self._stuck.open_by_slot().values() if self._stuck else ())]
        by_kind += [("silent", self._silence.open_by_slot().values() if self._silence else ())]
        by_kind += [("drift", [self._drift.id] if self._drift.id is not None else [])]
        found: dict[Kind, set[str]] = {}
        for kind, ids in by_kind:
            found.setdefault(kind, set()).update(map(self._group.open_alert, ids))
        return {kind: len(ids) for kind, ids in found.items() if ids}

    def withholds(self) -> int:
        """How many devices would have an alert now if the stream did not drift."""
        return self._episodes.withheld()

    def judge(self, batch: Judged) -> list[Finding]:
        """Take a batch into account.

        Returns:
            What it calls for, in order.
        """
        if not len(batch.slots):
            return []
        # Without a time of arrival an event time stands for it; no clock that goes back makes anybody silent.
        now = np.maximum.accumulate(np.where(np.isfinite(batch.arrived), batch.arrived, batch.times))
        now = np.maximum(now, self._now)
        self._now = float(now[-1])
        self._names.extend(self.devices.names[len(self._names) :])
        evicted = sorted(
            (int((batch.slots == slot).argmax()), int(slot), name) for slot, name in zip(batch.evicted, batch.forgotten, strict=True)
        )
        proposals = list(self._watch_readings(batch, now, evicted))
        # Equal but for the device are only silences, which are told in the order of when they were due.
        proposals.sort(key=lambda p: (p.position, p.rank, p.finding.at, p.finding.alert.device))
        findings: list[Finding] = []
        for proposal in heapq.merge(proposals, self._judge_windows(batch, now, evicted), key=lambda p: (p.position, p.rank)):
            findings += self._group.take(proposal.finding, self._drift.devices)
        return findings

    def tick(self, now: float) -> list[Finding]:
        """Let time pass, which is how silence is found where nothing arrives.

        Args:
            now: Epoch seconds; everything that arrived up to then was judged.
        """
        return self._grouped(self._silence.look(now)) if self._silence is not None else []

    def pause(self, since: float | None, until: float) -> None:
        """Nothing could be heard from `since`, or from the last message on, to `until`, epoch seconds: that time is nobody's silence."""
        since = self._now if since is None else since
        if self._silence is not None and -np.inf < since < until:
            self._silence.pause(since, until)

    def depart(self, device: str, arrived: float) -> list[Finding]:
        """Take note that a device said it goes: it is silent at once, where silence is told at all, unless it has been before."""
        slot = self.devices.slot(device)
        found = self.tick(arrived)
        return found + self._grouped(self._silence.depart(slot, arrived)) if self._silence is not None and slot is not None else found

    def forget(self, slots: Slots) -> list[Finding]:
        """Forget devices that had to give way to others, where no reading was the reason; alerts of theirs that are open end."""
        findings: list[Finding] = []
        self._names.extend(self.devices.names[len(self._names) :])
        for slot in slots.tolist():
            findings += self._grouped(Finding(self._now, None, alert) for alert in self._evict(slot))
            for kind in (self._stuck, self._silence):
                findings += self._grouped(kind.forget(slot, self._now)) if kind is not None else []
        return findings

    def move(self, to: Slots) -> None:
        """Devices have other slots: that of slot k is now at `to[k]`."""
        self._names[:] = self.devices.names
        for kind in (self._episodes, self._drift, self._stuck, self._silence):
            if kind is not None:
                kind.move(to)

    def fit(self) -> str:
        """What is saved goes with a judge of the same: rules, sensors that may be stuck, and what ids are made of."""
        looks_at = self._stuck.looks_at if self._stuck is not None else []
        return fingerprint(self._rules, looks_at, self._origin.gateway, self._origin.stream)

    def saved(self) -> dict[str, Any]:
        """What every kind of alert remembers; the devices are saved by themselves."""
        return {
            "now": self._now,
            "episodes": self._episodes.saved(),
            "drift": self._drift.saved(),
            "group": self._group.saved(),
            "silence": self._silence.saved() if self._silence is not None else None,
            "stuck": self._stuck.saved() if self._stuck is not None else None,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved, of a judge of the same fit; the devices were restored before."""
        self._now = saved["now"]
        self._names[:] = self.devices.names
        self._episodes.restore(saved["episodes"])
        self._drift.restore(saved["drift"])
        self._group.restore(saved["group"])
        if self._silence is not None:
            self._silence.restore(saved["silence"])
        if self._stuck is not None:
            self._stuck.restore(saved["stuck"])

    def _grouped(self, found: Iterator[Finding]) -> list[Finding]:
        return [finding for each in found for finding in self._group.take(each, self._drift.devices)]

    def _watch_readings(self, batch: Judged, now: Times, evicted: list[tuple[int, int, str]]) -> Iterator[Proposal]:
        """What the readings themselves call for, in no order."""
        for position, slot, name in evicted:
            if self._silence is not None:
                yield from self._silence.evict(slot, name, position, now)
            if self._stuck is not None:
                yield from (Proposal(position, Rank.EVICTED, finding) for finding in self._stuck.forget(slot, float(now[position])))
        if self._silence is not None:
            yield from self._silence.hear(batch.slots, now)
        if self._stuck is not None:
            yield from self._stuck.look(batch.slots, batch.times, batch.raw, now)

    def _judge_windows(self, batch: Judged, now: Times, evicted: list[tuple[int, int, str]]) -> Iterator[Proposal]:
        """What the windows call for, and the end of what was open of devices that were evicted, in order."""
        slots = batch.slots[batch.positions]
        arrived = now[batch.positions]
        scores = batch.scores.astype(np.float64)
        over = scores >= self._threshold
        needed = over | self._episodes.watched(slots) | self._drift.unheard(slots, arrived)
        if len(evicted):
            needed |= np.isin(slots, batch.evicted)
        if needed.any():
            # Of a device that becomes watched within the batch, all windows that follow are looked at.
            needed |= np.isin(slots, slots[over])
        self._drift.hear(slots[~needed], arrived[~needed])
        gone = iter([*evicted, (len(now), -1, "")])
        until, slot, _ = next(gone)
        for window in self._course(needed):
            position = int(batch.positions[window])
            while until <= position:
                yield from self._evicted(slot, until, float(now[until]))
                until, slot, _ = next(gone)
            time, at, is_over = float(batch.window_times[window]), float(arrived[window]), bool(over[window])
            for alert in self._judge_window(int(slots[window]), at, time, float(scores[window]), is_over=is_over):
                yield Proposal(position, Rank.WINDOW, Finding(at, window, alert))
        while until < len(now):
            yield from self._evicted(slot, until, float(now[until]))
            until, slot, _ = next(gone)

    def _evicted(self, slot: int, position: int, at: float) -> Iterator[Proposal]:
        for alert in self._evict(slot):
            yield Proposal(position, Rank.EVICTED, Finding(at, None, alert))

    def _evict(self, slot: int) -> Iterator[Alert]:
        """Another device has the slot."""
        yield from self._episodes.forget(slot)
        self._drift.forget(np.array([slot]))
        self._names[slot] = self.devices.names[slot]

    def _course(self, needed: npt.NDArray[np.bool_]) -> Iterator[int]:
        """The windows to look at, in order: those needed, and, from where the stream is not calm on, all."""
        following = 0
        for window in needed.nonzero()[0].tolist() if self._drift.calm else ():
            yield window
            following = window + 1
            if not self._drift.calm:
                break
        if not self._drift.calm:
            yield from range(following, len(needed))

    def _judge_window(self, slot: int, at: float, time: float, score: float, *, is_over: bool) -> Iterator[Alert]:
        told = self._drift.take(slot, at, time, is_over=is_over)
        if told:
            yield told
            if told.type == "new":
                yield from self._episodes.end_all()
        yield from self._episodes.judge(slot, self._names[slot], time, score, hold=self._drift.holds)


class ScoreJudge:
    """Judges scores alone, of history: of every device by itself, as a Judge does, but neither silence, stuck sensors nor what many
    devices do at once.

    Args:
        rules: When to raise, update and clear.
        model: The bundle that scores.
        most: Cap on devices.
        gateway: Stands in the alerts.
        stream: Stands in the alerts.
    """

    def __init__(self, rules: Alerts, model: Model, most: int = 10_000, gateway: str = "evaluation", stream: str = "evaluation") -> None:
        self._devices = Devices(most)
        self._judge = Judge(rules.of_devices, gateway, stream, model, self._devices, ())

    def judge(self, devices: Sequence[str], times: Numbers, scores: Numbers) -> list[Alert]:
        """Take the scores of n windows into account, in order; times are event times, epoch seconds."""
        of, found_scores = np.asarray(times, dtype=np.float64), np.asarray(scores, dtype=np.float32)
        alerts: list[Alert] = []
        for part in self._devices.place(devices):
            at, count = of[part.readings], len(part.slots)
            arrived, raw = np.full(count, np.inf), np.zeros((count, 0))
            batch = Judged(part.slots, at, arrived, raw, np.arange(count), at, found_scores[part.readings], part.evicted, part.forgotten)
            alerts += [finding.alert for finding in self._judge.judge(batch)]
        return alerts

    def open_alert(self, device: str) -> str | None:
        """The id of the device's alert, if it has one now."""
        return self._judge.open_alert(device)

    def open_alerts(self) -> int:
        """How many devices have an alert now."""
        return self._judge.open_alerts()
