"""A broker for the demo: mosquitto where it is installed, else amqtt, each in a process of its own on a free loopback port."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from vedette.contract.errors import BrokerError

_START_TIMEOUT_S = 20.0
# Debian keeps mosquitto where a plain user's PATH does not look.
_ALSO_IN = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"


class DemoBroker:
    """A broker that lives as long as the `with` block.

    Args:
        folder: For its configuration and what it says.
        name: `mosquitto` or `amqtt`; None takes mosquitto where it is installed.

    Attributes:
        name: Which program it is.
        url: Where it listens.
        protocol: The newest MQTT version that it speaks.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self._port = _free_port()
        self._log = folder / "broker.log"
        self.url = f"mqtt://127.0.0.1:{self._port}"
        mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path=_ALSO_IN)
        self.name = name or ("mosquitto" if mosquitto else "amqtt")
        self.protocol: Literal["5", "3.1.1"] = "5" if self.name == "mosquitto" else "3.1.1"
        if self.name == "mosquitto":
            configuration = folder / "mosquitto.conf"
            configuration.write_text(f"listener {self._port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
            self._command = [mosquitto or "mosquitto", "-c", str(configuration)]
        else:
            self._command = [sys.executable, "-m", __name__, str(self._port)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it listens.

        Raises:
            BrokerError: it does not start.
        """
        try:
            # To a file: nobody reads while the demo plays, and a full pipe would stop the broker.
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=log)
        except OSError as error:
            raise BrokerError(f"the demo's broker, {self.name}, cannot be started: {error.strerror}") from error
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            time.sleep(0.05)
        self._process.kill()
        self._process.wait()
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise BrokerError(f"the demo's broker, {self.name}, does not start: {last[0]}; pip install 'vedette[demo]' or install mosquitto")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it."""
        assert self._process
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _serve_amqtt(port: int) -> None:
    from amqtt.broker import Broker

    configuration = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    await Broker(configuration).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_amqtt(int(sys.argv[1])))
