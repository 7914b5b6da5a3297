"""Readings to a real broker, at the pace at which devices would send them.

In the agent only `vedette.mqtt` speaks MQTT. The simulator is no part of the agent: it is the devices, and
has a client of its own, which shares nothing with what it puts to the test.

Rules this module keeps: at QoS 1 nothing is dropped, and no publish is ever retried here (paho queues and
resends by itself; a retry would be a second message); a broker that is away holds the fleet up, and what fell
due meanwhile is sent, with the times at which it was measured, when the broker is back.
"""

import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Final, Literal

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from vedette.contract.errors import BrokerError
from vedette.simulate.fleet import Sample

# Enough for the full speed of a local broker, little enough that a lost broker costs no memory.
MAX_UNACKNOWLEDGED: Final = 200

_KEEPALIVE_S: Final = 30
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_PROTOCOLS: Final = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


class Publisher:
    """One connection that publishes samples when they are due.

    Call `open`, then `publish` from one thread, then `close`. `stop` may be called from any thread.

    Args:
        url: `mqtt://[user:password@]host[:port]`, or `mqtts://` with the system's certificate authorities.
        topic: Where `publish` sends samples; `{device}` stands for the device's name.
        speed: Simulated seconds in a real second; `inf` for as fast as the broker takes them.
        qos: 0, 1 or 2.
        protocol: "5" or "3.1.1".
        retry_s: Longest wait, in whole seconds, before trying again to reach a broker that is away.
        say: Told when the broker comes and goes, in one line, from paho's thread.
        clock: Monotonic seconds.

    Raises:
        BrokerError: `url` is no such URL.
    """

    def __init__(
        self,
        url: str,
        *,
        topic: str,
        speed: float = 1.0,
        qos: Literal[0, 1, 2] = 1,
        protocol: Literal["5", "3.1.1"] = "5",
        retry_s: int = 8,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts, port = _split(url)
        self._host, self._port = parts.hostname or "", port
        self._name = f"{parts.scheme}://{parts.hostname}:{port}"  # never the password
        self._topic = topic
        self._speed = speed
        self._qos = qos
        self._say = say
        self._clock = clock
        self._origin: tuple[float, float] | None = None
        self._told: str | None = None  # these two are of paho's thread alone
        self._away = False
        # Guards what follows. Never held while paho is called: paho holds locks of its own when it calls
        # back.
        self._changed = threading.Condition()
        self._connected = False
        self._stopped = False
        self._sent = 0
        self._acknowledged = 0

        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=_PROTOCOLS[protocol])
        if parts.username is not None:
            password = None if parts.password is None else urllib.parse.unquote(parts.password)
            self._client.username_pw_set(urllib.parse.unquote(parts.username), password)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.reconnect_delay_set(min_delay=1, max_delay=retry_s)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish

    @property
    def unacknowledged(self) -> int:
        """Messages that the broker has not acknowledged."""
        with self._changed:
            return self._sent - self._acknowledged

    def open(self) -> None:
        """Start to connect, and go on trying, in a thread of paho's. Returns at once."""
        self._client.connect_async(self._host, self._port, keepalive=_KEEPALIVE_S)
        self._client.loop_start()

    def publish(self, sample: Sample) -> bool:
        """Send a fridge's sample to its topic; see `send`."""
        return self.send(sample.time, device_topic(self._topic, sample.device), payload(sample))

    def send(self, time: float, topic: str, body: bytes) -> bool:
        """Send what was measured at `time` (epoch seconds) as soon as it is due and the broker is there.

        It also waits while `MAX_UNACKNOWLEDGED` messages are under way. The first message is due at once and
        sets the pace for all that follow.

        Returns:
            False, and nothing published, once `stop` has been called.
        """
        if self._origin is None:
            self._origin = (self._clock(), time)
        due = self._origin[0] + (time - self._origin[1]) / self._speed
        with self._changed:
            while not self._stopped:
                early_s = due - self._clock()
                if early_s > 0:
                    self._changed.wait(min(early_s, threading.TIMEOUT_MAX))
                elif not self._connected or self._sent - self._acknowledged >= MAX_UNACKNOWLEDGED:
                    self._changed.wait()
                else:
                    break
            if self._stopped:
                return False
            # Counted before it is sent, or the acknowledgement might come first.
            self._sent += 1
        sent = self._client.publish(topic, body, qos=self._qos)
        if self._qos == 0 and sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            # At QoS 0 paho forgets what it could not send, and so do we; at 1 and 2 it has queued it.
            self._acknowledge(1)
        return True

    def stop(self) -> None:
        """Make a waiting `publish`, and every later one, return False."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self, timeout_s: float = 10.0) -> int:
        """Wait for acknowledgements while the broker is there, then disconnect.

        Args:
            timeout_s: Seconds to wait at most.

        Returns:
            How many messages the broker has not acknowledged.
        """
        self.stop()
        with self._changed:
            self._changed.wait_for(lambda: self._sent == self._acknowledged or not self._connected, timeout=timeout_s)
            left = self._sent - self._acknowledged
        self._client.on_disconnect = None  # this one is no news
        self._client.disconnect()
        self._client.loop_stop()
        return left

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._changed:
            self._connected = not reason.is_failure
            self._changed.notify_all()
        self._away = False
        self._tell(f"{self._name}: refused: {reason}" if reason.is_failure else f"{self._name}: connected")

    def _on_connect_fail(self, _client: paho.Client, _userdata: object) -> None:
        if not self._away:
            self._away = True
            self._tell(f"{self._name}: no answer; trying again until it is there")

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._changed:
            was_connected, self._connected = self._connected, False
            if self._qos == 0:
                # What was under way is lost and will never be acknowledged.
                self._acknowledged = self._sent
            self._changed.notify_all()
        if was_connected:
            self._away = True
            self._tell(f"{self._name}: connection lost ({reason}); trying again until it is back")

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        _mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._acknowledge(1)
        if reason.is_failure:
            self._tell(f"{self._name}: publishing refused: {reason}")

    def _acknowledge(self, count: int) -> None:
        with self._changed:
            self._acknowledged = min(self._sent, self._acknowledged + count)
            self._changed.notify_all()

    def _tell(self, news: str) -> None:
        """Say it, unless it was the last thing said: a broker that refuses all night is one line."""
        if news != self._told:
            self._told = news
            self._say(news)


def device_topic(template: str, device: str) -> str:
    """Put a device's name, as one level, into a topic for `{device}`."""
    return template.replace("{device}", level(device))


def level(name: str) -> str:
    """A name as one level of a topic, percent-encoded outside `[A-Za-z0-9._~-]`."""
    return urllib.parse.quote(name, safe="")


def payload(sample: Sample) -> bytes:
    """The JSON that a device sends: `ts` (epoch seconds, whole) and its values. Never the label."""
    return msgspec.json.encode({"ts": int(sample.time), **sample.values})


def _split(url: str) -> tuple[urllib.parse.SplitResult, int]:
    """The parts of a broker's URL and its port, which has a default."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise BrokerError(f'expected mqtt://host:port, got a URL that has no valid port: "{_tame(url)}"') from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/"):
        raise BrokerError(f'expected mqtt://host:port or mqtts://host:port, got "{_tame(url)}"')
    return parts, port or _PORTS[parts.scheme]


def _tame(url: str) -> str:
    """The URL without what may be a password."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('//')[0]}//…@{tail}" if at else url
