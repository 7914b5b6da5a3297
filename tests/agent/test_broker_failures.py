"""Every way in which a broker cannot be used: what the agent's log and `vedette check` say is which it is, and what to do."""

import contextlib
import http.server
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from agents import vedette, write_config
from authorities import DAY, Authority
from brokers import Mosquitto, free_port
from conftest import REPOSITORY
from listeners import Listeners
from vedette import config
from vedette.broker import Broker
from vedette.commands import check
from vedette.mqtt import Connection
from vedette.transport import UnreachedError, dial, tls_context

Settings = dict[str, Any]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    with Listeners(tmp_path_factory.mktemp("listeners")) as listeners:
        yield listeners


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    """The port of a web server."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


class Server:
    """Takes connections, and does with each what it is told to."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.count = 0
        self._serve = serve
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.count += 1
                threading.Thread(target=self._meet, args=[connection], daemon=True).start()

    def _meet(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(20)
            self._serve(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def knows_3_1_1_only(connection: socket.socket) -> None:
    packet = connection.recv(1000)
    if packet[8:9] == b"\x04":
        connection.sendall(b"\x20\x02\x00\x00")
        connection.recv(1000)


def refuses_subscriptions(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"\x20\x02\x00\x00")
    mid = connection.recv(1000)[2:4]
    connection.sendall(b"\x90\x03" + mid + b"\x80")
    connection.recv(1000)


def has_another_of_that_name(connection: socket.socket) -> None:
    """As brokers of MQTT 5 do; mosquitto 2.0.11 hangs up without a word."""
    connection.recv(1000)
    connection.sendall(b"\x20\x03\x00\x00\x00")
    mid = connection.recv(1000)[2:4]
    connection.sendall(b"\x90\x04" + mid + b"\x00\x01")
    connection.recv(1000)
    connection.sendall(b"\xe0\x01\x8e")


def hangs_up(connection: socket.socket) -> None:
    connection.recv(1000)


def says_nothing(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


def date(shift: timedelta) -> str:
    return f"{datetime.now(UTC) + shift:%Y-%m-%d}"


TODAY = "check this machine's clock, which shows TODAY"

FAILURES: dict[str, tuple[Callable[[Listeners, int], Settings], str]] = {
    "a name that does not resolve": (
        lambda at, web: {"url": "mqtt://nowhere.invalid"},
        "mqtt://nowhere.invalid cannot be reached: the name nowhere.invalid does not resolve (",
    ),
    "a port on which nothing listens": (
        lambda at, web: {"url": f"mqtt://127.0.0.1:{free_port()}"},
        "URL cannot be reached: nothing listens on port PORT there; start the broker, or mend broker.url",
    ),
    "an unknown authority": (
        lambda at, web: {"url": at.url["tls"]},
        "URL has a certificate issued by Plant CA, whom this system does not know; name the certificate of that CA in broker.ca_file",
    ),
    "an authority that is not the given one": (
        lambda at, web: at.settings("tls", ca_file=str(at.stranger[0])),
        "URL has a certificate issued by Plant CA, whom CA_FILE does not know; name the certificate of that CA in broker.ca_file",
    ),
    "an expired certificate": (
        lambda at, web: at.settings("expired"),
        f"URL has a certificate that expired on {date(-3 * DAY)}; renew it on the broker, or {TODAY}",
    ),
    "a certificate of the future": (
        lambda at, web: at.settings("early"),
        f"URL has a certificate that is not valid before {date(3 * DAY)}; {TODAY}",
    ),
    "a certificate for another host": (
        lambda at, web: at.settings("elsewhere"),
        "URL has a certificate for broker.plant, 10.1.2.3, not for localhost; name the broker as the certificate does, or give it another",
    ),
    "no certificate where one is wanted, TLS 1.3": (
        lambda at, web: at.settings("mutual", cert_file=None, key_file=None),
        "URL wants a certificate of the agent's own (certificate required); set broker.cert_file and broker.key_file",
    ),
    "no certificate where one is wanted, TLS 1.2": (
        lambda at, web: at.settings("mutual 1.2", cert_file=None, key_file=None),
        "URL wants a certificate of the agent's own (",
    ),
    "a certificate that the broker does not know": (
        lambda at, web: at.settings("mutual", cert_file=str(at.stranger[0]), key_file=str(at.stranger[1])),
        "URL refuses the agent's own certificate: unknown ca; check that broker.cert_file is in date and issued by the CA that the broker",
    ),
    "TLS to a plain port": (
        lambda at, web: {"url": at.url["plain"].replace("mqtt:", "mqtts:")},
        "URL does not speak TLS on port PORT; name the broker's port for TLS, or say mqtt:// if it has none",
    ),
    "plain MQTT to a port for TLS": (
        lambda at, web: {"url": at.url["tls"].replace("mqtts:", "mqtt:")},
        "URL speaks TLS on port PORT; say mqtts://",
    ),
    "a web server": (
        lambda at, web: {"url": f"mqtt://127.0.0.1:{web}", "keepalive": "5s"},
        "URL is a web server; name the MQTT broker's own port, or say ws:// and a path if it has MQTT behind a WebSocket",
    ),
    "plain MQTT to a WebSocket": (
        lambda at, web: {"url": at.url["ws"].replace("ws:", "mqtt:")},
        "URL speaks WebSocket on port PORT; say ws://, or name the broker's own port",
    ),
    "a WebSocket that is not there": (
        lambda at, web: {"url": f"ws://127.0.0.1:{web}/other"},
        "URL has no MQTT behind a WebSocket at /other (HTTP 404); check the path in broker.url (often /mqtt)",
    ),
    "WebSocket to a plain port": (
        lambda at, web: {"url": at.url["plain"].replace("mqtt:", "ws:")},
        "URL does not speak WebSocket on port PORT; say mqtt:// if that is the broker's own port, or name that for WebSocket",
    ),
    "WebSocket to a port for TLS": (
        lambda at, web: {"url": at.url["wss"].replace("wss:", "ws:")},
        "URL speaks TLS on port PORT; say wss://",
    ),
    "a wrong password": (
        lambda at, web: at.settings("password", username="somebody"),
        "URL refuses the connection: Not authorized; check broker.username, broker.password_file and the broker's access list",
    ),
    "a wrong password, MQTT 3.1.1": (
        lambda at, web: at.settings("password", username="somebody", protocol="3.1.1"),
        "URL refuses the connection: Not authorized; check broker.username, broker.password_file and the broker's access list",
    ),
    "a unix socket that is not there": (
        lambda at, web: {"url": f"unix://{at.folder}/none.sock"},
        "URL cannot be reached: there is no socket PATH; start the broker, or mend broker.url (mosquitto: listener 0 PATH)",
    ),
    "a file that is no unix socket": (
        lambda at, web: {"url": f"unix://{at.password_file}"},
        "URL cannot be reached: nobody listens on the socket PATH; start the broker, or mend broker.url",
    ),
}


def agent_of(folder: Path, broker: Settings) -> config.Config:
    given = {key: value for key, value in broker.items() if value is not None}
    stream = {"name": "fridges", "topic": "plant/{device}", "model": "fridge"}
    return config.load(write_config(folder, "", broker=given, streams=[stream]))


def looked(agent: config.Config) -> check.Finding:
    """The line of `vedette check` about the broker."""
    return check._finding("broker", lambda: check._check_broker(agent))


def expected(line: str, agent: config.Config) -> str:
    broker = agent.broker
    filled = line.replace("URL", broker.url).replace("PORT", str(broker.port)).replace("TODAY", date(0 * DAY))
    return filled.replace("PATH", broker.path or "PATH").replace("CA_FILE", broker.ca_file or "CA_FILE")


def wait_until(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.02)


@contextlib.contextmanager
def connecting(agent: config.Config) -> Iterator[Connection]:
    """The agent's connection, as `vedette run` makes it."""
    connection = Connection(
        agent.broker, "vedette-gw-1", "vedette/gw-1/status", agent.subscriptions, 1000, on_burst=lambda _: True, on_progress=lambda: None
    )
    connection.start()
    try:
        yield connection
    finally:
        connection.stop()


def log_line(agent: config.Config, caplog: pytest.LogCaptureFixture, part: str) -> None:
    """Wait for the agent's log to say it."""
    caplog.set_level(logging.INFO)
    with connecting(agent):
        wait_until(lambda: any(part in message for message in caplog.messages) or len(caplog.messages) > 3)
    assert any(part in message for message in caplog.messages), caplog.messages


def test_the_documentations_table_has_every_failure() -> None:
    page = (REPOSITORY / "docs" / "broker.md").read_text()
    for _, line in FAILURES.values():
        beginning = " ".join(line.split(";")[0].split()[1:5])
        assert f"| `{beginning}" in page, beginning


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_which_it_is_and_what_to_do(
    name: str, tmp_path: Path, at: Listeners, web: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings, line = FAILURES[name]
    agent = agent_of(tmp_path, settings(at, web))
    line = expected(line, agent)
    found = looked(agent)
    assert not found.ok
    assert line in found.detail
    log_line(agent, caplog, line)


NO_ANSWER = "URL takes the connection and gives no answer in MQTT; check that the port is an MQTT broker's, that it lets this machine in,"


@pytest.mark.parametrize(
    ("serve", "protocol", "line"),
    [
        (knows_3_1_1_only, 5, "URL speaks MQTT 3.1.1 and not 5; set broker.protocol: 3.1.1"),
        (hangs_up, 5, NO_ANSWER),
        (refuses_subscriptions, "3.1.1", "URL refuses the subscription to plant/+: allow it in the broker's access list"),
    ],
)
def test_what_other_servers_do_is_explained(
    serve: Callable[[socket.socket], None], protocol: Any, line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Server(serve) as server:
        agent = agent_of(tmp_path, {"url": f"mqtt://127.0.0.1:{server.port}", "protocol": protocol})
        line = expected(line, agent)
        assert line in looked(agent).detail
        log_line(agent, caplog, line)


def test_a_server_that_says_nothing_is_left_long_before_a_long_keepalive_is_over(tmp_path: Path) -> None:
    with Server(says_nothing) as server:
        agent = agent_of(tmp_path, {"url": f"mqtt://127.0.0.1:{server.port}", "keepalive": "1h"})
        assert expected(NO_ANSWER, agent) in looked(agent).detail


def test_what_fails_is_said_once_and_looked_into_once_however_often_it_is_tried(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Server(hangs_up) as server:
        agent = agent_of(tmp_path, {"url": f"mqtt://127.0.0.1:{server.port}"})
        with connecting(agent):
            # A look is up to four connections.
            wait_until(lambda: server.count >= 8)
    assert sum("no answer in MQTT" in message for message in caplog.messages) == 1


def test_another_reason_is_said_when_it_comes_and_a_broker_that_is_mended_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Listeners(tmp_path / "listeners") as at:
        agent = agent_of(tmp_path, at.settings("tls"))
        at.broker.stop()
        with connecting(agent) as connection:
            wait_until(lambda: any("nothing listens on port" in message for message in caplog.messages))
            good = at.authority.issue("good", begins=-5 * DAY, ends=-3 * DAY)
            at.broker.start()
            wait_until(lambda: any("expired on" in message for message in caplog.messages))
            at.broker.stop()
            assert at.authority.issue("good") == good
            at.broker.start()
            wait_until(lambda: connection.connected)
    assert f"connected to {at.url['tls']}, subscribed to plant/+" in caplog.messages


def test_two_agents_of_one_name_are_told_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Server(has_another_of_that_name) as server:
        agent = agent_of(tmp_path, {"url": f"mqtt://127.0.0.1:{server.port}"})
        with connecting(agent):
            wait_until(lambda: any(" lost: " in message for message in caplog.messages))
    said = next(message for message in caplog.messages if " lost: " in message)
    assert said == (
        f"connection to {agent.broker.url} lost: Session taken over; another client has the same id: give each agent a gateway name, or a"
        " broker.client_id, of its own"
    )


def test_a_lost_connection_says_how_it_was_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Mosquitto(tmp_path) as broker:
        agent = agent_of(tmp_path, {"url": broker.url, "protocol": "3.1.1"})
        with connecting(agent) as connection:
            wait_until(lambda: connection.connected)
            broker.kill()
            wait_until(lambda: f"connection to {broker.url} lost: the broker hung up" in caplog.messages)


@pytest.mark.skipif(os.geteuid() != 0, reason="because only root can become somebody who may not open the socket")
def test_a_unix_socket_that_may_not_be_opened_names_who_may_not(tmp_path: Path, at: Listeners) -> None:
    agent = agent_of(tmp_path, at.settings("unix"))
    at.socket.chmod(0o600)
    os.seteuid(65534)
    try:
        detail = looked(agent).detail
    finally:
        os.seteuid(0)
        at.socket.chmod(0o777)
    # A folder above it is closed to nobody, too.
    assert f"the user nobody may not write to the socket {at.socket}; add it to the socket's group" in detail


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (OSError(113, "No route to host"), "there is no way to it (No route to host); check this machine's network, and broker.url"),
        (TimeoutError("timed out"), "no answer comes back; check broker.url, and for a firewall on the way"),
    ],
)
def test_an_address_with_no_way_to_it_is_told_from_one_that_refuses(
    problem: OSError, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> socket.socket:
        raise problem

    monkeypatch.setattr(socket, "create_connection", fail)
    found = looked(agent_of(tmp_path, {"url": "mqtt://10.1.2.3"}))
    assert found.detail == f"broker.url: mqtt://10.1.2.3 cannot be reached: {line}"


def test_an_encrypted_key_is_an_error_and_nobody_is_asked_for_its_password(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority", "Plant CA")
    cert, key = authority.issue("gateway", password=b"hunter2")
    settings = {"url": "mqtts://localhost", "cert_file": str(cert), "key_file": str(key)}
    path = write_config(tmp_path, "", broker=settings)
    done = vedette("run", "-c", path)
    assert done.returncode == 1
    agent = config.load(path)
    found = looked(agent)
    assert f"broker.key_file: {key}: it is encrypted, and at a start nobody is there to type its password: decrypt it" in found.detail


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    secret = "${CREDENTIALS_DIRECTORY}/mqtt"
    agent = agent_of(tmp_path, {"url": "mqtt://localhost", "username": "v", "password_file": secret})
    found = looked(agent)
    assert found.detail == (
        f"broker.password_file: {secret}: CREDENTIALS_DIRECTORY is not set in the environment; systemd sets it for a service with"
        " LoadCredential="
    )


def test_no_way_leads_past_a_certificates_name_and_time(at: Listeners) -> None:
    for name in ("expired", "early", "elsewhere"):
        broker = Broker(**at.settings(name))
        with pytest.raises(UnreachedError) as raised:
            dial(broker, tls_context(broker), 5.0)
        assert isinstance(raised.value.__cause__, ssl.SSLCertVerificationError)
    assert "insecure" not in "".join(Broker.__struct_fields__)
