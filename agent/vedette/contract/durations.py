"""Durations and sizes as people write them: `90`, `45m`, `7d`, `64KiB`."""

import re
from collections.abc import Callable
from typing import Self

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_QUANTITY = re.compile(r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*([A-Za-z]*)\s*", re.ASCII)
"""With so few digits that whatever comes of it is a number of seconds or bytes."""


class Duration(float):
    """A length of time in seconds, at least 0; written `60s` or as a bare number of seconds."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read what a document holds.

        Raises:
            ValueError: it is no duration.
        """
        return cls(_parse(value, parse_duration, "a duration such as 60s"))


class Size(int):
    """A number of bytes; written `64KiB` or as a bare number of bytes."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read what a document holds.

        Raises:
            ValueError: it is no size.
        """
        return cls(_parse(value, parse_size, "a size such as 64KiB"))


def parse_duration(text: str) -> float:
    """Seconds in `text`.

    Raises:
        ValueError: `text` is not a number with one of the units ms, s, m, h, d or none.
    """
    match = _QUANTITY.fullmatch(text)
    if not match or match[2] not in _SECONDS:
        raise ValueError(f'expected a duration such as 90, 60s, 45m or 7d, got "{text}"')
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Bytes in `text`.

    Raises:
        ValueError: `text` is not a whole number of bytes, KiB, MiB or GiB.
    """
    match = _QUANTITY.fullmatch(text)
    if not match or match[2] not in _BYTES:
        raise ValueError(f'expected a size such as 65536, 64KiB or 1MiB, got "{text}"')
    return int(float(match[1]) * _BYTES[match[2]])


def _parse(value: object, parse_text: Callable[[str], float], expected: str) -> float:
    if isinstance(value, str):
        return parse_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
        return value
    raise ValueError(f"expected {expected}, got {value!r}")
