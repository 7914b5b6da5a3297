"""The agent's connection to the broker.

Rules this module keeps: the network's thread does nothing but hand over; a lost broker is retried for ever, and said once, with why;
a message that the broker refuses is no delivered one; nothing is published while disconnected, because paho would queue it and a retry
would then send it twice; a session that the broker has kept is gone on with, not subscribed to anew, which would bring retained messages
again; secrets are never logged.
"""

import logging
import math
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from vedette import cloudevents
from vedette.broker import Broker
from vedette.contract.errors import ConfigError
from vedette.network import CONNECT_TIMEOUT_S, Client, DialledClient, Network, OnBurst
from vedette.refusals import explain_code, explain_failure
from vedette.transport import dial, tls_context

log = logging.getLogger(__name__)

PROTOCOLS = {5: paho.MQTTv5, "3.1.1": paho.MQTTv311}
_LONGEST_RETRY_S = 30
_SHORT_S, _OFTEN = 5.0, 3
"""So many connections in a row that lasted no longer are told as one state: two agents of one name push each other out for ever."""

_MOST_IN_FLIGHT = 1024
"""Messages that the broker may send before it has an acknowledgement, in MQTT 5: brokers allow few by themselves, which makes many small
bursts. Some take it for a hint only; what is known of repeats goes far beyond it.
"""

_LONGEST_PACKET, _HEADER = 256 * 1024**2, 16
"""What MQTT allows, and what a message has beside its topic and payload, at most."""

_properties: Any = Properties  # because paho's has no types


Subscriptions = Sequence[tuple[str, int]]
"""Filters and their QoS."""


