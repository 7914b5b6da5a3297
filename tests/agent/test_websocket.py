"""Frames: however they are cut up, what was in them comes out, and what breaks the protocol costs the connection."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.websocket import LONGEST_FRAME, WebSocket

BINARY, CLOSE, PING, PONG = 0x2, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    size = len(payload)
    length = bytes([size]) if size < 126 else struct.pack("!BH", 126, size) if size < 65536 else struct.pack("!BQ", 127, size)
    return bytes([last << 7 | opcode]) + length + payload


def unmasked(data: bytes) -> list[tuple[int, bytes]]:
    """Opcodes and payloads of a client's frames."""
    found = []
    while data:
        size, at = data[1] & 0x7F, 2
        assert data[1] & 0x80, "a client masks"
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        mask, body = data[at : at + 4], data[at + 4 : at + 4 + size]
        found.append((data[0] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))))
        data = data[at + 4 + size :]
    return found


@contextlib.contextmanager
def pair(begun: bytes = b"") -> Iterator[tuple[WebSocket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    ours = WebSocket(near, begun)
    yield ours, far
    ours.close()
    far.close()


def read(ours: WebSocket) -> bytes:
    room = memoryview(bytearray(1000))
    found = b""
    with contextlib.suppress(BlockingIOError):
        while count := ours.recv_into(room):
            found += room[:count]
    return found


FRAMES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([BINARY, 0]), st.one_of(st.binary(max_size=300), st.just(b"x" * 70_000)), st.booleans()),
        st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125), st.just(True)),
    ),
    max_size=6,
)


@given(FRAMES, st.lists(st.integers(0, 2000), max_size=5), st.booleans())
def test_what_is_in_frames_comes_out_however_they_are_cut_up_and_pings_are_answered(
    frames: list[tuple[int, bytes, bool]], cuts: list[int], begins_early: bool
) -> None:
    stream = b"".join(frame(opcode, payload, last=last) for opcode, payload, last in frames)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[begin:end] for begin, end in pairwise(places)]
    early = pieces.pop(0) if begins_early and pieces else b""
    with pair(early) as (ours, far):
        found = read(ours)
        for piece in pieces:
            for begin in range(0, len(piece), 10_000):
                far.sendall(piece[begin : begin + 10_000])
                found += read(ours)
        assert found == b"".join(payload for opcode, payload, _ in frames if opcode in {BINARY, 0})
        answers = b""
        with contextlib.suppress(BlockingIOError):
            answers = far.recv(10_000)
        assert unmasked(answers) == [(PONG, payload) for opcode, payload, _ in frames if opcode == PING]


@given(st.binary(max_size=70_000), st.integers(1, 5000))
def test_what_is_sent_arrives_however_little_the_system_takes_at_a_time(data: bytes, step: int) -> None:
    with pair() as (ours, far):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        arrived, left = b"", data
        while left:
            with contextlib.suppress(BlockingIOError):
                left = left[ours.send(left) :]
            with contextlib.suppress(BlockingIOError):
                arrived += far.recv(step)
        with contextlib.suppress(BlockingIOError):
            while part := far.recv(65536):
                arrived += part
        frames = unmasked(arrived)
        assert b"".join(payload for _, payload in frames) == data
        assert all(opcode == BINARY and len(payload) <= LONGEST_FRAME for opcode, payload in frames)


def test_bytes_can_be_read_one_by_one_and_those_that_are_here_are_known() -> None:
    with pair() as (ours, far):
        far.sendall(frame(BINARY, b"abc") + frame(BINARY, b"de"))
        assert ours.recv(1) == b"a"
        assert ours.pending() == 4
        assert ours.recv(100) == b"bcde"
        with pytest.raises(BlockingIOError):
            ours.recv(1)


def test_a_close_is_the_end_after_what_came_before_it() -> None:
    with pair() as (ours, far):
        far.sendall(frame(BINARY, b"last") + frame(CLOSE, b"\x03\xe8") + frame(BINARY, b"never"))
        assert ours.recv(100) == b"last"
        assert ours.recv(100) == b""


@pytest.mark.parametrize("data", [b"HTTP/1.1 200", b"\x82\x81mask1", frame(1, b"text"), b"\xc2\x01a", b"\x89\x7e\x00\x80"], ids=repr)
def test_what_is_no_frame_costs_the_connection(data: bytes) -> None:
    with pair() as (ours, far):
        far.sendall(data)
        with pytest.raises(ConnectionError):
            ours.recv(100)


def test_of_a_frame_without_end_no_more_is_kept_than_was_read_at_once() -> None:
    with pair() as (ours, far):
        far.sendall(b"\x82\x7f" + (1 << 62).to_bytes(8, "big"))
        for _ in range(200):
            far.sendall(bytes(1000))
            assert len(ours.recv(1000)) == 1000
            assert ours.pending() == 0
