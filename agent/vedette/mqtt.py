"""The connection to the broker; with `network`, the agent's only importer of paho.

Rules this module keeps: the network's thread does nothing but hand over; a lost broker is retried for ever, and said once;
nothing is published while disconnected, because paho would queue it and a retry would then send it twice; a session that the broker has
kept is gone on with, not subscribed to anew, which would bring retained messages again; secrets are never logged.
"""

import logging
import os
import queue
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from vedette import cloudevents
from vedette.config import Broker
from vedette.contract.errors import BrokerError, ConfigError
from vedette.contract.readings import Message
from vedette.network import Client, Network, OnBurst

log = logging.getLogger(__name__)

_PROTOCOLS = {5: paho.MQTTv5, "3.1.1": paho.MQTTv311}
_LONGEST_RETRY_S = 30

_MOST_IN_FLIGHT = 1024
"""Messages that the broker may send before it has an acknowledgement, in MQTT 5: brokers allow few by themselves, which makes many small
bursts. Some take it for a hint only; what is known of repeats goes far beyond it.
"""

_properties: Any = Properties  # because paho's has no types


Subscriptions = Sequence[tuple[str, int]]
"""Filters and their QoS."""


class Session(Protocol):
    """What outlives a connection: the broker keeps what arrives for the client while it is away."""

    @property
    def granted(self) -> Subscriptions:
        """What the broker was last known to have granted."""

    def begin(self) -> None:
        """The broker knows nothing of an earlier session: no message is sent again."""

    def grant(self, subscriptions: Subscriptions) -> None:
        """The broker has granted these."""