class Answer(NamedTuple):
    """What became of a message: its id, and whether the broker took it."""

    mid: int
    taken: bool


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
        self._is_let_in: bool | None = None  # None before the broker's answer
        self._began = -math.inf  # when it was let in, monotonic clock
        self._short = 0  # connections in a row that did not last
        self._client_id = broker.client_id or client_id
        self._failure = self._farewell = ""
        self._answers: deque[tuple[int, str | None]] = deque()
        self._topics: dict[int, str] = {}
        self._refused: dict[str, tuple[str, str]] = {}
        self._max_packet = _LONGEST_PACKET
        self._own_mid = 0  # below those of the protocol
        self._context: ssl.SSLContext | None = None
        self._client = self._make_client(broker.client_id or client_id)
        self._network = Network(self._client, _LONGEST_RETRY_S, broker.keepalive, max_payload, on_burst, self._ended)
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
        self._context = log_in(self._client, self._broker)
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
        if self._short >= _OFTEN and self.connected and time.monotonic() - self._began >= _SHORT_S:
            self._short = 0
            self._tell_connected()
        return self._network.lives(time.monotonic())

    def publish(
        self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False, event: Sequence[tuple[str, str]] = ()
    ) -> int | None:
        """Publish, if connected; `event` are the attributes of the CloudEvent that the payload is, which MQTT 3.1.1 has no place for.

        Returns:
            The message's id, which `take_answers` gives back once the broker has answered; None if it was not sent.
        """
        if not self._client.is_connected():
            return None
        properties = _event_properties(event) if event and self._broker.protocol == 5 else None
        length = len(topic.encode()) + len(payload.encode() if isinstance(payload, str) else payload) + _HEADER
        if length + (len(properties.pack()) if properties else 0) > self._max_packet:
            return self._refuse(topic)
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        # Any other code means that paho has queued it and will send it by itself.
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            return None
        if qos:
            self._topics[info.mid] = topic
        return info.mid

    def _refuse(self, topic: str) -> int:
        """Answer in the broker's place, which would hang up on a message that is longer than it said it may be."""
        self._own_mid -= 1
        self._topics[self._own_mid] = topic
        self._answers.append((self._own_mid, "Packet too large"))
        return self._own_mid

    def take_answers(self) -> list[Answer]:
        """What became of messages, as far as it was told since the last call. MQTT 3.1.1 tells of none that it is refused."""
        answers = [self._answers.popleft() for _ in range(len(self._answers))]
        for mid, refusal in answers:
            if (topic := self._topics.pop(mid, None)) is not None:
                self._note(topic, refusal)
        return [Answer(mid, refusal is None) for mid, refusal in answers]

    @property
    def refusing(self) -> str | None:
        """What the broker does not take of the agent's messages, and why; None while it takes all."""
        if not self._refused:
            return None
        return "the broker refuses " + ", ".join(f"{part} ({reason})" for part, (_, reason) in sorted(self._refused.items()))

    def _note(self, topic: str, refusal: str | None) -> None:
        """Say once what the broker begins to refuse, and when it takes it again. Alerts are told apart by stream, not by device."""
        root = (self._status_topic or "").rpartition("/")[0]
        part = "/".join(topic.removeprefix(f"{root}/").split("/")[:2])
        if refusal is not None:
            if part not in self._refused:
                stays = "alerts wait in the spool; " if part.startswith("alerts/") else ""
                log.warning("%s refuses messages on %s: %s; %sallow the agent to write %s/#", self._address, topic, refusal, stays, root)
                self._refused[part] = topic, refusal
        elif self._refused.get(part, ("",))[0] == topic:
            del self._refused[part]
            log.info("%s takes messages on %s again", self._address, topic)

    def take_outages(self) -> list[tuple[float | None, float]]:
        """From when to when there was no connection, epoch seconds, since the last call; the first begins before anything is known."""
        return [self._outages.popleft() for _ in range(len(self._outages))] if self._outages else []

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._client.is_connected()

    @property
    def trouble(self) -> str | None:
        """What was said last of a broker that is away or refuses something; None while all is well."""
        return self._said

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

    def _connected(self, client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._is_let_in = False
            self._say(f"{self._address} refuses the connection: {explain_code(str(reason))}")
            return
        self._is_let_in = True
        self._began = time.monotonic()
        self._max_packet = getattr(properties, "MaximumPacketSize", None) or _LONGEST_PACKET
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
        self._network.steady()
        self._on_progress()
        if self._short < _OFTEN:
            self._tell_connected()

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if self._is_let_in:
            self._lost = time.time()
            self._farewell = str(reason)
            self._short = self._short + 1 if time.monotonic() - self._began < _SHORT_S else 0

    def _ended(self, error: OSError | None) -> None:
        """Say why a connection was lost, or why the broker gave no answer at all."""
        if self._is_let_in and self._short >= _OFTEN:
            self._say(
                f"{self._address} ends every connection soon after it is made; is another client connected as {self._client_id}? Each"
                " pushes the other out: give each agent a gateway name, or a broker.client_id, of its own"
            )
        elif self._is_let_in and self._said is None:
            # What the broker says itself tells more than how the connection went down.
            said = explain_code(self._farewell) if self._farewell != "Unspecified error" or not error else error.strerror or error
            self._say(f"connection to {self._address} lost: {said}")
        if self._is_let_in is None and self._failure != (failure := repr((error, error and error.__cause__))):
            # Looked into once: an attempt that fails as the one before has nothing new to say.
            self._failure = failure
            why = explain_failure(self._broker, error, self._context)
            self._say(f"{self._address} {why}; trying again for ever, at most every {_LONGEST_RETRY_S} s")
        elif self._is_let_in is not None:
            self._failure = ""
        self._is_let_in = None

    def _published(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._answers.append((mid, str(reason) if reason.is_failure else None))
        self._on_progress()

    def _tell_connected(self) -> None:
        self._said = None
        log.info("connected to %s, subscribed to %s", self._address, ", ".join(name for name, _ in self._subscriptions))

    def _say(self, what: str) -> None:
        """Log a degraded state once, not at every retry."""
        if what != self._said:
            self._said = what
            log.warning("%s", what)

    @property
    def _address(self) -> str:
        return self._broker.url

    def _make_client(self, client_id: str) -> Client:
        # MQTT 5 says so at each connect.
        more: dict[str, Any] = {} if self._broker.protocol == 5 else {"clean_session": self._session is None}
        return Client(
            lambda: dial(self._broker, self._context, CONNECT_TIMEOUT_S),
            client_id=client_id,
            protocol=PROTOCOLS[self._broker.protocol],
            **more,
        )


def _event_properties(event: Sequence[tuple[str, str]]) -> Any:
    found = _properties(PacketTypes.PUBLISH)
    found.UserProperty = list(event)
    found.ContentType = cloudevents.CONTENT_TYPE
    found.PayloadFormatIndicator = 1  # UTF-8
    return found


def check_login(broker: Broker) -> None:
    """See that the credentials can be read and used, without a connection.

    Raises:
        ConfigError: a file cannot be read, or is not what it should be.
    """
    if broker.username:
        _read_password(broker)
    tls_context(broker)


def log_in(client: DialledClient, broker: Broker) -> ssl.SSLContext | None:
    """Give a client the broker's credentials.

    Returns:
        Those for the way to the broker; None where that is not encrypted.

    Raises:
        ConfigError: a file cannot be read, or is not what it should be.
    """
    if broker.username:
        client.username_pw_set(broker.username, _read_password(broker))
    return tls_context(broker)


def explain_grants(subscriptions: Subscriptions, reasons: Sequence[ReasonCode]) -> str | None:
    """Which subscriptions a broker refuses and what to do, in words; None where it grants all."""
    refused = [name for (name, _), reason in zip(subscriptions, reasons, strict=True) if reason.is_failure]
    return f"refuses the subscription to {', '.join(refused)}: allow it in the broker's access list" if refused else None


def _read_password(broker: Broker) -> str | None:
    path = broker.file("password_file")
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n") if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"broker.password_file: {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
