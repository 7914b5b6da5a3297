"""A second look at a broker that let nobody in: what is it that answers there, and what certificate does it show?

Rules this module keeps: no look takes longer than `LOOK_S` a step; nothing secret is sent; what a look cannot tell is None, never an error.
"""

import contextlib
import ssl
from typing import Any, Literal, NamedTuple

from vedette.broker import Broker
from vedette.transport import authority, dial, open_socket
from vedette.websocket import upgrade_request

LOOK_S = 2.0

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which Python has no name."""

# CONNECT with a clean session, a keepalive of 5 s and no client id.
_KNOCKS: dict[Any, bytes] = {
    "3.1.1": b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00",
    5: b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x05\x00\x00\x00",
}


class Certificate(NamedTuple):
    """What a broker shows."""

    names: tuple[str, ...]
    issuer: str
    not_before: float
    not_after: float


def certificate_of(broker: Broker) -> Certificate | None:
    """The certificate that a broker shows, trusted or not."""
    with contextlib.suppress(OSError, ValueError):
        der = _show(broker, _trusting_all())
        if isinstance(der, bytes):
            # Python tells what is in a certificate only where that is trusted: so trust this very one.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(cadata=der)
            context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME | ssl.VERIFY_X509_PARTIAL_CHAIN)
            return _read(_show(broker, context, binary=False))
    return None


def what_answers(broker: Broker, context: ssl.SSLContext | None) -> Literal["tls", "websocket", "http", "3.1.1"] | ssl.SSLError | None:
    """What it is that closes a connection, or keeps it, without a word of MQTT.

    Args:
        broker: As configured; the way to it can be gone.
        context: As the client has it.

    Returns:
        TLS on a port that was taken for a plain one; MQTT behind a WebSocket; a web server; a broker that knows MQTT 3.1.1 and not the 5
        that is configured; or how it ends TLS once that stands.
    """
    if context:
        ended = _end_of_tls(broker, context)
        if ended:
            return ended
    elif not broker.is_unix and _speaks_tls(broker):
        return "tls"
    if not broker.is_web:
        answer = _ask(broker, context, upgrade_request(authority(broker), "/mqtt", b"AAAAAAAAAAAAAAAAAAAAAA=="))
        if answer.startswith(b"HTTP/"):
            return "websocket" if answer.startswith(b"HTTP/1.1 101") else "http"
    if broker.protocol == 5 and not _is_let_in(broker, context, 5) and _is_let_in(broker, context, "3.1.1"):
        return "3.1.1"
    return None


def _is_let_in(broker: Broker, context: ssl.SSLContext | None, protocol: object) -> bool:
    """Whether a broker answers to a version of MQTT, with whatever it says: that is a CONNACK, and none that knows no such version."""
    answer = _ask(broker, context, _KNOCKS[protocol])
    return answer[:1] == b"\x20" and answer[3:4] not in {b"\x01", b"\x84"}


def _ask(broker: Broker, context: ssl.SSLContext | None, question: bytes) -> bytes:
    try:
        with contextlib.closing(dial(broker, context, LOOK_S)) as way:
            way.settimeout(LOOK_S)
            way.send(question)
            answer: bytes = way.recv(64)
            return answer
    except OSError:
        return b""


def _speaks_tls(broker: Broker) -> bool:
    try:
        _show(broker, _trusting_all())
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    return True


def _end_of_tls(broker: Broker, context: ssl.SSLContext) -> ssl.SSLError | None:
    """What a broker says that does not like the client: with TLS 1.3 it comes once the client takes the connection for made."""
    with contextlib.suppress(OSError), contextlib.closing(open_socket(broker, LOOK_S)) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=broker.host) as way:
                way.settimeout(LOOK_S / 2)
                way.recv(1)
        except ssl.SSLError as error:
            return error if "ALERT" in (error.reason or "") else None
    return None


def _trusting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _show(broker: Broker, context: ssl.SSLContext, *, binary: bool = True) -> Any:
    with open_socket(broker, LOOK_S) as plain, context.wrap_socket(plain, server_hostname=broker.host) as way:
        return way.getpeercert(binary)


def _read(facts: dict[str, Any]) -> Certificate:
    subject, issuer = (dict(pair for part in facts.get(key, ()) for pair in part) for key in ("subject", "issuer"))
    names = [value for _, value in facts.get("subjectAltName", ())] or [subject.get("commonName", "nobody")]
    return Certificate(
        names=tuple(names),
        issuer=issuer.get("commonName") or issuer.get("organizationName") or "nobody who is named",
        not_before=ssl.cert_time_to_seconds(facts["notBefore"]),
        not_after=ssl.cert_time_to_seconds(facts["notAfter"]),
    )
