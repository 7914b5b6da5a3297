"""Readings: one device's values at one event time, decoded from what arrived. What holds for every payload format is here.

Rules this module keeps: no clock is read (`arrived` is an argument); a time or a name that cannot be believed is refused; a decoder
never raises for what somebody sent: it counts it.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from vedette.contract.errors import ReadingError
from vedette.contract.features import DayOfWeek, Elapsed, Feature, FeatureSpec, TimeOfDay, Value

MAX_FUTURE_S = 600.0
"""A device's clock may run ahead of the gateway's by this much; beyond it the reading's time is not believed."""

MAX_TIME = 253_402_300_799.0
"""The last second of the year 9999, beyond which no date has a name: what lies there was measured in another unit."""

MAX_DEVICE_BYTES = 128

MAX_READINGS = 10_000
"""Of one message."""


class Message(NamedTuple):
    """What a broker delivered or a recording held.

    Attributes:
        arrived: Epoch seconds; infinity for a table's row, which has no arrival.
        retained: The broker kept it from before the agent subscribed, so when it arrived says nothing about when it was measured.
    """

    topic: str
    payload: bytes
    arrived: float
    retained: bool = False


class Reading(NamedTuple):
    """One device's values at one event time (epoch seconds), in the order of the FeatureSpec."""

    device: str
    time: float
    values: tuple[Value, ...]


class Departure(NamedTuple):
    """A device said that it is gone.

    Attributes:
        arrived: When that arrived, epoch seconds.
        behind: Readings of the batch that came before.
    """

    device: str
    arrived: float
    behind: int


class Readings:
    """What a batch of messages of one stream held, column by column: the n-th entries of the lists belong together.

    Attributes:
        devices: Names.
        times: Event times, epoch seconds.
        arrived: When each one's message arrived, epoch seconds; infinity for a table's row.
        undated: Which readings have no time of their own, where the decoder drops repeats.
        values: In the order of the FeatureSpec; NaN or None where nothing was sent.
        messages: Which of the batch's messages each is of.
        several: Whether a message holds more than one.
        accepted: Messages that gave at least one reading, or said that a device is gone.
        rejected: Messages refused whole, by reason: what was received is `accepted` and the sum of these.
        partial: What else was wrong, by reason: single readings or values that were refused within accepted messages, and what was
            noticed to be missing (`seq_gap`).
        departed: Devices that said they are gone.
        explained: For each reason, the first refusal of this batch in words, without anything that a device sent.
    """

    __slots__ = (
        "accepted", "arrived", "departed", "devices", "explained", "messages", "partial", "rejected", "several", "times",
        "undated", "values",
    )  # fmt: skip

    def __init__(self) -> None:
        self.devices: list[str] = []
        self.times: list[float] = []
        self.arrived: list[float] = []
        self.undated: list[int] = []
        self.values: list[Sequence[Value]] = []
        self.messages: list[int] = []
        self.several = False
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.partial: Counter[str] = Counter()
        self.departed: list[Departure] = []
        self.explained: dict[str, str] = {}

    def __len__(self) -> int:
        """Readings."""
        return len(self.times)

    def refuse(self, error: ReadingError) -> None:
        """Count a message that is refused whole."""
        self.rejected[error.reason] += 1
        self.explained.setdefault(error.reason, str(error))

    def note(self, error: ReadingError) -> None:
        """Count what is wrong otherwise."""
        self.partial[error.reason] += 1
        self.explained.setdefault(error.reason, str(error))