class Connection:
    """A client of one broker, with a last will.

    Args:
        broker: As configured.
        client_id: Unless the broker's configuration names one.
        status_topic: Where `online` is retained while subscribed, and `offline` otherwise; None for a client that publishes nothing.
        subscriptions: Filters and their QoS.
        max_payload: Longest payload that anybody wants, bytes.
        on_burst: Takes messages, and says whether they may be acknowledged; called by the network's thread, so it must be quick.
        on_progress: Told, by the network's thread, when the broker has granted the subscriptions or acknowledged a message.
        session: None for one that ends with the connection.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        status_topic: str | None,
        subscriptions: Subscriptions,
        max_payload: int,
        on_burst: OnBurst,
        on_progress: Callable[[], None],
        session: Session | None = None,
    ) -> None:
        self._broker, self._status_topic, self._subscriptions = broker, status_topic, list(subscriptions)
        self._on_progress, self._session = on_progress, session
        self._asked: Subscriptions = ()
        self._status = "online"
        self._lost: float | None = None
        self._outages: deque[tuple[float | None, float]] = deque()
        self._said: str | None = None
        self._delivered: deque[int] = deque()
        self._client = _client(broker, broker.client_id or client_id, clean=session is None)
        self._network = Network(self._client, _LONGEST_RETRY_S, broker.keepalive, max_payload, on_burst, self._not_reached)
        if status_topic is not None:
            self._client.will_set(status_topic, "offline", qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_subscribe = self._subscribed
        self._client.on_publish = self._published

    def start(self) -> None:
        """Read the credentials and begin to connect, in the network's own thread; returns at once, broker or not.

        Raises:
            ConfigError: a credential or certificate cannot be read.
        """
        log_in(self._client, self._broker)
        more: dict[str, Any] = {}
        if self._broker.protocol == 5:
            wishes = _properties(PacketTypes.CONNECT)
            wishes.MaximumPacketSize = self._network.max_packet
            wishes.ReceiveMaximum = _MOST_IN_FLIGHT
            if self._session:
                wishes.SessionExpiryInterval = int(self._broker.session_expiry)
            more = {"clean_start": self._session is None, "properties": wishes}
        self._client.connect_async(self._broker.host, self._broker.port, keepalive=int(self._broker.keepalive), **more)
        self._network.start()

    def say(self, status: str) -> None:
        """Retain something else than `online` from now on, while subscribed."""
        if status != self._status:
            self._status = status
            if self._status_topic is not None:
                self.publish(self._status_topic, status, qos=1, retain=True)

    def lives(self) -> bool:
        """Whether the network's thread does what it should; one that is gone is begun anew."""
        self._network.revive()
        return self._network.lives(time.monotonic())

    def publish(
        self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False, event: Sequence[tuple[str, str]] = ()
    ) -> int | None:
        """Publish, if connected; `event` are the attributes of the CloudEvent that the payload is, which MQTT 3.1.1 has no place for.

        Returns:
            The message's id, which `take_delivered` gives back once the broker has it; None if it was not sent.
        """
        if not self._client.is_connected():
            return None
        properties = _event_properties(event) if event and self._broker.protocol == 5 else None
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        # Any other code means that paho has queued it and will send it by itself.
        return None if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE else info.mid

    def take_delivered(self) -> list[int]:
        """Ids of the messages that the broker has acknowledged since the last call."""
        return [self._delivered.popleft() for _ in range(len(self._delivered))]

    def take_outages(self) -> list[tuple[float | None, float]]:
        """From when to when there was no connection, epoch seconds, since the last call; the first begins before anything is known."""
        return [self._outages.popleft() for _ in range(len(self._outages))] if self._outages else []

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._client.is_connected()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Say `offline`, disconnect and end the network's thread."""
        if self._status_topic is not None and self._client.is_connected():
            farewell = self._client.publish(self._status_topic, "offline", qos=1, retain=True)
            deadline = time.monotonic() + timeout_s
            # Where the connection went down in between, is_published would raise; the last will says offline then.
            sent = farewell.rc == MQTTErrorCode.MQTT_ERR_SUCCESS
            while sent and self._client.is_connected() and not farewell.is_published() and time.monotonic() < deadline:
                time.sleep(0.01)
        self._client.disconnect()
        self._network.stop(timeout_s)

    def _connected(self, client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._say(f"{self._address} refuses the connection: {explain_refusal(str(reason))}")
            return
        self._outages.append((self._lost, time.time()))
        granted: Subscriptions = ()
        if self._session and flags.session_present:
            granted = self._session.granted
            if gone := {name for name, _ in granted} - {name for name, _ in self._subscriptions}:
                client.unsubscribe(sorted(gone))
        elif self._session:
            self._session.begin()
        self._asked = [each for each in self._subscriptions if each not in granted]
        if self._asked:
            client.subscribe(list(self._asked))
        else:
            self._ready(client)

    def _subscribed(self, client: paho.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        if refusal := explain_grants(self._asked, reasons):
            self._say(f"{self._address} {refusal}")
            return
        self._ready(client)

    def _ready(self, client: paho.Client) -> None:
        if self._session and list(self._session.granted) != self._subscriptions:
            self._session.grant(self._subscriptions)
        if self._status_topic is not None:
            client.publish(self._status_topic, self._status, qos=1, retain=True)
        self._said = None
        self._network.steady()
        self._on_progress()
        log.info("connected to %s, subscribed to %s", self._address, ", ".join(name for name, _ in self._subscriptions))

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._lost = time.time()
        if reason.is_failure and self._said is None:
            self._say(f"connection to {self._address} lost: {reason}")

    def _not_reached(self) -> None:
        self._say(f"{self._address} cannot be reached; trying again for ever, at most every {_LONGEST_RETRY_S} s")

    def _published(self, _client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self._delivered.append(mid)
        self._on_progress()

    def _say(self, what: str) -> None:
        """Log a degraded state once, not at every retry."""
        if what != self._said:
            self._said = what
            log.warning("%s", what)

    @property
    def _address(self) -> str:
        return self._broker.url


def _event_properties(event: Sequence[tuple[str, str]]) -> Any:
    found = _properties(PacketTypes.PUBLISH)
    found.UserProperty = list(event)
    found.ContentType = cloudevents.CONTENT_TYPE
    found.PayloadFormatIndicator = 1  # UTF-8
    return found


def _client(broker: Broker, client_id: str, *, clean: bool) -> Client:
    # MQTT 5 says so at each connect.
    more: dict[str, Any] = {} if broker.protocol == 5 else {"clean_session": clean}
    return Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=_PROTOCOLS[broker.protocol], **more)


def _message(message: paho.MQTTMessage) -> Message:
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = ""  # no stream's topic: it is counted as unmatched
    return Message(topic, bytes(message.payload), time.time(), message.retain)


def probe(
    broker: Broker,
    client_id: str,
    subscriptions: Sequence[tuple[str, int]],
    timeout_s: float,
    on_message: Callable[[Message], None] | None = None,
    stay: Callable[[], None] | None = None,
) -> None:
    """Connect and subscribe once, as the agent would, then leave.

    Args:
        broker: Where and as whom.
        client_id: Whatever the broker's configuration names: the agent itself may be connected under that.
        subscriptions: Filters and their QoS.
        timeout_s: For all but the stay.
        on_message: Given what arrives, by the network's thread.
        stay: Called once subscribed; the connection ends when it returns.

    Raises:
        BrokerError: what the broker, or the way to it, refuses, and what to do.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=_PROTOCOLS[broker.protocol])
    log_in(client, broker)

    def connected(client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            answers.put(f"refuses the connection: {explain_refusal(str(reason))}")
        else:
            client.subscribe(list(subscriptions))

    def subscribed(_client: Any, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        answers.put(explain_grants(subscriptions, reasons))

    def received(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        if on_message:
            on_message(_message(message))

    client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, received
    _run_once(client, broker, answers, 1, timeout_s, stay)


def publish_once(broker: Broker, client_id: str, messages: Mapping[str, bytes], timeout_s: float) -> None:
    """Connect, publish messages retained with QoS 1, wait until the broker has them all, then leave.

    Args:
        broker: Where and as whom.
        client_id: Unless the broker's configuration names one.
        messages: Payloads by topic.
        timeout_s: For all of it.

    Raises:
        BrokerError: what the broker, or the way to it, refuses, and what to do.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=broker.client_id or client_id, protocol=_PROTOCOLS[broker.protocol])
    log_in(client, broker)

    def connected(client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            answers.put(f"refuses the connection: {explain_refusal(str(reason))}")
            return
        for topic, payload in messages.items():
            client.publish(topic, payload, qos=1, retain=True)

    def published(_client: Any, _data: Any, _mid: int, reason: ReasonCode, _properties: Any) -> None:
        answers.put(f"refuses to publish: {explain_refusal(str(reason))}" if reason.is_failure else None)

    client.on_connect, client.on_publish = connected, published
    _run_once(client, broker, answers, len(messages), timeout_s)


def _run_once(
    client: paho.Client,
    broker: Broker,
    answers: queue.SimpleQueue[str | None],
    expected: int,
    timeout_s: float,
    stay: Callable[[], None] | None = None,
) -> None:
    """Connect a client, wait for as many answers or for one that is a fault, stay, and disconnect it."""
    try:
        client.connect(broker.host, broker.port, keepalive=max(5, int(timeout_s)))
    except OSError as error:
        reason = error.strerror or error
        raise BrokerError(f"broker.url: {broker.url} cannot be reached: {reason}; is it running, is the port right?") from error
    client.loop_start()
    deadline = time.monotonic() + timeout_s
    fault = None
    try:
        while expected and not fault:
            fault = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            expected -= 1
        if stay and not fault:
            stay()
    except queue.Empty:
        fault = f"does not answer as an MQTT broker within {timeout_s:.0f} s; is the port right, does it want TLS (mqtts)?"
    finally:
        client.disconnect()
        client.loop_stop()
    if fault:
        raise BrokerError(f"broker: {broker.url} {fault}")


def log_in(client: paho.Client, broker: Broker) -> None:
    """Give a client the broker's credentials.

    Raises:
        ConfigError: a file cannot be read, or is not what it should be.
    """
    if broker.username:
        client.username_pw_set(broker.username, _read_password(broker.password_file))
    if broker.tls:
        try:
            client.tls_set(broker.ca_file, broker.cert_file, broker.key_file)
        except (OSError, ssl.SSLError, ValueError) as error:
            files = ", ".join(filter(None, (broker.ca_file, broker.cert_file, broker.key_file)))
            raise ConfigError(f"broker: certificates cannot be used ({files}): {error}") from error


def explain_refusal(reason: str) -> str:
    """What to do about a broker's refusal, in words."""
    advice = {
        "Unsupported protocol version": "set broker.protocol: 3.1.1",
        "Not authorized": "check broker.username, broker.password_file and the broker's access list",
        "Bad user name or password": "check broker.username and broker.password_file",
    }
    return f"{reason}; {advice[reason]}" if reason in advice else reason


def explain_grants(subscriptions: Sequence[tuple[str, int]], reasons: Sequence[ReasonCode]) -> str | None:
    """Which subscriptions a broker refuses and what to do, in words; None where it grants all."""
    refused = [name for (name, _), reason in zip(subscriptions, reasons, strict=True) if reason.is_failure]
    return f"refuses the subscription to {', '.join(refused)}: allow it in the broker's access list" if refused else None


def _read_password(password_file: str | None) -> str | None:
    if password_file is None:
        return None
    path = Path(os.path.expandvars(password_file))
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"broker.password_file: {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
