"""Protocol Buffers' wire format, as much of it as Sparkplug needs: fields by number, without a schema or a library.

Rules this module keeps: nothing is read beyond the end; what is not well-formed raises ReadingError.
"""

from collections.abc import Iterator
from typing import NamedTuple

from vedette.contract.errors import ReadingError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: In the schema.
        wire: How it was written: VARINT, FIXED64, BYTES or FIXED32.
        integer: A VARINT's value, unsigned; else 0.
        data: The bytes of the others; empty for a VARINT.
    """

    number: int
    wire: int
    integer: int
    data: bytes


def read_fields(data: bytes) -> Iterator[Field]:
    """The fields of a message, in order.

    Raises:
        ReadingError: it is cut short, or no such message.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield Field(number, wire, value, b"")
            continue
        if wire == BYTES:
            length, at = _varint(data, at)
        elif wire in {FIXED32, FIXED64}:
            length = 4 if wire == FIXED32 else 8
        else:
            raise ReadingError("malformed", "payload is not Protocol Buffers: a field is of no known kind")
        if at + length > end:
            raise ReadingError("malformed", "payload is cut short, or not Protocol Buffers")
        yield Field(number, wire, 0, data[at : at + length])
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for position in range(at, min(at + 10, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + 1
        shift += 7
    raise ReadingError("malformed", "payload is cut short, or not Protocol Buffers")