class Decoder(Protocol):
    """Takes a stream's payloads apart for one model.

    Attributes:
        merges: Readings may lack values that the device sent before: its last known ones hold on.
        drops_repeats: A reading that a device sends again is to be dropped, unless it is `undated`.
    """

    merges: bool
    drops_repeats: bool

    def decode_batch(self, messages: Sequence[Message], devices: Sequence[str]) -> Readings:
        """Decode a batch; what comes of a message does not depend on where batches end.

        Args:
            messages: In the order of arrival.
            devices: What each message's topic names, empty where it names none.
        """

    def take_over(self, other: "Decoder") -> None:
        """Know what another decoder of the same stream has learnt from messages so far (Sparkplug: births)."""

    def saved(self) -> dict[str, Any]:
        """What was learnt from messages so far."""

    def restore(self, saved: dict[str, Any]) -> None:
        """Know what was saved, maybe by a decoder of another format."""

    def unused(self, message: Message) -> list[str]:
        """Names of what a payload holds and no feature uses; for people, not for every message."""


class PayloadLimits(NamedTuple):
    """What a decoder refuses.

    Attributes:
        max_bytes: A longer payload.
        max_keys: A JSON payload with more keys, in all its objects together; a Sparkplug message with more metrics.
        max_depth: A JSON payload nested deeper.
        max_gap_s: A retained message's own time may be this old; an older one belongs to no window.
    """

    max_bytes: int = 64 * 1024
    max_gap_s: float = math.inf
    max_keys: int = 10_000
    max_depth: int = 32


class Found(NamedTuple):
    """A reading as a payload holds it, before it is checked.

    Attributes:
        time: Its own, epoch seconds; None takes the time of arrival.
        values: Of the features that payloads hold, in the spec's order.
        dated: Whether the time is its own at all, or counts from the arrival.
    """

    device: str
    time: float | None
    values: Sequence[Value]
    dated: bool = True


class Notes:
    """What else a message said: `faults` of single readings, devices that have `departed`, and `remarks` that refuse nothing."""

    def __init__(self) -> None:
        self.faults: list[ReadingError] = []
        self.remarks: list[ReadingError] = []
        self.departed: list[str] = []


