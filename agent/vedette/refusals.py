"""Why a broker cannot be used, and what to do: one place for the agent's log, `vedette check` and whatever visits a broker once.

Rules this module keeps: each line goes on from the broker's URL, says what is wrong and then, behind a semicolon, what to do; it is the
same at each attempt that fails in the same way; what is not known is not guessed at. docs/broker.md has the table.
"""

import errno
import os
import pwd
import socket
import ssl
import time

from vedette.broker import Broker
from vedette.diagnosis import Certificate, certificate_of, what_answers
from vedette.transport import UnreachedError
from vedette.websocket import HandshakeError

_ADVICE = {
    "Unsupported protocol version": "set broker.protocol: 3.1.1",
    "Not authorized": "check broker.username, broker.password_file and the broker's access list",
    "Bad user name or password": "check broker.username and broker.password_file",
    "Bad authentication method": "check broker.username and broker.password_file",
    "Client identifier not valid": "set broker.client_id to one that the broker takes",
    "Session taken over": "another client has the same id: give each agent a gateway name, or a broker.client_id, of its own",
    "Banned": "ask who runs the broker",
    "Packet too large": "raise the broker's limit for messages",
    "Quota exceeded": "raise the broker's quota, or wait until it is free again",
    "Retain not supported": "allow retained messages on the broker",
}

_EXPIRED, _NOT_YET = 10, 9
_UNKNOWN_ISSUER, _SELF_SIGNED = {2, 19, 20, 21}, {18}
_WRONG_HOST = {62, 64}
"""OpenSSL's X509_V_ERR_…"""

_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "BAD_RECORD_TYPE"}
"""What OpenSSL says of an answer that is no TLS, from one of its versions to the next."""

_OTHER_VERSION = {"UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW"}
_WRONG_VERSION = "speaks a version of TLS that is too old or too new for this machine; let the broker speak TLS 1.2 or 1.3"


def explain_code(reason: str) -> str:
    """What to do about the name of a reason code, in words."""
    return f"{reason}; {_ADVICE[reason]}" if reason in _ADVICE else reason


def explain_failure(broker: Broker, error: OSError | None, context: ssl.SSLContext | None) -> str:
    """Why there is no connection to a broker. May take a second look at it, for some seconds.

    Args:
        broker: As configured.
        error: What the way to it, or the system, said; None for an end without a word.
        context: As the client has it.
    """
    if not isinstance(error, UnreachedError):
        return _explain_silence(broker, error, context)
    cause = error.__cause__
    if error.step == "connect":
        return f"cannot be reached: {_explain_connect(broker, cause)}"
    if error.step == "tls":
        return _explain_tls(broker, cause)
    return _explain_web(broker, cause, context)


def _explain_connect(broker: Broker, cause: BaseException | None) -> str:
    if broker.is_unix:
        return _explain_unix(broker, cause)
    if isinstance(cause, socket.gaierror | UnicodeError):
        return f"the name {broker.host} does not resolve ({_words(cause)}); check broker.url, and this machine's DNS"
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens on port {broker.port} there; start the broker, or mend broker.url"
    if isinstance(cause, TimeoutError):
        return "no answer comes back; check broker.url, and for a firewall on the way"
    if isinstance(cause, OSError) and cause.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}:
        return f"there is no way to it ({_words(cause)}); check this machine's network, and broker.url"
    return f"{_words(cause)}; check broker.url, and this machine's network"


def _explain_unix(broker: Broker, cause: BaseException | None) -> str:
    if isinstance(cause, FileNotFoundError):
        return f"there is no socket {broker.path}; start the broker, or mend broker.url (mosquitto: listener 0 {broker.path})"
    if isinstance(cause, PermissionError):
        return f"the user {_user()} may not write to the socket {broker.path}; add it to the socket's group"
    if isinstance(cause, ConnectionRefusedError):
        return f"nobody listens on the socket {broker.path}; start the broker, or mend broker.url"
    return f"{_words(cause)}; check broker.url"


def _explain_tls(broker: Broker, cause: BaseException | None) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _explain_certificate(broker, cause)
    if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
        return _explain_alert(broker, cause)
    reason = (cause.reason or "") if isinstance(cause, ssl.SSLError) else ""
    if reason in _OTHER_VERSION:
        return _WRONG_VERSION
    plain = "ws" if broker.is_web else "mqtt"
    if isinstance(cause, TimeoutError | ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError) or reason in _NO_TLS:
        return f"does not speak TLS on port {broker.port}; name the broker's port for TLS, or say {plain}:// if it has none"
    return f"fails in TLS: {_words(cause)}; check the broker's certificate and its log"


