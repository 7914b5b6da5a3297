"""The network's thread: a paho client driven through its public loop functions, over a socket that reads ahead.

paho's own thread asks the system for every byte it reads, waits anew for every packet, and makes an object and a log line of each message.
Here what has arrived is cut into packets; messages are read at once, and all other packets are paho's, one at a time. Rules this module
keeps: one thread reads and writes the socket; a message is acknowledged on the connection that brought it, in order, and only once it was
taken; a connection that is lost is tried again for ever, ever more slowly and not in step with other gateways, and one on which nothing
is heard is lost; a fault in handling a message costs the connection, never the thread.
"""

import contextlib
import logging
import random
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from vedette.packets import Burst, Packets, with_known_reason
from vedette.read_ahead import ReadAhead

log = logging.getLogger(__name__)

FEW, PAUSE_S = 16, 0.001
"""After a burst of fewer packets the next one is given a moment to grow. Less than mosquitto has in flight by default, so a burst that the
broker cuts short there is not waited for.
"""

_MISC_S = 0.25
CONNECT_TIMEOUT_S = 10.0
"""For each step of the way to the broker."""

_ANSWER_TIMEOUT_S = 30.0
"""For the broker's answer to a connection, however long its keepalive. One that has just started may have much to load."""

_DEAD_KEEPALIVES = 1.3
"""A healthy broker is heard of, or takes what is sent, once in a keepalive and the time of a round trip."""

_HEAD = 128 * 1024
"""Room for a topic and properties beside a payload."""

_SLACK_S = 30.0
"""Beyond what it waits for, the thread is not away for longer."""

OnBurst = Callable[[Burst], bool]
"""Takes what arrived at once, and says whether it may be acknowledged now. Asked again, with nothing, while something may not."""


class DialledClient(paho.Client):
    """A paho client that is given its socket. This and its subclass are all of paho's inside that is relied upon.

    Args:
        dial: Connects.
        options: paho's.
    """

    def __init__(self, dial: Callable[[], Any], **options: Any) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, **options)
        self._dial = dial

    def _create_socket(self) -> Any:
        return self._dial()


class Client(DialledClient):
    """One whose socket reads ahead."""

    ahead: ReadAhead | None = None

    def _create_socket(self) -> Any:
        self.ahead = ReadAhead(super()._create_socket())
        return self.ahead


