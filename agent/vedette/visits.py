"""Short visits to the broker: connect, do one thing, leave. How `vedette check` looks, and how a publisher announces.

Rules this module keeps: a visitor comes by the agent's own way and with its credentials; what it cannot do is an error that says why and
what to do; it leaves nothing behind but what it was given to publish.
"""

import contextlib
import queue
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from vedette.broker import Broker
from vedette.contract.errors import BrokerError
from vedette.contract.readings import Message
from vedette.mqtt import PROTOCOLS, Subscriptions, explain_grants, log_in
from vedette.network import DialledClient
from vedette.refusals import explain_code, explain_failure
from vedette.transport import UnreachedError, dial

_ECHO_S = 1.0
"""A broker sends a message on to a subscriber in much less."""


class Verdict(NamedTuple):
    """What a broker makes of messages.

    Attributes:
        refused: Topics, and why.
        unknown: Topics of which a broker that speaks MQTT 3.1.1 only tells by sending the message on, and has not.
    """

    refused: dict[str, str]
    unknown: list[str]


def probe(
    broker: Broker,
    client_id: str,
    subscriptions: Subscriptions,
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
    visit = _Visit(broker, client_id, timeout_s)

    def received(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        if on_message:
            on_message(_message(message))

    visit.client.on_message = received
    with visit:
        visit.subscribe(subscriptions)
        if stay:
            stay()


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
    with _Visit(broker, broker.client_id or client_id, timeout_s) as visit:
        refused = visit.publish(messages, retained=messages)
    for reason in refused.values():
        raise BrokerError(f"broker: {broker.url} refuses to publish: {explain_code(reason)}")


def try_topics(broker: Broker, client_id: str, topics: Sequence[str], retained: Collection[str], timeout_s: float) -> Verdict:
    """Publish an empty message on each of some topics, and look whether the broker takes it.

    Args:
        broker: Where and as whom.
        client_id: Whatever the broker's configuration names: the agent itself may be connected under that.
        topics: Where.
        retained: Those of them on which the message is to be retained. Being empty, it takes away what was there.
        timeout_s: For all of it.

    Raises:
        BrokerError: what the broker, or the way to it, refuses, and what to do.
    """
    visit = _Visit(broker, client_id, timeout_s)
    silent = set(topics) if broker.protocol == "3.1.1" else set()

    def received(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        if not message.retain and not message.payload:
            silent.discard(message.topic)

    visit.client.on_message = received
    with visit:
        if silent:
            with contextlib.suppress(BrokerError):  # because an agent need not be allowed to read its own topics
                visit.subscribe([(topic, 1) for topic in topics])
        refused = visit.publish(dict.fromkeys(topics, b""), retained)
        deadline = time.monotonic() + _ECHO_S
        while silent and time.monotonic() < deadline:
            time.sleep(0.01)
    return Verdict(refused, [topic for topic in topics if topic in silent])


class _Event(NamedTuple):
    """What paho's thread tells: what happened, to which message, and the broker's reasons."""

    what: Literal["connected", "subscribed", "published", "ended"]
    mid: int
    reasons: Sequence[ReasonCode]


class _Visit:
    """A connection in a `with` block.

    Args:
        broker: Where and as whom.
        client_id: As which client.
        timeout_s: For all that the broker is asked.

    Raises:
        ConfigError: a credential cannot be read.
    """

    def __init__(self, broker: Broker, client_id: str, timeout_s: float) -> None:
        self._broker, self._timeout_s = broker, timeout_s
        self._deadline = 0.0
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self.client = DialledClient(
            lambda: dial(broker, self._context, timeout_s), client_id=client_id, protocol=PROTOCOLS[broker.protocol]
        )
        self._context = log_in(self.client, broker)
        self.client.on_connect = lambda _client, _data, _flags, reason, _: self._events.put(_Event("connected", 0, [reason]))
        self.client.on_subscribe = lambda _client, _data, mid, reasons, _: self._events.put(_Event("subscribed", mid, reasons))
        self.client.on_publish = lambda _client, _data, mid, reason, _: self._events.put(_Event("published", mid, [reason]))
        self.client.on_disconnect = lambda _client, _data, _flags, reason, _: self._events.put(_Event("ended", 0, [reason]))

    def __enter__(self) -> Self:
        self._deadline = time.monotonic() + self._timeout_s
        try:
            self.client.connect(self._broker.host, self._broker.port, keepalive=max(5, int(self._timeout_s)))
        except UnreachedError as error:
            raise BrokerError(f"broker.url: {self._broker.url} {explain_failure(self._broker, error, self._context)}") from error
        self.client.loop_start()
        try:
            reason = self._wait("connected").reasons[0]
            if reason.is_failure:
                raise self._fault(f"refuses the connection: {explain_code(str(reason))}")
        except _EndedError:
            self._leave()
            raise self._fault(explain_failure(self._broker, None, self._context)) from None
        except BrokerError:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def subscribe(self, subscriptions: Subscriptions) -> None:
        """Subscribe to all of them.

        Raises:
            BrokerError: the broker refuses some, or does not answer.
        """
        self.client.subscribe(list(subscriptions))
        try:
            reasons = self._wait("subscribed").reasons
        except _EndedError as error:
            raise self._fault(f"ends the connection at a subscription ({error}); see what its access list allows the agent") from None
        if refusal := explain_grants(subscriptions, reasons):
            raise self._fault(refusal)

    def publish(self, messages: Mapping[str, bytes], retained: Collection[str]) -> dict[str, str]:
        """Publish with QoS 1.

        Returns:
            The topics that the broker refuses, and why.

        Raises:
            BrokerError: it does not answer.
        """
        topics = {self.client.publish(topic, payload, 1, topic in retained).mid: topic for topic, payload in messages.items()}
        refused = {}
        while topics:
            try:
                event = self._wait("published")
            except _EndedError as error:
                raise self._fault(
                    f"ends the connection at a message on {', '.join(topics.values())} ({error}); allow it in the broker's access list"
                ) from None
            topic = topics.pop(event.mid)
            if event.reasons[0].is_failure:
                refused[topic] = str(event.reasons[0])
        return refused

    def _wait(self, what: str) -> _Event:
        while True:
            try:
                event = self._events.get(timeout=max(0.0, self._deadline - time.monotonic()))
            except queue.Empty:
                if what == "connected":
                    raise _EndedError("no answer") from None
                raise self._fault(f"does not answer within {self._timeout_s:.0f} s; look into its log") from None
            if event.what == "ended":
                raise _EndedError(str(event.reasons[0]))
            if event.what == what:
                return event

    def _fault(self, what: str) -> BrokerError:
        return BrokerError(f"broker: {self._broker.url} {what}")

    def _leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class _EndedError(Exception):
    """The connection is gone, or never was one."""


def _message(message: paho.MQTTMessage) -> Message:
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = ""  # no stream's topic: it is counted as unmatched
    return Message(topic, bytes(message.payload), time.time(), message.retain)
