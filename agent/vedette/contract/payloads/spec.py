"""How a stream's payloads hold readings, as configured, and the presets.

Rules this module keeps: what contradicts itself is an error before the first message; a preset is a set of defaults, and whatever is
written beside it goes before it.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from vedette.contract.durations import Duration

Unit = Literal["s", "ms", "us", "iso"]


class TimeField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a payload says when it was measured.

    Attributes:
        field: A dotted path.
        unit: Of the number since 1970; `iso` is RFC 3339 text with an offset.
    """

    field: str
    unit: Unit = "s"


class Preset(NamedTuple):
    """What is usual with a well-known publisher.

    Attributes:
        topic: Of a stream that gives none.
        others: Regular expression of what is not telemetry among what follows a topic's fixed levels.
    """

    topic: str
    others: str


PRESETS = {
    "zigbee2mqtt": Preset("zigbee2mqtt/{device:#}", r"bridge(/.*)?|.+/(availability|[sg]et(/.*)?)"),
    "tasmota": Preset("tele/{device}/+", r".*/(?!(SENSOR|STATE)$)[^/]*"),
}


class PayloadSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r"""How a stream's payloads hold readings.

    Attributes:
        format: What a message is: JSON, a SenML pack, Sparkplug B, or one bare value.
        preset: `zigbee2mqtt` and `tasmota` publish JSON of which a message may hold a part only, and null for what is not known.
        time: None takes the time of arrival, or the format's own.
        fields: Feature name to where it is found: a dotted path in JSON (`temp.c`, `sensors[0].temp`; `\.` is a dot in a key), the
            name's end in SenML, a metric in Sparkplug, the topic's `{field}` for bare values. A feature that is not named is found
            under its own name.
        readings: JSON: path of an array with an object for each reading; `.` where the payload is the array.
        columns: JSON: path of an object whose mapped fields are arrays, the n-th elements of which are one reading; `.` for the payload.
        every: The readings of one message are this far apart, the last one at the payload's time.
        merge: A message may lack values that hold on from those before.
        repeats: Whether a reading that says once more what its device's newest one said, at the very same time, is dropped: QoS 1 means at
            least once, and after a fault devices and brokers send again. `keep` is for event logs whose coarse times may hold several equal
            events. Where the time is that of arrival nothing is a repeat.
    """

    format: Literal["json", "senml", "sparkplug", "value"] = "json"
    preset: Literal["zigbee2mqtt", "tasmota"] | None = None
    time: TimeField | None = None
    fields: Mapping[str, str] = {}
    readings: str | None = None
    columns: str | None = None
    every: Duration | None = None
    merge: bool = False
    repeats: Literal["drop", "keep"] = "drop"

    def __post_init__(self) -> None:
        if self.format != "json":
            for name in ("preset", "time", "readings", "columns", "every"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: goes with JSON, not with format {self.format}")
        if self.readings is not None and self.columns is not None:
            raise ValueError("columns: goes without readings: give the one that fits")
        if self.every is not None and self.readings is None and self.columns is None:
            raise ValueError("every: goes with readings or columns, where one message holds several readings")
        if self.every is not None and self.every <= 0:
            raise ValueError("every: expected more than 0 s")
        if "" in (self.readings, self.columns):
            raise ValueError(f"{'readings' if self.readings == '' else 'columns'}: expected a path, or . for the payload itself")

    @property
    def merges(self) -> bool:
        """Whether a device's last known values hold on where a message lacks them."""
        return self.merge or self.preset is not None or self.format in {"sparkplug", "value"}

    @property
    def drops_repeats(self) -> bool:
        """Whether repeats are dropped: that is, readings may have a time of their own."""
        return self.repeats == "drop" and (self.time is not None or self.format in {"senml", "sparkplug"})

    @property
    def others(self) -> str | None:
        """See Preset."""
        return PRESETS[self.preset].others if self.preset else None
