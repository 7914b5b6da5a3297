"""Sparkplug B: births say which metrics there are and by which alias each goes; data uses the aliases; deaths end it.

Rules this module keeps: what is remembered of births is bounded; a message that cannot be understood without a birth that was not heard is
counted, and understood again from the next birth on; the agent never writes to an edge node.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import msgspec

from vedette.contract.errors import ReadingError
from vedette.contract.features import FeatureSpec, Number, Scalar, Value
from vedette.contract.payloads import protobuf
from vedette.contract.payloads.spec import PayloadSpec
from vedette.contract.readings import Decoder, Found, Message, MessageDecoder, Notes, PayloadLimits

MAX_METRICS = 200_000
"""Of all births that are remembered; the edge node that was born longest ago is forgotten first."""

_SEQUENCE = 256
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}  # Int8 to Int64: bits
_INTEGERS = frozenset(range(1, 9))


class _Metric(NamedTuple):
    """`value` is None where it is null or not sent; `kind` is 0 where the message does not say it."""

    name: str | None
    alias: int | None
    time: float | None
    kind: int
    historical: bool
    value: protobuf.Field | None


class _Birth(msgspec.Struct, frozen=True):
    """A device's or edge node's metrics: name and data type of each alias, and data types by name."""

    device: str
    aliases: dict[int, tuple[str, int]]
    kinds: dict[str, int]

    @classmethod
    def of(cls, device: str, metrics: Sequence[_Metric]) -> Self:
        aliases = {m.alias: (m.name, m.kind) for m in metrics if m.alias is not None and m.name}
        return cls(device, aliases, {m.name: m.kind for m in metrics if m.name})

    @property
    def size(self) -> int:
        return 1 + len(self.aliases) + len(self.kinds)


class _Node(msgspec.Struct):
    """An edge node: its births by device (its own under ""), the last sequence number, and the number of its session."""

    births: dict[str, _Birth] = {}
    sequence: int | None = None
    session: int | None = None


class SparkplugDecoder(MessageDecoder):
    """Decodes Sparkplug B. The metrics of one message are one reading, until a metric comes again or a historical one has another time.

    Args:
        payload: The stream's mapping: feature to the name of a metric.
        features: The model's.
        limits: What is refused.
        hears_all: Whether the stream hears all that an edge node sends, so that a missing number is a lost message.

    Raises:
        ValueError: two features have one metric.
    """

    def __init__(self, payload: PayloadSpec, features: FeatureSpec, limits: PayloadLimits, *, hears_all: bool) -> None:
        super().__init__(features, limits, merges=payload.merges, drops_repeats=payload.drops_repeats)
        self._hears_all = hears_all
        self._nodes: dict[tuple[str, str], _Node] = {}
        self._size = 0
        names = [payload.fields.get(feature.name, feature.name) for feature in self._sent]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f'fields: "{twice[0]}" is mapped twice')
        self._index = {name: index for index, name in enumerate(names)}
        self._is_number = [isinstance(feature, Number) for feature in self._sent]

    def take_over(self, other: Decoder) -> None:
        """See Decoder."""
        if isinstance(other, SparkplugDecoder):
            self._nodes, self._size = other._nodes, other._size  # noqa: SLF001 because it is one of us; the other is not used again

    def saved(self) -> dict[str, Any]:
        """The births, those of the edge node that was born longest ago first."""
        return {"nodes": msgspec.msgpack.encode([(*key, node) for key, node in self._nodes.items()])}

    def restore(self, saved: dict[str, Any]) -> None:
        """See Decoder."""
        if "nodes" not in saved:
            return
        nodes = msgspec.msgpack.decode(saved["nodes"], type=list[tuple[str, str, _Node]])
        self._nodes = {(group, edge): node for group, edge, node in nodes}
        self._size = sum(birth.size for node in self._nodes.values() for birth in node.births.values())

    def _read(self, message: Message, device: str, notes: Notes) -> Sequence[Found]:
        group, kind, edge, source = _address(message.topic)
        time, sequence, metrics = _payload(message.payload)
        if len(metrics) > self._limits.max_keys:
            raise ReadingError("keys", f"payload has more than {self._limits.max_keys} metrics")
        node = self._nodes.get((group, edge))
        if kind == "DEATH":
            self._bury(group, edge, source, metrics, notes)
            return []
        if kind == "BIRTH":
            node = self._bear((group, edge), source, _Birth.of(device, metrics), metrics)
        if node and sequence is not None:
            if self._hears_all and node.sequence is not None and sequence != (node.sequence + 1) % _SEQUENCE:
                notes.remarks.append(ReadingError("seq_gap", "messages of an edge node were lost: its sequence numbers have a gap"))
            node.sequence = sequence
        return self._readings(metrics, node.births.get(source) if node else None, time, device, notes)

    def _bear(self, key: tuple[str, str], source: str, birth: _Birth, metrics: Sequence[_Metric]) -> _Node:
        node = self._nodes.pop(key, None) or _Node()
        self._nodes[key] = node  # the latest born is last
        if not source:
            # A new session: whatever was born before is to be born again.
            self._size -= sum(each.size for each in node.births.values())
            node.births.clear()
            node.sequence, node.session = None, _session(metrics)
        elif source in node.births:
            self._size -= node.births[source].size
        node.births[source] = birth
        self._size += birth.size
        while self._size > MAX_METRICS and len(self._nodes) > 1:
            oldest = next(iter(self._nodes))
            self._size -= sum(each.size for each in self._nodes.pop(oldest).births.values())
        return node

    def _bury(self, group: str, edge: str, source: str, metrics: Sequence[_Metric], notes: Notes) -> None:
        node = self._nodes.get((group, edge))
        session = _session(metrics)
        if node is None or (source and source not in node.births):
            raise ReadingError("unknown_death", "the death of what was never born, or is dead already")
        if not source and node.session is not None and session is not None and node.session != session:
            raise ReadingError("unknown_death", "the death of an earlier session of an edge node that lives on")
        gone = [source] if source else list(node.births)
        for name in gone:
            birth = node.births.pop(name)
            self._size -= birth.size
            notes.departed.append(birth.device)
        if not source:
            del self._nodes[group, edge]

    def _readings(self, metrics: Sequence[_Metric], birth: _Birth | None, sent: float | None, device: str, notes: Notes) -> Sequence[Found]:
        found: list[Found] = []
        row: list[Value] = []
        filled: set[int] = set()
        time: float | None = None
        history = False
        unknown = 0
        for metric in metrics:
            name, kind = _named(metric, birth)
            unknown += name is None
            index = self._index.get(name or "")
            if index is None or metric.value is None:
                continue
            try:
                value = _value(metric.value, kind, number=self._is_number[index])
            except ReadingError as error:
                notes.faults.append(error)
                continue
            at = sent if metric.time is None else metric.time
            if filled and (index in filled or metric.historical != history or (history and at != time)):
                found.append(Found(device, time, row))
                filled, time = set(), None
            if not filled:
                row = [math.nan if number else None for number in self._is_number]
            row[index] = value
            filled.add(index)
            history = metric.historical
            time = at if time is None or at is None else max(time, at)
        if filled:
            found.append(Found(device, time, row))
        if unknown:
            notes.faults.insert(0, ReadingError("unknown_alias", "data came under an alias that no birth has named yet"))
        return found

    def unused(self, message: Message) -> list[str]:
        """See Decoder."""
        try:
            group, _, edge, source = _address(message.topic)
            _, _, metrics = _payload(message.payload)
        except ReadingError:
            return []
        node = self._nodes.get((group, edge))
        birth = node.births.get(source) if node else None
        names = dict.fromkeys(_named(metric, birth)[0] for metric in metrics)
        return [name for name in names if name and name not in self._index]


def _address(topic: str) -> tuple[str, str, str, str]:
    """Group, what is said (BIRTH, DATA, DEATH), edge node, and device, empty where the node speaks of itself."""
    levels = topic.split("/", 4)
    if len(levels) < 4 or levels[0] != "spBv1.0":
        raise ReadingError("topic", "the topic is none of Sparkplug B: spBv1.0/GROUP/KIND/EDGE[/DEVICE]")
    kind = levels[2]
    source = levels[4] if len(levels) == 5 else ""
    if kind not in ({"DBIRTH", "DDATA", "DDEATH"} if source else {"NBIRTH", "NDATA", "NDEATH"}):
        raise ReadingError("topic", "the topic is of no birth, data or death")
    return levels[1], kind[1:], levels[3], source


def _payload(payload: bytes) -> tuple[float | None, int | None, list[_Metric]]:
    """Time (epoch seconds), sequence number, and metrics."""
    time = sequence = None
    metrics = []
    for number, wire, integer, data in protobuf.read_fields(payload):
        if number == 1 and wire == protobuf.VARINT:
            time = integer / 1000
        elif number == 2 and wire == protobuf.BYTES:
            metrics.append(_metric(data))
        elif number == 3 and wire == protobuf.VARINT:
            sequence = integer
    return time, sequence, metrics


def _metric(data: bytes) -> _Metric:
    name = alias = time = value = None
    kind = 0
    historical = null = False
    for field in protobuf.read_fields(data):
        number = field.number
        if number == 1 and field.wire == protobuf.BYTES:
            name = _text(field.data)
        elif 10 <= number <= 19:
            value = field
        elif field.wire != protobuf.VARINT:
            continue
        elif number == 2:
            alias = field.integer
        elif number == 3:
            time = field.integer / 1000
        elif number == 4:
            kind = field.integer
        elif number == 5:
            historical = bool(field.integer)
        elif number == 7:
            null = bool(field.integer)
    return _Metric(name, alias, time, kind, historical, None if null else value)


def _named(metric: _Metric, birth: _Birth | None) -> tuple[str | None, int]:
    """A metric's name and data type, as it says itself or its birth did; no name where it has an alias that no birth gave."""
    if metric.name:
        return metric.name, metric.kind or (birth.kinds.get(metric.name, 0) if birth else 0)
    found = birth.aliases.get(metric.alias) if birth and metric.alias is not None else None
    name, kind = found or (None, 0)
    return name, metric.kind or kind


