"""Faults between agent and broker lose nothing and are got over; what they come to is measured rightly."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.faults import LIMIT_S, endure
from chaos.proxy import End, Proxy
from chaos.scenario import Scenario
from chaos.sites import PROTOCOLS, MqttVersion

KINDS: dict[MqttVersion, list[str]] = {
    5: ["cut with RST", "byte by byte", "half-open"],
    "3.1.1": ["cut with FIN", "stalled for a moment", "suspended agent"],
}


class Deaf:
    """An observer that counts."""

    def __init__(self) -> None:
        self.up = self.down = 0
        self.gone = 0

    def opened(self, connection: int) -> None: ...

    def from_agent(self, connection: int, data: bytes, *, passed_on: bool) -> None:
        self.up += len(data)

    def from_broker(self, connection: int, data: bytes) -> None:
        self.down += len(data)

    def left(self, connection: int) -> None:
        self.gone += 1


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it is sent."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    # Closing alone would leave the thread in accept.
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(echo, Deaf()) as running:
        yield running


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0) as connection:
        connection.sendall(b"hello")
        assert receive(connection, 5) == b"hello"
        yield connection


def receive(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += connection.recv(size - len(found))
    return found


def says_nothing(connection: socket.socket) -> bool:
    connection.settimeout(0.3)
    try:
        return not connection.recv(1) and False
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5.0)


def test_a_reset_and_a_farewell_are_what_they_say(proxy: Proxy, client: socket.socket) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0) as other:
        other.sendall(b"x")
        receive(other, 1)
        proxy.cut(End.RESET)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0) as other:
        other.sendall(b"x")
        receive(other, 1)
        proxy.cut(End.FINISH)
        assert other.recv(1) == b""


@pytest.mark.parametrize("way", ["up", "down", "both"])
def test_a_stall_keeps_everything_and_lets_it_go_later(proxy: Proxy, client: socket.socket, way: str) -> None:
    proxy.stall(way)  # type: ignore[arg-type]  # a parameter of pytest is any text to mypy
    client.sendall(b"later")
    assert says_nothing(client)
    proxy.flow()
    assert receive(client, 5) == b"later"


def test_what_a_half_open_connection_swallowed_never_comes(proxy: Proxy, client: socket.socket) -> None:
    proxy.swallow()
    client.sendall(b"gone")
    assert says_nothing(client)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0) as late:
        late.sendall(b"gone")
        assert says_nothing(late)
        proxy.flow()
        with pytest.raises(ConnectionResetError):
            late.recv(1)


def test_bytes_come_one_by_one_and_in_order(proxy: Proxy, client: socket.socket) -> None:
    proxy.by_bytes()
    sent = bytes(range(256)) * 4
    client.sendall(sent)
    assert receive(client, len(sent)) == sent


def test_a_delay_holds_back_and_keeps_the_order(proxy: Proxy, client: socket.socket) -> None:
    proxy.delay(0.1, 0.1)
    began_s = time.monotonic()
    client.sendall(b"abc")
    client.sendall(b"def")
    assert receive(client, 6) == b"abcdef"
    assert time.monotonic() - began_s >= 0.2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_faults_on_the_way_are_noticed_got_over_and_lose_nothing(protocol: MqttVersion, gateway_python: str, tmp_path: Path) -> None:
    scenario = Scenario(60, seed=7)
    expected = scenario.expect(tmp_path / "undisturbed", gateway_python)
    found = endure(tmp_path / "site", scenario, expected, gateway_python, protocol, KINDS[protocol], seed=7, rate=150.0)
    assert found.verdict.is_clean, "\n".join(found.verdict.words)
    for all_ in found.suffered.values():
        for each in all_:
            assert each.back_s is None or each.back_s <= LIMIT_S
            assert each.noticed_s is None or each.noticed_s <= LIMIT_S
