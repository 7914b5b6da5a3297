"""What the agent says to systemd, and how much memory it holds."""

import logging
import os
import socket
from pathlib import Path

log = logging.getLogger(__name__)


class ServiceManager:
    """systemd's notification socket, where the agent runs under it.

    Args:
        address: Of the socket, from $NOTIFY_SOCKET; None or empty says nothing to nobody.
    """

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    def notify(self, *states: str) -> None:
        """Send states such as `READY=1`; see sd_notify(3)."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto("\n".join(states).encode(), self._address)
        except OSError as error:
            log.warning("systemd cannot be told %s: %s", states[0], error.strerror)


def resident_bytes() -> int:
    """Memory that this process holds, in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