class MessageDecoder(ABC):
    """A decoder that goes message by message, and keeps the rules that hold for every format.

    Args:
        features: The model's.
        limits: What is refused.
        merges: See Decoder.
        drops_repeats: See Decoder.
        time: What holds the time, and its unit, for errors.
    """

    def __init__(
        self,
        features: FeatureSpec,
        limits: PayloadLimits,
        *,
        merges: bool,
        drops_repeats: bool,
        time: tuple[str, str] = ("its time", "s"),
    ) -> None:
        self.merges, self.drops_repeats = merges, drops_repeats
        self._time_words = time
        self._limits = limits
        self._sent = sent_features(features)
        self._clocks = [index for index, feature in enumerate(features) if is_clock(feature)]

    @abstractmethod
    def _read(self, message: Message, device: str, notes: Notes) -> Sequence[Found]:
        """The readings of one payload.

        Raises:
            ReadingError: it is refused whole.
        """

    @abstractmethod
    def unused(self, message: Message) -> list[str]:
        """See Decoder."""

    def take_over(self, other: Decoder) -> None:  # noqa: B027 because most formats remember nothing
        """See Decoder."""

    def saved(self) -> dict[str, Any]:
        """See Decoder."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:  # noqa: B027 because most formats remember nothing
        """See Decoder."""

    def decode_batch(self, messages: Sequence[Message], devices: Sequence[str]) -> Readings:
        """See Decoder."""
        readings = Readings()
        for number, (message, device) in enumerate(zip(messages, devices, strict=True)):
            self._decode_into(readings, number, message, device)
        return readings

    def decode(self, message: Message, device: str) -> Reading:
        """Decode a message that holds one reading.

        Raises:
            ReadingError: with the counter's name in `reason`.
        """
        (found,) = self._read(message, device, Notes())
        time = self._check(found, message)
        return Reading(found.device, time, self._complete(found, time))

    def _decode_into(self, readings: Readings, number: int, message: Message, device: str) -> None:
        notes = Notes()
        try:
            if len(message.payload) > self._limits.max_bytes:
                raise ReadingError("too_long", f"payload is longer than {self._limits.max_bytes} bytes")
            found = self._read(message, device, notes)
            if len(found) > MAX_READINGS:
                raise ReadingError("too_many", f"payload holds more than {MAX_READINGS} readings")
        except ReadingError as error:
            readings.refuse(error)
            return
        kept: list[tuple[float, Found]] = []
        for each in found:
            try:
                kept.append((self._check(each, message), each))
            except ReadingError as error:
                notes.faults.append(error)
        # Whatever the order in which a message lists them: they are all there, and none is late.
        kept.sort(key=operator.itemgetter(0))
        first = len(readings)
        readings.undated += [first + place for place, (_, each) in enumerate(kept) if each.time is None or not each.dated]
        readings.several |= len(kept) > 1
        for time, each in kept:
            readings.devices.append(each.device)
            readings.times.append(time)
            readings.arrived.append(message.arrived)
            readings.messages.append(number)
            readings.values.append(self._complete(each, time))
        for remark in notes.remarks:
            readings.note(remark)
        readings.departed += [Departure(name, message.arrived, len(readings)) for name in notes.departed]
        if kept or notes.departed:
            readings.accepted += 1
            for fault in notes.faults:
                readings.note(fault)
        else:
            readings.refuse(notes.faults[0] if notes.faults else ReadingError("empty", "payload holds no reading"))

    def _check(self, found: Found, message: Message) -> float:
        """A reading's event time.

        Raises:
            ReadingError: it is not to be believed, or there is nothing in it.
        """
        check_device(found.device)
        if message.retained and (found.time is None or found.time < message.arrived - self._limits.max_gap_s):
            why = "has no time of its own" if found.time is None else "is older than a window's longest gap"
            raise ReadingError("retained", f"the broker had kept the message, and it {why}")
        time = message.arrived if found.time is None else check_time(found.time, message.arrived, *self._time_words)
        if self._sent and is_empty(found.values):
            names = ", ".join(feature.name for feature in self._sent[:5])
            raise ReadingError("empty", f"payload holds none of {names}")
        return time

    def _complete(self, found: Found, time: float) -> tuple[Value, ...]:
        """The values with the event time put in for the features that are made of it."""
        if not self._clocks:
            return tuple(found.values)
        values = list(found.values)
        for index in self._clocks:
            values.insert(index, time)
        return tuple(values)


def is_clock(feature: Feature) -> bool:
    """Whether a feature is made of the event time, so that no payload holds it."""
    return isinstance(feature, TimeOfDay | DayOfWeek | Elapsed)


def sent_features(features: FeatureSpec) -> list[Feature]:
    """The features whose values payloads hold."""
    return [feature for feature in features if not is_clock(feature)]


def is_empty(values: Sequence[Value]) -> bool:
    """Whether nothing was sent."""
    return all(value is None or value != value for value in values)


def check_time(time: float, arrived: float, what: str = "its time", unit: str = "s") -> float:
    """Refuse an event time that cannot be believed.

    Args:
        time: Epoch seconds.
        arrived: When its message arrived, epoch seconds.
        what: What holds the time, for the error.
        unit: As configured, for the error.

    Raises:
        ReadingError: it lies before 1970, or ahead of the gateway's clock.
    """
    if not time >= 0:
        raise ReadingError("time", f"{what} is before 1970")
    if time > MAX_TIME:
        raise ReadingError("future", f"{what} is beyond the year 9999; is its unit {unit}?")
    if time > arrived + MAX_FUTURE_S:
        raise ReadingError("future", f"{what} is more than {MAX_FUTURE_S:.0f} s ahead of the gateway's clock")
    return float(time)


def check_device(name: str) -> str:
    """Refuse a name that no device can have.

    Raises:
        ReadingError: it is empty, too long, or holds control characters.
    """
    if not name or not name.isprintable() or len(name.encode("utf-8", "surrogatepass")) > MAX_DEVICE_BYTES:
        raise ReadingError("device", f"a device's name is 1 to {MAX_DEVICE_BYTES} bytes without control characters")
    return name
