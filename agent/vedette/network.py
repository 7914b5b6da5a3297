"""The network's thread: a paho client driven through its public loop functions, over a socket that reads ahead.

paho's own thread asks the system for every byte it reads and waits anew for every packet; reading ahead and answering a burst at once
costs less than half of that. Rules this module keeps: one thread reads and writes the socket; a connection that is lost is tried again for
ever, ever more slowly and not in step with other gateways; a fault in handling a message costs the connection, never the thread.
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
from paho.mqtt.enums import MQTTErrorCode

log = logging.getLogger(__name__)

READ_AHEAD = 64 * 1024
MOST_UNSENT = 256 * 1024
"""Bytes that wait for the system to take them; beyond it paho keeps what it has."""

FEW, PAUSE_S = 16, 0.001
"""After a burst of fewer packets the next one is given a moment to grow. Less than mosquitto has in flight by default, so a burst that the
broker cuts short there is not waited for.
"""

_MISC_S = 1.0
_PUBACK = b"\x40\x02"
"""A PUBACK's first two bytes; the message's id follows. In MQTT 5, too, that is all of it where all is well."""

_CONNECT_TIMEOUT_S = 10.0


class ReadAhead:
    """A socket that asks the system for more than it was asked for, and sends on `flush` what it was given.

    Args:
        inner: Connected; a TCP, TLS or WebSocket one.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._read, self._at = b"", 0
        self._unsent = bytearray()

    def recv(self, size: int) -> bytes:
        """At most so many bytes; raises what the socket raises."""
        end = self._at + size
        if self._at < len(self._read):
            found = self._read[self._at : end]
            self._at = end
            return found
        self._read, self._at = self._inner.recv(READ_AHEAD), size
        return self._read[:size]

    @property
    def holds_more(self) -> bool:
        """Whether bytes are here that the system will not wake anybody for."""
        return self._at < len(self._read) or (isinstance(self._inner, ssl.SSLSocket) and self._inner.pending() > 0)

    def send(self, data: bytes) -> int:
        """Keep for `flush`.

        Raises:
            BlockingIOError: too much is kept already.
        """
        if len(self._unsent) > MOST_UNSENT:
            raise BlockingIOError
        self._unsent += data
        return len(data)

    def answer(self, data: bytes) -> None:
        """Keep for `flush`, however much is kept: what is answered is bounded by what the other side sends before it reads."""
        self._unsent += data

    def flush(self) -> bool:
        """Send as much as the system takes.

        Returns:
            Whether that was all.

        Raises:
            OSError: the connection is lost.
        """
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self._unsent:
                del self._unsent[: self._inner.send(self._unsent)]
        return not self._unsent

    def close(self) -> None:
        """Send what can be sent, and close."""
        with contextlib.suppress(OSError):
            self.flush()
        self._read = b""
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        """All else is the socket's own."""
        return getattr(self._inner, name)


OnArrival = Callable[[str, bytes, int, bool], None]
"""Given topic, payload, QoS, and whether the broker had retained it."""


