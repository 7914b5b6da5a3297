"""What the agent says to systemd, and how much memory it holds."""

import logging
import math
import os
import socket
from pathlib import Path

log = logging.getLogger(__name__)


class ServiceManager:
    """systemd's notification socket, where the agent runs under it.

    Args:
        address: Of the socket, from $NOTIFY_SOCKET; None or empty says nothing to nobody.
        watchdog_us: It wants to hear within so many microseconds that all is well, from $WATCHDOG_USEC; None or empty is not at all.
    """

    def __init__(self, address: str | None, watchdog_us: str | None = None) -> None:
        self._alive_every_s = int(watchdog_us) / 1e6 / 4 if watchdog_us and watchdog_us.isdecimal() else math.inf
        self._alive_due = 0.0 if math.isfinite(self._alive_every_s) else math.inf
        self._is_deaf = False
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    def alive(self, now: float) -> None:
        """Say that all is well, if it is time to: `now` is the monotonic clock's, seconds."""
        if now >= self._alive_due:
            self._alive_due = now + self._alive_every_s
            self.notify("WATCHDOG=1")

    def notify(self, *states: str) -> None:
        """Send states such as `READY=1`; see sd_notify(3)."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto("\n".join(states).encode(), self._address)
        except OSError as error:
            if not self._is_deaf:
                log.warning("systemd cannot be told %s: %s", states[0], error.strerror)
            self._is_deaf = True
        else:
            self._is_deaf = False


def resident_bytes() -> int:
    """Memory that this process holds, in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