class Network:
    """The thread.

    Args:
        client: Configured, by `connect_async` too.
        longest_retry_s: Between two attempts to connect.
        keepalive_s: As the client has it.
        max_payload: Longest payload that anybody wants, bytes.
        on_burst: Takes messages of QoS 0 and 1, by the thread.
        on_end: Told, by the thread, when an attempt has failed or a connection has ended; with what the system said, if it did.
    """

    def __init__(
        self,
        client: Client,
        longest_retry_s: float,
        keepalive_s: float,
        max_payload: int,
        on_burst: OnBurst,
        on_end: Callable[[OSError | None], None],
    ) -> None:
        self._client, self._longest_retry_s = client, longest_retry_s
        self._dead_s, self.max_packet = _DEAD_KEEPALIVES * keepalive_s, max_payload + _HEAD
        self._on_burst, self._on_end = on_burst, on_end
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vedette-network", daemon=True)
        self._attempts = 0
        self._due = 0.0
        client.on_socket_register_write = self._wake

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._wakes, self._wake_by = socket.socketpair()
        self._wakes.setblocking(False)
        self._wake_by.setblocking(False)
        self._due = time.monotonic()
        self._thread.start()

    def steady(self) -> None:
        """The connection is of use: the next time it is lost, it is tried again at once. Called by the thread."""
        self._attempts = 0

    def lives(self, now: float) -> bool:
        """Whether the thread is there and does what it should: it is never away for long. `now` is the monotonic clock's, seconds."""
        return self._thread.is_alive() and now < self._due + _SLACK_S

    def revive(self) -> None:
        """Begin anew where the thread is no more. Called by the worker."""
        if not self._thread.is_alive() and not self._stop.is_set():
            log.error("the network's thread is gone; beginning another")
            self._due = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="vedette-network", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread, once the client has sent what it has and is disconnected, or when time is up."""
        self._stop.set()
        if self._thread.is_alive():
            self._wake()
            self._thread.join(timeout_s)
            self._wakes.close()
            self._wake_by.close()

    def _wake(self, *_: object) -> None:
        """Let the thread look up: something is to be sent. Called by any thread."""
        if threading.current_thread() is not self._thread:
            with contextlib.suppress(BlockingIOError):
                self._wake_by.send(b"\0")

    def _run(self) -> None:
        while not self._stop.is_set():
            # Three steps, and as many looks at why one of them failed.
            self._due = time.monotonic() + 6 * CONNECT_TIMEOUT_S + self._dead_s
            try:
                said = self._connect_and_serve()
                if not self._stop.is_set():
                    self._on_end(said)
            except Exception:  # because a thread that ends here would leave the agent deaf, with nobody to say so
                log.exception("the connection could not be begun; trying again")
            if not self._stop.is_set():
                self._attempts += 1
                ceiling = min(self._longest_retry_s, 2.0 ** min(self._attempts, 16) / 2)
                self._due = time.monotonic() + ceiling
                self._stop.wait(ceiling * random.uniform(0.5, 1.0))  # noqa: S311 because it spreads gateways, it guards nothing

    def _connect_and_serve(self) -> OSError | None:
        try:
            self._client.reconnect()
        except OSError as error:
            return error
        return self._serve()

    def _serve(self) -> OSError | None:
        """Read and write until the connection is gone; what the system said then."""
        said = None
        ahead = self._client.ahead
        assert ahead
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wakes, selectors.EVENT_READ)
                selector.register(ahead, selectors.EVENT_READ)
                self._converse(ahead, selector)
        except OSError as error:
            said = error
            log.debug("connection: %s", error)
        except Exception:  # because whatever it is, other messages will come: a new connection begins without the one that brought it about
            log.exception("a message could not be handled; connecting anew")
        if self._client.socket():
            ahead.hang_up()
            self._client.loop_read()  # paho, too, has to know
        return said

    def _converse(self, ahead: ReadAhead, selector: selectors.BaseSelector) -> None:
        client = self._client
        talk = _Conversation(ahead, client, self.max_packet, self._on_burst)
        was_sent, misc_due = True, 0.0
        while client.socket():
            talk.answer()
            if client.want_write():
                client.loop_write()
                if not client.socket():
                    return  # that was the farewell
            is_sent = ahead.flush()
            if (now := time.monotonic()) >= misc_due:
                self._due = now
                client.loop_misc()
                misc_due = now + _MISC_S
                if not client.socket() or (self._stop.is_set() and not client.is_connected()):
                    return
            if 0 < talk.count < FEW:
                time.sleep(PAUSE_S)
            if was_sent != is_sent:
                selector.modify(ahead, selectors.EVENT_READ if is_sent else selectors.EVENT_READ | selectors.EVENT_WRITE)
                was_sent = is_sent
            # Another thread may have queued something just as paho took note that all was written: then nobody wakes this one.
            timeout_s = 0.0 if is_sent and client.want_write() else _MISC_S
            ready = {key.fileobj for key, _ in selector.select(timeout_s)}
            if self._wakes in ready:
                self._wakes.recv(4096)
            talk.go_on(has_news=ahead in ready)
            if talk.silent_s(is_sent=is_sent) > (self._dead_s if client.is_connected() else min(self._dead_s, _ANSWER_TIMEOUT_S)):
                raise ConnectionError("the broker has been silent for too long")


class _Conversation:
    """One connection's messages; acknowledgements that have to wait end with it, so that none can reach another connection.

    Attributes:
        count: Packets in what was read last.
    """

    def __init__(self, ahead: ReadAhead, client: Client, max_packet: int, on_burst: OnBurst) -> None:
        self._ahead, self._client, self._on_burst = ahead, client, on_burst
        self._packets = Packets(has_properties=client.protocol == paho.MQTTv5, max_packet=max_packet, on_other=self._let_paho_read)
        self._withheld = bytearray()
        self._heard = self._moved = time.monotonic()
        self.count = self._sent = 0

    def go_on(self, *, has_news: bool) -> None:
        """Handle what has arrived, if anything has."""
        self.count = 0
        if not has_news:
            return
        self._heard = time.monotonic()
        ahead, packets = self._ahead, self._packets
        before = packets.count
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            ahead.keep(packets.take(ahead.fill(), time.time()))
            while ahead.holds_more:
                ahead.keep(packets.take(ahead.fill(), time.time()))
        if packets.burst.messages:
            burst, acks = packets.take_burst()
            self._withheld += acks
            self._hand_over(burst)
        if ahead.is_over:
            raise ConnectionError("the broker hung up")
        self.count = packets.count - before

    def silent_s(self, *, is_sent: bool) -> float:
        """Seconds since the broker was heard of, or since it took something of what it is being sent."""
        now = time.monotonic()
        if is_sent or self._ahead.sent != self._sent:
            self._sent, self._moved = self._ahead.sent, now
        return now - min(self._heard, self._moved)

    def answer(self) -> None:
        """Acknowledge what has waited for it, if it may be now."""
        if self._withheld and self._on_burst(Burst([], [], [])):
            self._let_go()

    def _hand_over(self, burst: Burst) -> None:
        try:
            may_answer = self._on_burst(burst)
        except Exception:  # because messages that are not acknowledged come again, and would bring down one connection after the other
            self._let_go()
            self._ahead.flush()
            raise
        if may_answer:
            self._let_go()

    def _let_go(self) -> None:
        if self._withheld:
            self._ahead.answer(self._withheld)
            self._withheld = bytearray()

    def _let_paho_read(self, packet: bytes) -> None:
        if self._client.socket():
            self._ahead.offer(with_known_reason(packet))
            self._client.loop_read()
