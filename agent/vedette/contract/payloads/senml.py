"""SenML (RFC 8428) in its JSON form.

Rules this module keeps: names, times and values are resolved as section 4.6 of the RFC says, so that a pack means the same whether it uses
base fields or not; a pack that does not hold to the RFC is refused whole, because a record without its base fields would be another's.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vedette.contract.errors import ReadingError
from vedette.contract.features import FeatureSpec, Number, Value
from vedette.contract.payloads.json_fields import decode_strictly
from vedette.contract.payloads.json_shape import check_shape
from vedette.contract.payloads.spec import PayloadSpec
from vedette.contract.readings import Found, Message, MessageDecoder, Notes, PayloadLimits

VERSION = 10
"""The RFC's; a pack with a later one may mean something else."""

RELATIVE = 2.0**28
"""A smaller time, in seconds, is relative to now (section 4.5.3)."""

SUM = ".sum"
"""Goes after a record's name to name its sum."""

_SEPARATORS = (":", "/", ";")
_MAX_NAMES = 100_000


class _Record(msgspec.Struct, gc=False):
    bn: str | None = None
    bt: float | None = None
    bv: float | None = None
    bs: float | None = None
    bver: int | None = None
    n: str = ""
    t: float = 0.0
    v: float | None = None
    vs: str | None = None
    vb: bool | None = None
    vd: str | None = None
    s: float | None = None


class SenmlDecoder(MessageDecoder):
    """Decodes SenML packs; a reading is what the records of one device and time hold.

    A record's name ends with what `fields` says of a feature, after one of `: / ;` or from its beginning. What stands before that names
    the device, unless the topic does.

    Args:
        payload: The stream's mapping: feature to the end of a record's name.
        features: The model's.
        names_device: Whether records name the device.
        limits: What is refused.

    Raises:
        ValueError: two features have one name.
    """

    def __init__(self, payload: PayloadSpec, features: FeatureSpec, limits: PayloadLimits, *, names_device: bool) -> None:
        super().__init__(features, limits, merges=payload.merges, drops_repeats=payload.drops_repeats)
        self._names_device = names_device
        self._ends: dict[str, int] = {}
        for index, feature in enumerate(self._sent):
            end = payload.fields.get(feature.name, feature.name)
            if end in self._ends:
                raise ValueError(f'fields: "{end}" is mapped twice')
            self._ends[end] = index
        self._longest_first = sorted(self._ends, key=len, reverse=True)
        self._is_number = [isinstance(feature, Number) for feature in self._sent]
        self._decode: Callable[[Any], list[_Record]] = msgspec.json.Decoder(list[_Record]).decode
        self._places: dict[str, tuple[str, int] | None] = {}

    def _read(self, message: Message, device: str, notes: Notes) -> Sequence[Found]:
        payload = message.payload
        if payload[:1] and 0x80 <= payload[0] <= 0x9F:
            raise ReadingError("unsupported", "payload looks like SenML in CBOR; send it as JSON")
        check_shape(payload, self._limits)
        records = decode_strictly(self._decode, payload)
        if b'_"' in payload and any(key.endswith("_") for record in decode_strictly(msgspec.json.decode, payload) for key in record):
            raise ReadingError("unsupported", "payload has a field that must be understood and is not (its name ends in _)")
        found: dict[tuple[str, float | None, bool], list[Value]] = {}
        for name, time, dated, value in _resolve(records, message, notes):
            place = self._place(name)
            if place is None:
                continue
            whose, index = (place[0] if self._names_device else device), place[1]
            if isinstance(value, float) != self._is_number[index]:
                wanted = "a number" if self._is_number[index] else "text, true or false"
                notes.faults.append(ReadingError("type", f"a record's value: expected {wanted}"))
                continue
            row = found.setdefault((whose, time, dated), [math.nan if number else None for number in self._is_number])
            row[index] = value
        return [Found(whose, time, row, dated) for (whose, time, dated), row in found.items()]

    def _place(self, name: str) -> tuple[str, int] | None:
        """The device that a record's name begins with, and the feature that it ends with."""
        if name not in self._places:
            if len(self._places) >= _MAX_NAMES:
                self._places.clear()
            self._places[name] = self._find_place(name)
        return self._places[name]

    def _find_place(self, name: str) -> tuple[str, int] | None:
        for end in self._longest_first:
            before = name.removesuffix(end)
            if not name.endswith(end) or (end and before and not end.startswith((*_SEPARATORS, "_")) and not before.endswith(_SEPARATORS)):
                continue
            return before.rstrip("".join(_SEPARATORS)), self._ends[end]
        return None

    def unused(self, message: Message) -> list[str]:
        """See Decoder."""
        try:
            names = [name for name, _, _, _ in _resolve(decode_strictly(self._decode, message.payload), message, Notes())]
        except ReadingError:
            return []
        return [name for name in dict.fromkeys(names) if self._place(name) is None]


def _resolve(records: Sequence[_Record], message: Message, notes: Notes) -> list[tuple[str, float | None, bool, Value]]:
    """Names, times (epoch seconds; None where it is the arrival), whether they are its own, and values, and sums as values of their own,
    without base fields.

    Raises:
        ReadingError: the pack is of a later version.
    """
    base_name, base_time, base_value, base_sum = "", 0.0, 0.0, 0.0
    resolved: list[tuple[str, float | None, bool, Value]] = []
    for record in records:
        if record.bver is not None and record.bver > VERSION:
            raise ReadingError("unsupported", f"payload is SenML of a later version than {VERSION}")
        base_name = base_name if record.bn is None else record.bn
        base_time = base_time if record.bt is None else record.bt
        base_value = base_value if record.bv is None else record.bv
        base_sum = base_sum if record.bs is None else record.bs
        name, stated = base_name + record.n, base_time + record.t
        # Of a retained message, now was nobody knows when.
        dated = stated >= RELATIVE
        time = stated if dated else None if stated == 0 or message.retained else message.arrived + stated
        if time is not None and not math.isfinite(time):
            notes.faults.append(ReadingError("time", "a record's time counts from its arrival, which is not known"))
            continue
        if record.v is not None:
            resolved.append((name, time, dated, base_value + record.v))
        elif record.vs is not None or record.vb is not None:
            resolved.append((name, time, dated, record.vs if record.vs is not None else record.vb))
        if record.s is not None:
            resolved.append((name + SUM, time, dated, base_sum + record.s))
    return resolved