class Client(paho.Client):
    """A paho client whose socket reads ahead, and which hands arriving messages on without an object and a log line for each.

    This is all of paho's inside that is relied upon; a test compares the two ways of reading a packet.

    Attributes:
        on_arrival: Takes messages of QoS 0 and 1; a topic that is not UTF-8 is given as an empty one.
    """

    ahead: ReadAhead | None = None
    on_arrival: OnArrival

    def _create_socket(self) -> Any:
        self.ahead = ReadAhead(super()._create_socket())
        return self.ahead

    def _handle_publish(self) -> MQTTErrorCode:
        command, packet = self._in_packet["command"], self._in_packet["packet"]
        qos = command >> 1 & 3
        if qos > 1:
            return super()._handle_publish()  # nothing is subscribed to at QoS 2
        try:
            at = 2 + (packet[0] << 8 | packet[1])
            topic = packet[2:at]
            message_id = packet[at : at + 2 * qos]
            at += 2 * qos
            if self._protocol == paho.MQTTv5:
                at = _behind_properties(packet, at)
        except IndexError:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if at > len(packet):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        try:
            name = topic.decode()
        except UnicodeDecodeError:
            name = ""
        try:
            self.on_arrival(name, bytes(packet[at:]), qos, bool(command & 1))
        except Exception:
            # Whatever it is, other messages will come: a new connection begins without the one that brought it about.
            log.exception("a message could not be handled; connecting anew")
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        if qos and self.ahead:
            # Straight to what leaves with the burst's end: in paho's queue, an acknowledgement costs as much as all of the above.
            self.ahead.answer(_PUBACK + message_id)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _behind_properties(packet: bytearray, at: int) -> int:
    """Where an MQTT 5 packet goes on after its properties, whose length comes first: seven bits a byte, the lowest first."""
    length = shift = 0
    while True:
        byte = packet[at]
        at += 1
        length |= (byte & 127) << shift
        if byte < 128:
            return at + length
        shift += 7
        if shift > 21:
            raise IndexError


class Network:
    """The thread.

    Args:
        client: Configured; its host is set by `connect_async`.
        longest_retry_s: Between two attempts to connect.
        not_reached: Told, by the thread, when an attempt fails.
    """

    def __init__(self, client: Client, longest_retry_s: float, not_reached: Callable[[], None]) -> None:
        self._client, self._longest_retry_s, self._not_reached = client, longest_retry_s, not_reached
        self._thread = threading.Thread(target=self._run, name="vedette-network", daemon=True)
        self._stop = threading.Event()
        self._attempts = 0
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.on_socket_register_write = self._wake

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._wakes, self._wake_by = socket.socketpair()
        self._wakes.setblocking(False)
        self._wake_by.setblocking(False)
        self._thread.start()

    def steady(self) -> None:
        """The connection is of use: the next time it is lost, it is tried again at once. Called by the thread."""
        self._attempts = 0

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
            try:
                self._client.reconnect()
            except (OSError, ValueError):
                self._not_reached()
            else:
                self._serve()
            if not self._stop.is_set():
                self._attempts += 1
                ceiling = min(self._longest_retry_s, 2.0 ** min(self._attempts, 16) / 2)
                self._stop.wait(ceiling * random.uniform(0.5, 1.0))  # noqa: S311 because it spreads gateways, it guards nothing

    def _serve(self) -> None:
        """Read and write until the connection is gone."""
        ahead = self._client.ahead
        assert ahead
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wakes, selectors.EVENT_READ)
                selector.register(ahead, selectors.EVENT_READ)
                self._converse(ahead, selector)
        except OSError as error:
            log.debug("connection: %s", error)
        except Exception:
            log.exception("the connection cannot go on; connecting anew")
        finally:
            ahead.close()

    def _converse(self, ahead: ReadAhead, selector: selectors.BaseSelector) -> None:
        client = self._client
        was_sent, misc_due, packets = True, 0.0, 0
        while client.socket():
            if client.want_write():
                client.loop_write()
                if not client.socket():
                    return  # that was the farewell
            is_sent = ahead.flush()
            if (now := time.monotonic()) >= misc_due:
                client.loop_misc()
                misc_due = now + _MISC_S
                if self._stop.is_set() and not client.is_connected():
                    return
            if 0 < packets < FEW:
                time.sleep(PAUSE_S)
            if was_sent != is_sent:
                selector.modify(ahead, selectors.EVENT_READ if is_sent else selectors.EVENT_READ | selectors.EVENT_WRITE)
                was_sent = is_sent
            ready = {key.fileobj for key, _ in selector.select(_MISC_S)}
            if self._wakes in ready:
                self._wakes.recv(4096)
            packets = self._read(ahead) if ahead in ready else 0

    def _read(self, ahead: ReadAhead) -> int:
        """Handle what has arrived; how many packets it was, about."""
        packets = 0
        while self._client.socket():
            self._client.loop_read()
            packets += 1
            if not ahead.holds_more:
                break
        return packets