def _session(metrics: Sequence[_Metric]) -> int | None:
    """The number that ties a death to its birth."""
    return next((m.value.integer for m in metrics if m.name == "bdSeq" and m.value is not None), None)


def _value(field: protobuf.Field, kind: int, *, number: bool) -> Scalar:
    """A metric's value by its data type, or, where that is not known, by the field that holds it.

    Raises:
        ReadingError: a feature cannot be of that type.
    """
    value: Scalar | None = None
    if field.number in {10, 11} and field.wire == protobuf.VARINT and (kind in _INTEGERS or not kind):
        value = _integer(field.integer, kind)
    elif field.number == 12 and field.wire == protobuf.FIXED32:
        value = float(struct.unpack("<f", field.data)[0])
    elif field.number == 13 and field.wire == protobuf.FIXED64:
        value = float(struct.unpack("<d", field.data)[0])
    elif field.number == 14 and field.wire == protobuf.VARINT and not number:
        value = bool(field.integer)
    elif field.number == 15 and field.wire == protobuf.BYTES and not number:
        value = _text(field.data)
    if isinstance(value, float) and not math.isfinite(value):
        raise ReadingError("not_finite", "a metric's value is NaN or infinity")
    if value is None:
        raise ReadingError("type", f"a metric's value: expected {'a number' if number else 'text, a number, true or false'}")
    return float(value) if number else value


def _integer(unsigned: int, kind: int) -> int:
    """Signed integers are sent as unsigned ones, in two's complement."""
    bits = _SIGNED.get(kind)
    if bits is None:
        return unsigned
    low = unsigned & ((1 << bits) - 1)
    return low - (1 << bits) if low >> (bits - 1) else low


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ReadingError("encoding", f"payload is not UTF-8: {error.reason}") from error
