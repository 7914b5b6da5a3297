"""A TCP proxy between agent and broker that fails as networks do, and goes on living whoever else is killed.

Rules this module keeps: bytes are never reordered, altered or duplicated, because TCP does not do that either; what a fault has swallowed
never comes, and its connection is broken for good; an observer sees all that leaves the agent, and what the broker says as far as it is
passed on.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from enum import Enum
from typing import Any, Literal, Protocol, Self, TypeVar

_CHUNK = 64 * 1024
_T = TypeVar("_T")

Way = Literal["up", "down", "both"]
"""`up` is from the agent to the broker."""


class Observer(Protocol):
    """Told of connections, each by its number, by the proxy's thread."""

    def opened(self, connection: int) -> None:
        """The agent has connected."""

    def from_agent(self, connection: int, data: bytes, *, passed_on: bool) -> None:
        """Bytes that the agent has sent; `passed_on` says whether the broker gets them."""

    def from_broker(self, connection: int, data: bytes) -> None:
        """Bytes that the broker has sent, and that the agent gets."""

    def left(self, connection: int) -> None:
        """The agent has hung up."""


class End(Enum):
    """How a connection is cut."""

    RESET = "RST"
    FINISH = "FIN"


class Proxy:
    """The proxy, in a thread of its own.

    Args:
        port: Of the broker on loopback.
        observer: Sees what passes.
        seed: Of the jitter.

    Attributes:
        port: Where the agent connects.
        failure: What an observer has raised; whoever relies on it has to look.
    """

    def __init__(self, port: int, observer: Observer, seed: int = 0) -> None:
        self._upstream, self._observer = port, observer
        self._rng = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._flows: dict[int, tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}
        self._count = 0
        self.failure: Exception | None = None
        self._swallows = self._byte_wise = False
        self._delay_s = self._jitter_s = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        self._ask(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        self._ask(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def is_carrying(self) -> bool:
        """Whether the agent has a connection to the broker now."""
        return bool(self._flows)

    def cut(self, end: End) -> None:
        """End every connection, for the agent and for the broker."""
        self._ask(self._cut(end))

    def stall(self, way: Way) -> None:
        """Pass nothing on in one way or both, of connections that there are and that come, until `flow`; nothing is lost."""
        self._ask(self._open_gates(up=way == "down", down=way == "up"))

    def swallow(self) -> None:
        """Half-open: connections stand, and whatever is sent on them is gone, until `flow`, which ends them."""
        self._ask(self._swallow(on=True))

    def delay(self, delay_s: float, jitter_s: float) -> None:
        """Keep everything back for so long, and at random up to `jitter_s` longer."""
        self._delay_s, self._jitter_s = delay_s, jitter_s

    def by_bytes(self) -> None:
        """Deliver one byte at a time."""
        self._byte_wise = True

    def flow(self) -> None:
        """End every fault."""
        self._delay_s = self._jitter_s = 0.0
        self._byte_wise = False
        self._ask(self._swallow(on=False))
        self._ask(self._open_gates(up=True, down=True))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _ask(self, what: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _begin(self) -> None:
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._up.set()
        self._down.set()
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _open_gates(self, *, up: bool, down: bool) -> None:
        for gate, is_open in ((self._up, up), (self._down, down)):
            gate.set() if is_open else gate.clear()

    async def _cut(self, end: End) -> None:
        for pair in list(self._flows.values()):
            for writer in pair:
                _hang_up(writer, end)

    async def _swallow(self, *, on: bool) -> None:
        was, self._swallows = self._swallows, on
        if was and not on:
            await self._cut(End.RESET)

    async def _serve(self, agent_in: asyncio.StreamReader, agent_out: asyncio.StreamWriter) -> None:
        self._count += 1
        number = self._count
        _send_at_once(agent_out)
        self._observer.opened(number)
        try:
            broker_in, broker_out = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            # The broker is dead. Its port would refuse; from this one, a reset comes a moment later.
            _hang_up(agent_out, End.RESET)
            self._observer.left(number)
            return
        _send_at_once(broker_out)
        self._flows[number] = (agent_out, broker_out)
        pumps = [
            asyncio.ensure_future(self._pump(number, agent_in, broker_out, is_up=True)),
            asyncio.ensure_future(self._pump(number, broker_in, agent_out, is_up=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for result in await asyncio.gather(*pumps, return_exceptions=True):
                if isinstance(result, Exception):
                    self.failure = result
            del self._flows[number]
            for writer in (agent_out, broker_out):
                writer.close()

    async def _pump(self, number: int, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_up: bool) -> None:
        gate = self._up if is_up else self._down
        with contextlib.suppress(OSError):
            while True:
                await gate.wait()
                try:
                    data = await source.read(_CHUNK)
                except OSError:
                    data = b""
                if not data:
                    break
                if self._delay_s or self._jitter_s:
                    await asyncio.sleep(self._delay_s + self._rng.uniform(0.0, self._jitter_s))
                # What is on its way waits, too: a stall takes hold at once.
                await gate.wait()
                swallowed = self._swallows
                if is_up:
                    self._observer.from_agent(number, data, passed_on=not swallowed)
                elif not swallowed:
                    self._observer.from_broker(number, data)
                if not swallowed:
                    await self._deliver(target, data)
        if is_up:
            self._observer.left(number)

    async def _deliver(self, target: asyncio.StreamWriter, data: bytes) -> None:
        pieces = [data[at : at + 1] for at in range(len(data))] if self._byte_wise else [data]
        for piece in pieces:
            target.write(piece)
            await target.drain()
            if self._byte_wise:
                await asyncio.sleep(0)


def _hang_up(writer: asyncio.StreamWriter, end: End) -> None:
    if end is End.FINISH:
        writer.close()
        return
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _send_at_once(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
