"""The client's side of a WebSocket (RFC 6455), beneath MQTT: what is sent goes out in binary frames, and what arrives comes out of them.

paho has one of its own. It asks the system for each part of a frame, holds a whole frame however long a device's message made it, and does
not tell what a web server answered. Rules this module keeps: it holds no more of a frame than was read at once; a byte that breaks the
protocol costs the connection; pings are answered.
"""

import base64
import contextlib
import hashlib
import os
import re
import socket
import ssl
import struct
from typing import Any

_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LONGEST_ANSWER = 16 * 1024
_READ = 16 * 1024

LONGEST_FRAME = 16 * 1024
"""Bytes in one frame that is sent; what is longer goes in several, which MQTT allows."""

_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class HandshakeError(ConnectionError):
    """There is no MQTT behind a WebSocket here.

    Attributes:
        status: What a web server answered, as 404; None where it was none.
    """

    def __init__(self, status: int | None) -> None:
        super().__init__(f"the answer was HTTP {status}" if status else "the answer was not HTTP")
        self.status = status


class WebSocket:
    """A socket's bytes, in frames.

    Args:
        inner: A TCP or TLS socket after the handshake.
        begun: What was read of it already.
    """

    def __init__(self, inner: socket.socket, begun: bytes = b"") -> None:
        self._inner = inner
        self._tls_pending = inner.pending if isinstance(inner, ssl.SSLSocket) else int
        self._head = b""
        self._left = 0  # bytes that are still to come of the present frame
        self._opcode = _BINARY
        self._control = bytearray()
        self._is_over = False
        self._outgoing = bytearray()
        self._framed = 0  # bytes that `send` was given and that are in `_outgoing`
        self._ready = self._unwrap(begun)

    def recv_into(self, room: memoryview) -> int:
        """Read as much as there is room for.

        Raises:
            OSError: nothing has arrived, or the connection is lost.
        """
        found = self._ready[: len(room)]
        self._ready = self._ready[len(found) :]
        while not found and not self._is_over:
            if not (count := self._inner.recv_into(room)):
                return 0
            found = self._unwrap(bytes(room[:count]))
        room[: len(found)] = found
        return len(found)

    def recv(self, size: int) -> bytes:
        """Read at most so many bytes, none at the end; for who reads them one by one."""
        if not self._ready:
            room = memoryview(bytearray(_READ))
            self._ready = bytes(room[: self.recv_into(room)])
        found, self._ready = self._ready[:size], self._ready[size:]
        return found

    def pending(self) -> int:
        """Bytes that are here and that the system will not wake anybody for."""
        return len(self._ready) + self._tls_pending()

    def send(self, data: bytes | bytearray) -> int:
        """Send a frame, and say how much of the data was in it. Where the system does not take all, the same data is to be given again.

        Raises:
            OSError: the system does not take all of it for now, or the connection is lost.
        """
        if not self._framed:
            taken = bytes(data[:LONGEST_FRAME])
            self._outgoing += _frame(_BINARY, taken)
            self._framed = len(taken)
        self._push()
        sent, self._framed = self._framed, 0
        return sent

    def close(self) -> None:
        """Say farewell if that can be said at once, and close."""
        with contextlib.suppress(OSError):
            self._outgoing += _frame(_CLOSE, b"\x03\xe8")
            self._push()
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        """All else is the socket's own."""
        return getattr(self._inner, name)

    def _push(self) -> None:
        while self._outgoing:
            count = self._inner.send(self._outgoing)
            del self._outgoing[:count]

    def _unwrap(self, data: bytes) -> bytes:
        """What is in frames of the data, which may begin and end anywhere."""
        found = bytearray()
        at = 0
        data, self._head = self._head + data, b""
        while at < len(data) and not self._is_over:
            if not self._left:
                if (begin := self._enter(data, at)) is None:
                    self._head = data[at:]
                    break
                at = begin
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if self._opcode < _CLOSE:
                found += part
            else:
                self._control += part
                if not self._left:
                    self._obey()
        return bytes(found)

    def _enter(self, data: bytes, at: int) -> int | None:
        """Read a frame's head; where it ends, or None where it is not whole."""
        if len(data) < at + 2:
            return None
        first, length = data[at], data[at + 1]
        at += 2
        self._opcode = first & 0x0F
        if first & 0x70 or length & 0x80 or self._opcode not in {_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG}:
            raise ConnectionError("what arrived is no WebSocket frame with MQTT in it")
        if self._opcode >= _CLOSE and length > 125:
            raise ConnectionError("a control frame is too long")
        if length > 125:
            size = 2 if length == 126 else 8
            if len(data) < at + size:
                return None
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        self._left = length
        return at

    def _obey(self) -> None:
        """Do what a control frame asks for."""
        if self._opcode == _CLOSE:
            self._is_over = True
        elif self._opcode == _PING:
            self._outgoing += _frame(_PONG, bytes(self._control))
            with contextlib.suppress(*_NOT_NOW):
                self._push()
        self._control.clear()


def shake_hands(inner: socket.socket, host: str, path: str) -> WebSocket:
    """Ask a web server for a WebSocket with MQTT.

    Args:
        inner: Connected, and with a timeout.
        host: As the server is to be called, with its port.
        path: What is asked for.

    Raises:
        HandshakeError: it does not agree.
        OSError: the connection is lost, or time is up.
    """
    key = base64.b64encode(os.urandom(16))
    inner.sendall(upgrade_request(host, path, key))
    answer = bytearray()
    while b"\r\n\r\n" not in answer:
        try:
            part = inner.recv(_READ)
        except ConnectionResetError:
            part = b""
        answer += part
        if not part or len(answer) > _LONGEST_ANSWER or not b"HTTP/1.".startswith(answer[:7]):
            break
    head, _, rest = bytes(answer).partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})\b", head)
    accept = base64.b64encode(hashlib.sha1(key + _SALT).digest())  # noqa: S324 because the protocol says so; it guards nothing
    agreed = re.search(rb"(?im)^sec-websocket-accept:[ \t]*" + re.escape(accept) + rb"[ \t]*\r?$", head)
    if not status or status[1] != b"101" or not agreed:
        raise HandshakeError(int(status[1]) if status else None)
    return WebSocket(inner, rest)


def upgrade_request(host: str, path: str, key: bytes) -> bytes:
    """What a client that wants a WebSocket with MQTT says first."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key.decode()}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _frame(opcode: int, payload: bytes) -> bytes:
    """A whole frame, masked as a client's has to be."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
    mask = os.urandom(4)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return bytes([0x80 | opcode]) + length + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