def _explain_certificate(broker: Broker, cause: ssl.SSLCertVerificationError) -> str:
    shown = certificate_of(broker)
    code = cause.verify_code
    if code in _SELF_SIGNED:
        return "has signed its certificate itself, and it is not known here; name that certificate in broker.ca_file"
    if code in _UNKNOWN_ISSUER:
        issuer = f"by {shown.issuer}, " if shown else "by a CA "
        trusted = f"{broker.ca_file} does not know" if broker.ca_file else "this system does not know"
        return f"has a certificate issued {issuer}whom {trusted}; name the certificate of that CA in broker.ca_file"
    if code in _WRONG_HOST:
        names = ", ".join(shown.names) if shown else "another name"
        return f"has a certificate for {names}, not for {broker.host}; name the broker as the certificate does, or give it another one"
    if code in {_EXPIRED, _NOT_YET}:
        return f"{_explain_time(shown, is_over=code == _EXPIRED)} this machine's clock, which shows {_day(time.time())}"
    return f"has a certificate that cannot be trusted: {cause.verify_message}; give the broker another one"


def _explain_time(shown: Certificate | None, *, is_over: bool) -> str:
    """Of a certificate out of its time; the clock that says so is named behind it."""
    if not is_over:
        return f"has a certificate that is not valid{f' before {_day(shown.not_before)}' if shown else ' yet'}; check"
    if shown and shown.not_after > time.time():
        return "has a certificate in date, of which an issuer's own has expired; renew that on the broker, or check"
    return f"has a certificate that expired{f' on {_day(shown.not_after)}' if shown else ''}; renew it on the broker, or check"


def _explain_alert(broker: Broker, cause: ssl.SSLError) -> str:
    """Of a broker that ended TLS, and said so."""
    alert = (cause.reason or "").partition("ALERT_")[2].lower().replace("_", " ")
    if "protocol version" in alert:
        return _WRONG_VERSION
    if not broker.cert_file:
        # Up to TLS 1.2 it is a handshake failure.
        if alert in {"certificate required", "handshake failure", "bad certificate"}:
            return f"wants a certificate of the agent's own ({alert}); set broker.cert_file and broker.key_file"
        return f"ends TLS: {alert}; look into the broker's log"
    return (
        f"refuses the agent's own certificate: {alert}; check that broker.cert_file is in date and issued by the CA that the broker trusts"
        " (mosquitto: its cafile), and look into the broker's log"
    )


def _explain_web(broker: Broker, cause: BaseException | None, context: ssl.SSLContext | None) -> str:
    if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
        return _explain_alert(broker, cause)
    if isinstance(cause, HandshakeError) and cause.status:
        hint = "check the path in broker.url (often /mqtt)" if cause.status in {400, 403, 404, 405, 426} else "look into the server's log"
        if cause.status in {401, 407}:
            hint = "let the web server in front of the broker ask for no login"
        return f"has no MQTT behind a WebSocket at {broker.path} (HTTP {cause.status}); {hint}"
    if found := _explain_answer(broker, what_answers(broker, context)):
        return found
    own = "mqtts" if broker.tls else "mqtt"
    return f"does not speak WebSocket on port {broker.port}; say {own}:// if that is the broker's own port, or name that for WebSocket"


def _explain_silence(broker: Broker, error: OSError | None, context: ssl.SSLContext | None) -> str:
    """Of what took the connection and gave no answer in MQTT."""
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return _explain_alert(broker, error)
    if found := _explain_answer(broker, what_answers(broker, context)):
        return found
    return (
        "takes the connection and gives no answer in MQTT; check that the port is an MQTT broker's, that it lets this machine"
        f" {'and certificate ' if broker.cert_file else ''}in, and its log"
    )


def _explain_answer(broker: Broker, answer: ssl.SSLError | str | None) -> str | None:
    """Of what a second look found."""
    if isinstance(answer, ssl.SSLError):
        return _explain_alert(broker, answer)
    web = "wss" if broker.tls else "ws"
    return {
        "tls": f"speaks TLS on port {broker.port}; say {'wss' if broker.is_web else 'mqtts'}://",
        "websocket": f"speaks WebSocket on port {broker.port}; say {web}://, or name the broker's own port",
        "http": f"is a web server; name the MQTT broker's own port, or say {web}:// and a path if it has MQTT behind a WebSocket",
        "3.1.1": "speaks MQTT 3.1.1 and not 5; set broker.protocol: 3.1.1",
    }.get(answer or "")


def _words(cause: BaseException | None) -> str:
    return getattr(cause, "strerror", None) or str(cause)


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
