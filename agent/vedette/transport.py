"""The way to the broker beneath MQTT: TCP or a unix socket, TLS, a WebSocket.

Rules this module keeps: a certificate's issuer, name and time are always checked; what fails says at which step it did; nothing that was
opened for a failed attempt stays open.
"""

import socket
import ssl
from typing import Any, Literal

from vedette.broker import Broker
from vedette.contract.errors import ConfigError
from vedette.websocket import shake_hands

Step = Literal["connect", "tls", "websocket"]


class UnreachedError(OSError):
    """There is no way to the broker. Its `__cause__` is what the system said.

    Attributes:
        step: Which of the steps failed.
    """

    def __init__(self, step: Step, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.step = step
        self.__cause__ = cause


def tls_context(broker: Broker) -> ssl.SSLContext | None:
    """What is trusted, and as whom the agent comes; None for a connection that is not encrypted.

    Raises:
        ConfigError: a file cannot be read, or is not what it should be.
    """
    if not broker.tls:
        return None
    ca_file, cert_file, key_file = (broker.file(key) for key in ("ca_file", "cert_file", "key_file"))
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if cert_file:
            context.load_cert_chain(cert_file, key_file, password=_refuse_to_ask)
    except _EncryptedError:
        raise ConfigError(
            f"broker.key_file: {key_file}: it is encrypted, and at a start nobody is there to type its password: decrypt it"
            " (openssl pkey -in KEY -out NEW), and let only the agent's user read it"
        ) from None
    except (OSError, ValueError) as error:
        files = ", ".join(str(file) for file in (ca_file, cert_file, key_file) if file)
        raise ConfigError(f"broker: certificates cannot be used ({files}): {error}") from error
    return context


def dial(broker: Broker, context: ssl.SSLContext | None, timeout_s: float) -> Any:
    """Go all the way that lies beneath MQTT.

    Args:
        broker: Where.
        context: As `tls_context` gave it.
        timeout_s: For each step.

    Returns:
        What reads and writes like a socket.

    Raises:
        UnreachedError: which step failed.
    """
    step: Step = "connect"
    found: Any = None
    try:
        found = open_socket(broker, timeout_s)
        if context:
            step = "tls"
            found = context.wrap_socket(found, server_hostname=broker.host)
        if broker.is_web:
            step = "websocket"
            found = shake_hands(found, authority(broker), broker.path)
    # A name that cannot be one is a ValueError.
    except (OSError, ValueError) as error:
        if found:
            found.close()
        raise UnreachedError(step, error) from error
    return found


def open_socket(broker: Broker, timeout_s: float) -> socket.socket:
    """The first step alone."""
    if broker.is_unix:
        found = socket.socket(socket.AF_UNIX)
        found.settimeout(timeout_s)
        try:
            found.connect(broker.path)
        except OSError:
            found.close()
            raise
        return found
    found = socket.create_connection((broker.host, broker.port), timeout=timeout_s)
    # Writes are gathered by who sends; the system would hold some back until the broker's late acknowledgement, for 40 ms.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def authority(broker: Broker) -> str:
    """Host and port, as a web server is called."""
    return f"[{broker.host}]:{broker.port}" if ":" in broker.host else f"{broker.host}:{broker.port}"


class _EncryptedError(Exception):
    """A key's password is asked for."""


def _refuse_to_ask() -> str:
    raise _EncryptedError
