"""Settings that are written as a phrase: `3 of 5`, `10 within 60s`, `500 windows`, `127.0.0.1:9464`."""

import math
import re
from ipaddress import ip_address
from typing import Self

from vedette.contract.durations import Duration


class Rule:
    """`m of n`: at least `m` of a device's last `n` windows."""

    def __init__(self, m: int, n: int) -> None:
        self.m, self.n = m, n

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read `3 of 5`.

        Raises:
            ValueError: it is something else.
        """
        match = re.fullmatch(r"\s*(\d{1,2})\s+of\s+(\d{1,2})\s*", value) if isinstance(value, str) else None
        if not match or not 1 <= int(match[1]) <= int(match[2]) <= 64:
            raise ValueError(f'expected "M of N" with 1 <= M <= N <= 64, such as 3 of 5, got {value!r}')
        return cls(int(match[1]), int(match[2]))

    def __repr__(self) -> str:
        """As it is written."""
        return f"{self.m} of {self.n}"


class Crowd:
    """`N within T`: at least N devices, or `P% within T`: at least that share of a stream's, within a time.

    Attributes:
        count: Devices; None where it is a share.
        share: 0 to 1; None where it is a number.
        within_s: Seconds.
    """

    def __init__(self, count: int | None, share: float | None, within_s: float) -> None:
        self.count, self.share, self.within_s = count, share, within_s

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read `10 within 60s` or `30% within 60s`.

        Raises:
            ValueError: it is something else.
        """
        match = re.fullmatch(r"\s*(\d{1,6})\s*(%?)\s+within\s+(\S.*)", value) if isinstance(value, str) else None
        try:
            if match:
                number, within_s = int(match[1]), Duration.parse(match[3])
                if match[2] and 1 <= number <= 100:
                    return cls(None, number / 100, within_s)
                if not match[2] and number >= 2:
                    return cls(number, None, within_s)
        except ValueError as error:
            raise ValueError(f"expected a number or a share of devices and a duration: {error}") from error
        raise ValueError(f"expected N within T, N at least 2, or P% within T, such as 10 within 60s, got {value!r}")

    def of(self, devices: int, least: int) -> int:
        """How many it takes of so many devices; at least `least` where it is a share."""
        return self.count if self.share is None and self.count else max(least, math.ceil((self.share or 0) * devices))

    def __repr__(self) -> str:
        """As it is written."""
        return f"{self.count} within {self.within_s:g}s" if self.share is None else f"{self.share:.0%} within {self.within_s:g}s"


class TrialLength:
    """How long a new model is tried beside the one that is live: `10m`, `500 windows`, or `off`.

    Attributes:
        seconds: By the clock; None where windows count.
        windows: That the new model has scored; None where the clock counts.
    """

    def __init__(self, seconds: float | None = None, windows: int | None = None) -> None:
        self.seconds, self.windows = seconds, windows

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read what the document holds; YAML takes a bare `off` for false.

        Raises:
            ValueError: it is something else.
        """
        if value is False or value == "off":
            return cls()
        if isinstance(value, str) and (match := re.fullmatch(r"\s*([1-9]\d{0,8})\s+windows\s*", value)):
            return cls(windows=int(match[1]))
        try:
            seconds = Duration.parse(value)
        except ValueError as error:
            raise ValueError(f"expected a duration such as 10m, a number such as 500 windows, or off, got {value!r}") from error
        return cls(seconds=seconds or None)

    def __bool__(self) -> bool:
        """Whether there is a trial at all."""
        return self.seconds is not None or self.windows is not None

    def __repr__(self) -> str:
        """In words."""
        if self.windows is not None:
            return f"{self.windows} windows"
        return "off" if self.seconds is None else f"{self.seconds:g} s" if self.seconds < 60 else f"{self.seconds / 60:g} min"


class Loopback:
    """Where something listens that only this machine may ask: `127.0.0.1:PORT` or `[::1]:PORT`.

    Attributes:
        host: An address.
        port: 1 to 65535.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read `127.0.0.1:9464`.

        Raises:
            ValueError: it is something else, or an address that others can reach.
        """
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([\d.]+)):(\d{1,5})", value, re.ASCII) if isinstance(value, str) else None
        try:
            if match and ip_address(match[1] or match[2]).is_loopback and 1 <= int(match[3]) <= 65535:
                return cls(match[1] or match[2], int(match[3]))
        except ValueError:
            pass  # no address: as below
        raise ValueError(f"expected 127.0.0.1:PORT or [::1]:PORT, since only this machine may ask, got {value!r}")

    def __repr__(self) -> str:
        """As it is written."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
