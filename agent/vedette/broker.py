"""Where the broker is, and with what the agent logs in.

Rules this module keeps: a combination that makes no sense is an error before anything is tried; no secret is read from the configuration
itself; a certificate's name and time cannot be left unchecked.
"""

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from vedette.contract.durations import Duration
from vedette.contract.errors import ConfigError

_LONGEST_SESSION_S = 2**32 - 1
_EXPECTED = "expected mqtt://HOST[:PORT], mqtts://HOST[:PORT], ws://HOST[:PORT][/PATH], wss://HOST[:PORT][/PATH] or unix:///PATH"


class _Scheme(NamedTuple):
    port: int
    tls: bool = False
    path: str = ""


_SCHEMES = {
    "mqtt": _Scheme(1883),
    "mqtts": _Scheme(8883, tls=True),
    # Most brokers want this path; mosquitto takes any.
    "ws": _Scheme(80, path="/mqtt"),
    "wss": _Scheme(443, tls=True, path="/mqtt"),
    # No port; paho wants a number.
    "unix": _Scheme(1),
}


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the broker is and how to log in. In the names of files, `${CREDENTIALS_DIRECTORY}` and the like are filled in.

    Attributes:
        url: `mqtt://HOST[:PORT]`; with TLS, `mqtts://HOST[:PORT]`; through a web server, `ws://HOST[:PORT][/PATH]` and `wss://…`; on this
            machine, `unix:///PATH`.
        username: Without it the agent logs in as nobody.
        password_file: A file that holds the password.
        ca_file: Certificates to trust instead of the system's.
        cert_file: The agent's own certificate, for mutual TLS; with key_file.
        key_file: Its private key, not encrypted.
        protocol: MQTT version. 3.1.1 for a broker that does not know 5; alerts are no CloudEvents then, and no refusal has a reason.
        client_id: Under which the broker knows the agent; `vedette-GATEWAY` where it is none.
        keepalive: A broker that says nothing for 1.3 times as long is left. Shorter notices a dead connection sooner, and costs traffic.
        session_expiry: So long the broker keeps what arrives while the agent is away; with MQTT 3.1.1 the broker decides how long. 0 is not
            at all.
    """

    url: str
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    protocol: Literal[5, "3.1.1"] = 5
    client_id: str | None = None
    keepalive: Duration = Duration(30)
    session_expiry: Duration = Duration(86400)

    def __post_init__(self) -> None:
        _check_url(self.url)
        if not self.tls and (given := [name for name in ("ca_file", "cert_file", "key_file") if getattr(self, name)]):
            raise ValueError(f"{given[0]}: it is for TLS, and {self._parts.scheme}:// has none: say mqtts:// or wss://, or drop it")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together")
        if self.password_file and not self.username:
            raise ValueError("password_file needs username")
        if not 5 <= self.keepalive <= 3600:
            raise ValueError(f"keepalive: expected 5s to 1h, got {self.keepalive:.0f} s")
        if self.session_expiry > _LONGEST_SESSION_S:
            raise ValueError(f"session_expiry: expected at most 136 years, got {self.session_expiry:.0f} s")

    @property
    def host(self) -> str:
        """Name or address; of a unix socket, this machine's."""
        return self._parts.hostname or "localhost"

    @property
    def port(self) -> int:
        """As in the URL, or the scheme's own."""
        return self._parts.port or self._scheme.port

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._scheme.tls

    @property
    def path(self) -> str:
        """Of the unix socket, or what is asked of the web server; empty for neither."""
        return self._parts.path if self._parts.path not in {"", "/"} or not self._scheme.path else self._scheme.path

    @property
    def is_unix(self) -> bool:
        """Whether it is a socket on this machine's disk."""
        return self._parts.scheme == "unix"

    @property
    def is_web(self) -> bool:
        """Whether MQTT goes through a web server."""
        return bool(self._scheme.path)

    def file(self, key: Literal["password_file", "ca_file", "cert_file", "key_file"]) -> Path | None:
        """Where a configured file is, with variables filled in; None where none is configured.

        Raises:
            ConfigError: a variable in its name is not set.
        """
        given: str | None = getattr(self, key)
        if given is None:
            return None
        found = os.path.expandvars(given)
        if missing := re.search(r"\$(?:\{(\w+)\}|(\w+))", found):
            name = missing[1] or missing[2]
            hint = "; systemd sets it for a service with LoadCredential=" if name == "CREDENTIALS_DIRECTORY" else ""
            raise ConfigError(f"broker.{key}: {given}: {name} is not set in the environment{hint}")
        return Path(found)

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def _scheme(self) -> _Scheme:
        return _SCHEMES[self._parts.scheme]


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    return re.sub(r"//[^@/]*@", "//…@", url)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme and (parts.password is not None or parts.username is not None):
        raise ValueError("url: must not hold a user or password; use username and password_file")
    wrong = f'url: {_EXPECTED}, got "{without_password(url)}"'
    if not scheme or parts.query or parts.fragment or not (parts.hostname or parts.scheme == "unix"):
        raise ValueError(wrong)
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/") or parts.path.endswith("/"):
            raise ValueError(f'url: expected the absolute path of a socket, as in unix:///run/mosquitto/mosquitto.sock, got "{url}"')
    elif parts.path and not scheme.path:
        raise ValueError(wrong)
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("url: holds a blank or a control character")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"url: {error}") from error
