"""Home Assistant: every device, stream and the gateway announced to it by MQTT discovery, and removed when it is gone.

By its device-based discovery (Home Assistant 2024.12 and newer): one retained message on PREFIX/device/ID/config for each. Rules this
module keeps: ids are the same for ever, no two names share one, and they are of the characters that Home Assistant allows; what is
announced is noted on disk before, so that whichever process runs when it is gone can remove it; so many messages a second, whatever
happens.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from vedette import __version__, config
from vedette.pipeline import Pipeline
from vedette.retained import Left, Retained
from vedette.state import Key, Publisher, StateBoard
from vedette.topics import AgentTopics

PER_SECOND = 200
"""Messages: ten thousand devices take less than a minute, and a broker keeps a thousand messages for a slow subscriber at least."""

_MOST_SAVED_UP = 50
"""So many at once after a pause."""

LOOK_EVERY_S = 60.0
"""How often it is looked for devices that are gone: at most, and fifty times within the time after which they are."""

GATEWAY: Key = "", ""

_PLAIN = re.compile(rb"[^A-Za-z0-9-]")
_AVAILABLE = "{{ 'offline' if value == 'offline' else 'online' }}"  # it may be degraded, too
_ATTRIBUTES = (
    "{{ {'alert': value_json.alert, 'kind': value_json.get('kind'), 'severity': value_json.get('severity'), "
    "'started': value_json.get('started'), 'explanation': value_json.get('explanation', [])} | tojson }}"
)
_ATTRIBUTES_OF_STREAM = _ATTRIBUTES.replace("} | tojson", ", 'devices': value_json.get('devices')} | tojson")


def object_id(*names: str) -> str:
    """An id of the letters, digits, - and _ that Home Assistant allows, of names of any text; no others give the same one."""
    return "__".join(_PLAIN.sub(lambda found: b"_%02x" % found[0][0], name.encode()).decode() for name in ("vedette", *names))


class Announcements:
    """What Home Assistant is told: topics and payloads.

    Args:
        settings: As configured.
        gateway: Its name.
        topics: The agent's.
    """

    def __init__(self, settings: config.HomeAssistant, gateway: str, topics: AgentTopics) -> None:
        self._settings, self._gateway, self._topics = settings, gateway, topics

    def topic(self, key: Key) -> str:
        """Where a device, a stream or the gateway is announced."""
        return f"{self._settings.prefix}/device/{self._id(key)}/config"

    def state(self, key: Key) -> str:
        """Where its state is."""
        return self._topics.state(*key) if key != GATEWAY else self._topics.status

    def payload(self, key: Key) -> bytes:
        """What is announced."""
        if key == GATEWAY:
            return msgspec.json.encode(self._of_gateway())
        return msgspec.json.encode(self._of_device(key) if key[1] else self._of_stream(key))

    def _id(self, key: Key) -> str:
        return object_id(self._gateway, *filter(None, key))

    def _of_device(self, key: Key) -> dict[str, Any]:
        stream, device = key
        score = {
            "platform": "sensor",
            "unique_id": f"{self._id(key)}__score",
            "name": "Score",
            "icon": "mdi:gauge",
            "state_class": "measurement",
            "suggested_display_precision": 2,
            "value_template": "{{ value_json.score }}",
        }
        return {
            "device": self._device(key, device, stream, (stream, "")),
            "components": {"problem": self._problem(key, _ATTRIBUTES), "score": score},
            **self._common(key),
        }

    def _of_stream(self, key: Key) -> dict[str, Any]:
        """What is told of many devices at once."""
        name = f"{self._gateway} {key[0]}"
        return {
            "device": self._device(key, name, "Stream", GATEWAY),
            "components": {"problem": self._problem(key, _ATTRIBUTES_OF_STREAM)},
            **self._common(key),
        }

    def _of_gateway(self) -> dict[str, Any]:
        is_on = "{{{{ 'ON' if {} else 'OFF' }}}}"
        connected = {
            "platform": "binary_sensor",
            "unique_id": f"{self._id(GATEWAY)}__connected",
            "name": "Connection",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": self._topics.status,
            "value_template": is_on.format("value != 'offline'"),
        }
        degraded = {
            "platform": "binary_sensor",
            "unique_id": f"{self._id(GATEWAY)}__problem",
            "name": "Problem",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": self._topics.status,
            "value_template": is_on.format("value.startswith('degraded')"),
            **self._availability(),
        }
        open_ = {
            "platform": "sensor",
            "unique_id": f"{self._id(GATEWAY)}__open",
            "name": "Open alerts",
            "icon": "mdi:alert-outline",
            "state_class": "measurement",
            "state_topic": self._topics.stats,
            "value_template": "{{ value_json.streams.values() | sum(attribute='open') }}",
            **self._availability(),
        }
        return {
            "device": self._device(GATEWAY, f"Vedette {self._gateway}", "Gateway", None),
            "components": {"connected": connected, "problem": degraded, "open": open_},
            "origin": _ORIGIN,
            "qos": 1,
        }

    def _problem(self, key: Key, attributes: str) -> dict[str, Any]:
        return {
            "platform": "binary_sensor",
            "unique_id": f"{self._id(key)}__problem",
            "name": "Problem",
            "device_class": "problem",
            "value_template": "{{ 'ON' if value_json.alert else 'OFF' }}",
            "json_attributes_topic": self.state(key),
            "json_attributes_template": attributes,
        }

    def _device(self, key: Key, name: str, model: str, via: Key | None) -> dict[str, Any]:
        more = {"via_device": self._id(via)} if via else {"sw_version": __version__}
        return {"identifiers": [self._id(key)], "name": name, "manufacturer": "Vedette", "model": model, **more}

    def _common(self, key: Key) -> dict[str, Any]:
        return {"origin": _ORIGIN, "state_topic": self.state(key), "qos": 1, **self._availability()}

    def _availability(self) -> dict[str, str]:
        return {"availability_topic": self._topics.status, "availability_template": _AVAILABLE}


_ORIGIN = {"name": "Vedette", "sw_version": __version__}


class Discovery:
    """Announces what is there, and removes what is not.

    Args:
        announcements: None where Home Assistant is no longer to be told: all that was announced is removed.
        gone_after_s: A device that was not heard of for so long is gone; None for never.
        streams: Names of those that are configured.
        topics: The agent's.
        retained: Knows what was announced; loaded.
        connection: To the broker.
        surely_s: What was published so long ago has arrived, if the connection still stands.
    """

    def __init__(
        self,
        announcements: Announcements | None,
        gone_after_s: float | None,
        streams: Sequence[str],
        topics: AgentTopics,
        retained: Retained,
        connection: Publisher,
        surely_s: float,
    ) -> None:
        self._announcements, self._gone_after_s, self._retained = announcements, gone_after_s or math.inf, retained
        self._connection, self._surely_s = connection, surely_s
        self._topics: dict[Key, str] = {}  # of what is announced
        self._heard: dict[Key, float] = {}  # devices that the pipeline has known since the start, and when they were heard of last
        self._due: dict[str, None] = {}  # topics on which something is to be published, in order
        self._leaving: dict[str, float] = {}  # topics that are emptied, and when that was done; infinite for not yet
        self._stateless: set[str] = set()  # of those, the ones whose state goes, too
        self._evicted = 0
        self._is_born = False
        self._saved_up = 0.0
        self._last: float | None = None
        self._look_due = -math.inf
        left = retained.of("discovery")
        # Of all that was heard of, on a clock that stands still while nobody can be: it goes on where it was.
        self._clock = max((each.heard for each in left), default=0.0)
        fixed = [GATEWAY, *((stream, "") for stream in streams)] if announcements else []
        for key in fixed:  # the gateway first: the others are by way of it
            self._announce(key)
        for each in left:
            key = each.stream, each.device
            if announcements and each.device and each.stream in streams and each.topic == announcements.topic(key):
                self._topics[key] = each.topic
                self._due[each.topic] = None
            elif each.topic not in self._due:
                is_current = each.stream in streams and each.state == topics.state(*key)
                self._leave(each.topic, with_state=bool(each.stream) and not is_current)

    def born(self) -> None:
        """Home Assistant has started: it is told of everything again. May be called by the network's thread."""
        self._is_born = True

    def reconnected(self) -> None:
        """What was on its way may be lost, and the broker may have lost all that it kept."""
        self._leaving = dict.fromkeys(self._leaving, math.inf)
        self._due = dict.fromkeys([*self._topics.values(), *self._leaving])

    def hear(self, keys: Iterable[Key]) -> None:
        """Take note of devices that were scored."""
        if self._announcements is None:
            return
        for key in keys:
            if key not in self._topics:
                self._announce(key)
            self._heard[key] = self._clock

    def turn(self, now: float, board: StateBoard, pipeline: Pipeline, *, connected: bool) -> None:
        """Publish as much as may be published now.

        Args:
            now: Monotonic clock, seconds.
            board: Is told whose state is no more.
            pipeline: Knows devices.
            connected: Whether devices can be heard.
        """
        passed = now - self._last if self._last is not None else 0.0
        self._last = now
        if not connected:
            return
        self._clock += passed
        if self._is_born:
            self._is_born = False
            self._due = dict.fromkeys([*self._topics.values(), *self._due])
        if now >= self._look_due and self._announcements:
            self._look_due = now + min(LOOK_EVERY_S, self._gone_after_s / 50)
            for key in self._find_gone(pipeline):
                board.remove(key)
            self._note_heard(self._gone_after_s / 50)
        self._saved_up = min(_MOST_SAVED_UP, self._saved_up + passed * PER_SECOND)
        if self._due or self._leaving:
            self._publish(now, board, pipeline)

    def stop(self) -> None:
        """Have on disk when devices were heard of."""
        if self._announcements:
            self._note_heard(0.0)
            self._retained.settle()

    def _announce(self, key: Key) -> None:
        assert self._announcements
        topic = self._topics[key] = self._announcements.topic(key)
        self._retained.note([Left(topic, "discovery", *key, state=self._announcements.state(key), heard=self._clock)])
        self._leaving.pop(topic, None)
        self._stateless.discard(topic)
        self._due[topic] = None

    def _leave(self, topic: str, *, with_state: bool) -> None:
        self._leaving[topic] = math.inf
        self._due[topic] = None
        if with_state:
            self._stateless.add(topic)

    def _find_gone(self, pipeline: Pipeline) -> list[Key]:
        """Begin to remove the devices that are gone, and name them."""
        has_evicted, self._evicted = pipeline.evicted != self._evicted, pipeline.evicted
        gone: list[Key] = []
        for key, topic in self._topics.items():
            if not key[1]:
                continue
            before = self._retained.kept[topic].heard
            if pipeline.knows(*key):
                self._heard.setdefault(key, before)
            elif has_evicted and key in self._heard:
                gone.append(key)
                continue
            if self._clock - self._heard.get(key, before) >= self._gone_after_s:
                gone.append(key)
        for key in gone:
            self._heard.pop(key, None)
            self._leave(self._topics.pop(key), with_state=True)
        return gone

    def _note_heard(self, older_s: float) -> None:
        """Note what is newer by so much than what is noted."""
        self._heard[GATEWAY] = self._clock
        lefts = ((self._retained.kept[self._topics[key]], heard) for key, heard in self._heard.items())
        self._retained.note([msgspec.structs.replace(left, heard=heard) for left, heard in lefts if heard - left.heard > older_s])

    def _publish(self, now: float, board: StateBoard, pipeline: Pipeline) -> None:
        self._retained.settle()
        while self._due and self._saved_up >= 1:
            topic = next(iter(self._due))
            left = self._retained.kept[topic]
            key = left.stream, left.device
            if topic in self._leaving:
                emptied = [topic, left.state] if topic in self._stateless else [topic]
                is_sent = all(self._connection.publish(each, b"", retain=True) is not None for each in emptied)
            else:
                assert self._announcements
                is_sent = self._connection.publish(topic, self._announcements.payload(key), retain=True) is not None
                if left.stream and not left.device:
                    board.show(key, pipeline, now)
            if not is_sent:
                return
            del self._due[topic]
            self._saved_up -= 1
            if topic in self._leaving:
                self._leaving[topic] = now
        arrived = [topic for topic, since in self._leaving.items() if now - since >= self._surely_s]
        for topic in arrived:
            del self._leaving[topic]
            self._stateless.discard(topic)
        self._retained.forget(arrived)
