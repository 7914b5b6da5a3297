"""A real mosquitto for tests, on a free loopback port, that stops with the test."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """mosquitto with settings of its own.

    Args:
        folder: For its configuration.
        port: Where it listens.
        settings: Further lines of its configuration.
        first: Lines that come before its first listener.
    """

    def __init__(self, folder: Path, port: int | None = None, settings: str = "allow_anonymous true", first: str = "") -> None:
        self.port = port or free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._file = folder / f"mosquitto-{self.port}.conf"
        self._settings, self._first = settings, first
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        assert MOSQUITTO, "mosquitto is not installed: make test installs it"
        # No limit on what it keeps for a slow subscriber, so that a test that counts messages counts the agent's losses only.
        self._file.write_text(
            f"{self._first}\nlistener {self.port} 127.0.0.1\nmax_queued_messages 0\npersistence false\n{self._settings}\n"
        )
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "mosquitto did not start"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError("mosquitto does not listen")

    def stop(self) -> None:
        """Stop it."""
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        """SIGKILL it: it says no farewell and saves nothing."""
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP it: its connections stand, and it says nothing."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
