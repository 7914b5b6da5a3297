"""The group rule: many devices of a stream at once are one alert.

Nothing is held back: alerts before the one that makes it a group are out already, and end when the group's begins. A group is of one kind,
as its members are; its device is empty, and it says how many devices it is about.

Rules this module keeps: every id that was told `new` is told `end`, once; a device that joined a group is not told by itself until its
episode is over; what is told depends on the alerts alone and their order.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from vedette.alerts.alert import MAX_NAMES, Alert, Kind, Origin, ended
from vedette.alerts.finding import Finding
from vedette.phrases import Crowd

LEAST_DEVICES = 3
"""Of a group whose size is given as a share."""


class _Group:
    """One kind's alerts: those told of late, and the group that is open."""

    def __init__(self) -> None:
        self.recent: OrderedDict[str, float] = OrderedDict()  # devices that an alert was told of, and when
        self.open: dict[str, Alert] = {}  # alerts that were told and are not over, by id
        self.members: dict[str, Alert] = {}  # alerts that the group stands for and that are not over
        self.devices: dict[str, None] = {}  # all that ever joined, in order
        self.joined = 0.0
        self.told: Alert | None = None
        self.told_devices = 0


class Grouping:
    """Makes groups of a stream's alerts.

    Args:
        rule: How many make a group; None leaves every alert as it is.
        origin: Of the groups' alerts.
    """

    def __init__(self, rule: Crowd | None, origin: Origin) -> None:
        self._rule, self._origin = rule, origin
        self._groups: dict[Kind, _Group] = {}

    def open_alert(self, id_: str) -> str:
        """The id under which an alert that is open was told: its own or its group's."""
        for group in self._groups.values():
            if id_ in group.members and group.told:
                return group.told.id
        return id_

    def open_groups(self) -> list[str]:
        """Ids of the groups that are open now."""
        return [group.told.id for group in self._groups.values() if group.told]

    def saved(self) -> dict[str, Any]:
        """Each kind's alerts of late and its group."""
        return {
            kind: {
                "recent": list(group.recent.items()),
                "open": msgspec.msgpack.encode(group.open),
                "members": msgspec.msgpack.encode(group.members),
                "devices": list(group.devices),
                "joined": group.joined,
                "told": msgspec.msgpack.encode(group.told),
                "told_devices": group.told_devices,
            }
            for kind, group in self._groups.items()
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with what was saved."""
        self._groups = {}
        for kind, kept in msgspec.convert(list(saved.items()), list[tuple[Kind, dict[str, Any]]]):
            group = self._groups[kind] = _Group()
            group.recent.update(kept["recent"])
            group.open = msgspec.msgpack.decode(kept["open"], type=dict[str, Alert])
            group.members = msgspec.msgpack.decode(kept["members"], type=dict[str, Alert])
            group.devices = dict.fromkeys(kept["devices"])
            group.joined, group.told_devices = kept["joined"], kept["told_devices"]
            group.told = msgspec.msgpack.decode(kept["told"], type=Alert | None)

    def take(self, finding: Finding, devices: int) -> Iterator[Finding]:
        """Let an alert through, or let a group's stand for it.

        Args:
            finding: An alert about one device, in order.
            devices: How many the stream has.
        """
        alert = finding.alert
        if self._rule is None or not alert.device:
            yield finding
            return
        group = self._groups.setdefault(alert.kind, _Group())
        if alert.type == "new":
            yield from self._begin(group, finding, self._rule.of(devices, LEAST_DEVICES), self._rule.within_s)
        elif alert.id in group.members:
            yield from self._go_on(group, finding)
        else:
            if alert.type == "end":
                group.open.pop(alert.id, None)
            else:
                group.open[alert.id] = alert
            yield finding

    def _begin(self, group: _Group, finding: Finding, needed: int, within_s: float) -> Iterator[Finding]:
        at, alert = finding.at, finding.alert
        while group.recent and at - next(iter(group.recent.values())) > within_s:
            group.recent.popitem(last=False)
        joins = group.told is not None and at - group.joined <= within_s
        if not joins and len(group.recent.keys() | {alert.device}) < needed:
            group.recent[alert.device] = at
            group.recent.move_to_end(alert.device)
            group.open[alert.id] = alert
            yield finding
            return
        # Those that were told one by one are now the group's; a device whose episode is over by now still counts.
        taken = [other for other in group.open.values() if other.device in group.recent]
        group.devices.update(dict.fromkeys([*group.recent, alert.device]))
        group.members.update({other.id: other for other in [*taken, alert]})
        group.recent.clear()
        group.joined = at
        yield from self._tell(group, finding)
        for other in taken:
            del group.open[other.id]
            yield Finding(at, finding.window, ended(other, alert.time.timestamp()))

    def _go_on(self, group: _Group, finding: Finding) -> Iterator[Finding]:
        alert = finding.alert
        if alert.type == "update":
            group.members[alert.id] = alert
            yield from self._tell(group, finding)
            return
        del group.members[alert.id]
        if not group.members:
            assert group.told
            told = msgspec.structs.replace(group.told, devices=len(group.devices), peak=max(group.told.peak, alert.peak))
            yield Finding(finding.at, finding.window, ended(told, alert.time.timestamp(), alert.score))
            group.told = None
            group.devices.clear()

    def _tell(self, group: _Group, finding: Finding) -> Iterator[Finding]:
        """Tell of a group that is new, has twice the devices, or is worse."""
        alert, told = finding.alert, group.told
        worse = alert.severity == "critical" or any(member.severity == "critical" for member in group.members.values())
        severity = "critical" if worse or (told and told.severity == "critical") else "warning"
        if told and severity == told.severity and len(group.devices) < 2 * group.told_devices:
            return
        began = alert.time.timestamp()
        group.told = msgspec.structs.replace(
            alert,
            id=told.id if told else self._origin.identify("", began, alert.kind, "group"),
            type="update" if told else "new",
            device="",
            peak=max(member.peak for member in [*group.members.values(), *([told] if told else [])]),
            severity=severity,
            started=told.started if told else alert.time,
            devices=len(group.devices),
            names=_first(group.devices),
        )
        group.told_devices = len(group.devices)
        yield Finding(finding.at, finding.window, group.told)


def _first(devices: Sequence[str] | dict[str, None]) -> tuple[str, ...]:
    return tuple(devices)[:MAX_NAMES]
