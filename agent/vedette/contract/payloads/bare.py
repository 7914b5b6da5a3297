"""Bare values: a payload is one number or text, and its topic says whose and what it is.

Rules this module keeps: a message is one reading, of which all but one value are missing; its time is its arrival.
"""

import math
import re
from collections.abc import Callable, Sequence

from vedette.contract.errors import ReadingError
from vedette.contract.features import FeatureSpec, Number, Value
from vedette.contract.payloads.spec import PayloadSpec
from vedette.contract.readings import Found, Message, MessageDecoder, Notes, PayloadLimits

MAX_TEXT = 256
"""Bytes of a text; a longer one is no category."""

_NOT_FINITE = re.compile(rb"[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


class ValueDecoder(MessageDecoder):
    """Decodes payloads that are one value each.

    Args:
        payload: The stream's mapping: feature to the topic's `{field}`, or to "" where the topic has none.
        features: The model's.
        field_of: What a topic's `{field}` is; None where the stream's topic has none.
        limits: What is refused.

    Raises:
        ValueError: it cannot be told which feature a payload is of.
    """

    def __init__(self, payload: PayloadSpec, features: FeatureSpec, field_of: Callable[[str], str] | None, limits: PayloadLimits) -> None:
        super().__init__(features, limits, merges=payload.merges, drops_repeats=payload.drops_repeats)
        self._field_of = field_of
        self._index: dict[str, int] = {}
        for index, feature in enumerate(self._sent):
            default = feature.name if field_of or len(self._sent) > 1 else ""
            name = payload.fields.get(feature.name, default)
            if name in self._index:
                raise ValueError(f'fields: "{name}" is mapped twice')
            self._index[name] = index
        if not field_of and "" not in self._index:
            raise ValueError('fields: the topic has no {field}: say which feature its values are of, as in fields: {NAME: ""}')
        self._is_number = [isinstance(feature, Number) for feature in self._sent]
        self._absent: list[Value] = [math.nan if number else None for number in self._is_number]

    def _read(self, message: Message, device: str, notes: Notes) -> Sequence[Found]:  # noqa: ARG002 because one value has no faults within
        index = self._index.get(self._field_of(message.topic) if self._field_of else "")
        if index is None:
            raise ReadingError("empty", "no feature has the name of the topic's field")
        values = list(self._absent)
        values[index] = _number(message.payload) if self._is_number[index] else _text(message.payload)
        return [Found(device, None, values)]

    def unused(self, message: Message) -> list[str]:
        """See Decoder."""
        field = self._field_of(message.topic) if self._field_of else ""
        return [] if field in self._index else [field]


def _number(payload: bytes) -> float:
    bare = payload.strip()
    if _NOT_FINITE.fullmatch(bare):
        raise ReadingError("not_finite", "payload is NaN or infinity")
    if not _NUMBER.fullmatch(bare):
        raise ReadingError("type", "payload: expected a bare number")
    if not math.isfinite(value := float(bare)):
        raise ReadingError("not_finite", "payload: the number is out of range")
    return value


def _text(payload: bytes) -> str:
    if not payload.strip() or len(payload) > MAX_TEXT:
        raise ReadingError("type", f"payload: expected a text of 1 to {MAX_TEXT} bytes")
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise ReadingError("encoding", f"payload is not UTF-8: {error.reason}") from error
