"""A socket that takes all that has arrived at once, and sends what was gathered: paho would ask the system for every byte.

Rules this module keeps: nothing that was read is lost, and nothing waits here that nobody will be woken for.
"""

import contextlib
import ssl
from collections.abc import Callable
from typing import Any

READ_AHEAD = 64 * 1024
MOST_UNSENT = 256 * 1024
"""Bytes that wait for the system to take them; beyond it paho keeps what it has."""


class ReadAhead:
    """A socket of which paho is given one packet at a time, and which sends on `flush` what it was given.

    Args:
        inner: Connected; a socket, or what reads and writes like one.

    Attributes:
        sent: Bytes that the system took so far.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._pending: Callable[[], int] | None = getattr(inner, "pending", None)
        self._room = memoryview(bytearray(READ_AHEAD))
        self._read = self._offered = b""
        self._is_over = False
        self._unsent = bytearray()
        self.sent = 0

    def fill(self) -> bytes:
        """All that has arrived and that nobody has had yet; `keep` gives back what is no whole packet.

        Raises:
            OSError: nothing has arrived, or the connection is lost.
        """
        # Into one buffer: of a fresh one for each burst the heap would keep the pieces that are cut off.
        count = self._inner.recv_into(self._room)
        self._is_over = not count
        # TLS gives one record at a time, and a broker sends one for each message: read one by one they would be taken one by one.
        while self._pending and not self._is_over and count < READ_AHEAD:
            try:
                more = self._inner.recv_into(self._room[count:])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            self._is_over = not more
            count += more
        return self._read + bytes(self._room[:count])

    def keep(self, rest: bytes) -> None:
        """The beginning of a packet."""
        self._read = rest

    @property
    def is_over(self) -> bool:
        """Whether the other side has hung up."""
        return self._is_over

    @property
    def holds_more(self) -> bool:
        """Whether bytes are here that the system will not wake anybody for."""
        return self._pending is not None and self._pending() > 0

    def hang_up(self) -> None:
        """Give paho nothing any more: that is how it learns that a connection is gone."""
        self._is_over, self._offered = True, b""

    def offer(self, packet: bytes) -> None:
        """What paho reads next."""
        self._offered = packet

    def recv(self, size: int) -> bytes:
        """For paho: at most so many bytes of what it is offered."""
        if not self._offered and not self._is_over:
            raise BlockingIOError
        found, self._offered = self._offered[:size], self._offered[size:]
        return found

    def send(self, data: bytes) -> int:
        """Keep for `flush`.

        Raises:
            BlockingIOError: too much is kept already.
        """
        if len(self._unsent) > MOST_UNSENT:
            raise BlockingIOError
        self._unsent += data
        return len(data)

    def answer(self, data: bytes | bytearray) -> None:
        """Keep for `flush`, however much is kept: what is answered is bounded by what the other side sends before it reads."""
        self._unsent += data

    def flush(self) -> bool:
        """Send as much as the system takes.

        Returns:
            Whether that was all.

        Raises:
            OSError: the connection is lost.
        """
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self._unsent:
                count = self._inner.send(self._unsent)
                del self._unsent[:count]
                self.sent += count
        return not self._unsent

    def close(self) -> None:
        """Send what can be sent, and close."""
        with contextlib.suppress(OSError):
            self.flush()
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        """All else is the socket's own."""
        return getattr(self._inner, name)
