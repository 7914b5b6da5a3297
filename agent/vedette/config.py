"""The agent's configuration: YAML into frozen structs, every default written here and nowhere else.

Rules this module keeps: an unknown key is an error; an error names the file, the key's path and what to do, in one line.
"""

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from vedette.broker import Broker, without_password
from vedette.contract import documents
from vedette.contract.durations import Duration, Size
from vedette.contract.manifest import Name
from vedette.contract.payloads.spec import PRESETS, PayloadSpec
from vedette.phrases import Crowd, Loopback, Rule, TrialLength
from vedette.topics import TopicFilter, announcement

Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
TopicPrefix = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every part of the configuration is."""


class Alerts(Struct, frozen=True, rename={"raise_": "raise"}):
    """When an alert begins, goes on and ends; times are event time, but for silence. A stream may have its own for any of them.

    Attributes:
        raise_: Windows at or over `threshold` that raise an alert.
        clear: Windows under `clear_below` that end it.
        threshold: A window counts from this score on. 1.0 is where the model has its threshold; more for one that finds too much.
        clear_below: In units of `threshold`.
        cooldown: After an end, no new alert of the device for this long.
        update: While an alert lasts, an update at most this often, and only if its peak has risen by a tenth.
        critical: From this peak on, in units of `threshold`, an alert's severity is critical rather than warning; a rise to it is told at
            once.
        drift_after: An alert that lasts this long, with most windows still over the threshold, ends and is told once more, as drift: the
            model no longer knows what is normal there, or nobody mends it.
        drift_share: At least this share of a stream's devices over the threshold at once is told as drift of the stream, instead of theirs;
            null for never.
        silent: A device of which nothing arrived for this long is silent; null for none.
        stuck: A number that was sent at least ten times and was the same for this long is stuck; null for none.
        stuck_features: The numbers to look at; null for all.
        group: So many devices' alerts of one kind within a time are told as one; null for never.
    """

    raise_: Rule = Rule(3, 5)
    clear: Rule = Rule(5, 5)
    threshold: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    clear_below: float = 0.9
    cooldown: Duration = Duration(60)
    update: Duration = Duration(900)
    critical: float = 2.0
    drift_after: Duration = Duration(86400)
    drift_share: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = 0.5
    silent: Duration | None = None
    stuck: Duration | None = None
    stuck_features: tuple[str, ...] | None = None
    group: Crowd | None = None

    def __post_init__(self) -> None:
        for name in ("silent", "stuck"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name}: expected more than 0, or null for none, got 0")
        if self.stuck_features is not None and self.stuck is None:
            raise ValueError("stuck_features: needs stuck, which says for how long")

    @property
    def of_devices(self) -> "Alerts":
        """These rules without those that look at more than a device's scores."""
        return msgspec.structs.replace(self, drift_share=None, silent=None, stuck=None, stuck_features=None, group=None)


class DeviceField(Struct, frozen=True):
    """Where a payload names its device.

    Attributes:
        field: A dotted path.
    """

    field: str


class Stream(Struct, frozen=True):
    """A set of devices of one kind: one topic, one payload mapping, one model.

    Attributes:
        name: In topics and alerts. Another one is another stream: what was known of its devices begins anew.
        topic: Of its messages: `{device}` is the level that names the device, `{device:#}` the rest of the topic, `{field}` what a bare
            value is of; `+` and `#` as in MQTT.
        model: Name of the bundle that scores it.
        payload: How its messages are read.
        device: Where the payload, and not the topic, names the device.
        qos: Asked of the broker. 1 for nothing lost; 0 is cheaper, and what arrives at a bad moment is gone.
        alerts: Where they are other than all streams'; a key that is not there is as it is for all.
    """

    name: Word
    topic: str
    model: Word
    payload: PayloadSpec = PayloadSpec()
    device: DeviceField | None = None
    qos: Literal[0, 1] = 1
    alerts: Alerts | None = None

    def __post_init__(self) -> None:
        try:
            names_device = self.filter.names_device
        except ValueError as error:
            raise ValueError(f'topic: {error}, got "{self.topic}"') from error
        if names_device == (self.device is not None):
            raise ValueError(
                "topic: it names no device: put {device} in it, or say where the payload does: device: {field: NAME}"
                if not names_device
                else "device: the topic names the device already; drop one of the two"
            )
        if self.filter.names_field and self.payload.format != "value":
            raise ValueError("topic: {field} is for bare values: say payload: {format: value}, or put + in its place")

    @property
    def filter(self) -> TopicFilter:
        """The compiled topic."""
        return TopicFilter(self.topic, self.payload.others)


class Limits(Struct, frozen=True):
    """What one device, one message or all together may take; what is beyond is refused or dropped, and counted.

    Attributes:
        devices: Of one stream. Past it the one least recently heard of gives way to a new one, but only so fast (docs/payloads.md).
        payload: A longer one is refused before anything else is looked at.
        keys: A JSON payload with more, in all its objects together, is refused before it is parsed; so is Sparkplug with more metrics.
        depth: A JSON payload nested deeper is refused before it is parsed.
        rate: Messages a second that one device may send for long; null or 0 for any number.
        burst: Messages that it may send at once: what a broker may have kept of it while the agent was away arrives together.
        queue: Messages that wait for the worker.
    """

    devices: Count = 10_000
    payload: Size = Size(64 * 1024)
    keys: Count = 10_000
    depth: Count = 32
    rate: Annotated[float, msgspec.Meta(ge=0)] | None = 100.0
    burst: Count = 10_000
    queue: Count = 10_000


class SpoolLimits(Struct, frozen=True):
    """How many alerts wait for a broker that does not take them, and what comes first where the disk fails.

    A hundred thousand alerts of about 600 bytes are 64 MiB: what a fleet of 10,000 devices raises in a bad week, and little enough for a
    gateway's flash, and for its memory while the disk fails. A week covers a long weekend without the one who mends the network; what is
    older has been seen on site or is past mending.

    Attributes:
        rows: Alerts at most. Past any of these, the oldest `update`s are dropped first, then the oldest episodes, and counted.
        bytes: Of their topics and payloads together, at most.
        age: An alert that has waited for longer is dropped and counted.
        failing: While the disk fails, `memory` acknowledges readings that only memory holds, so that the broker can drop them: the
            gateway goes on, and what it has not delivered yet is lost if it is switched off meanwhile. `hold`, with
            `durability: full`, acknowledges nothing: the broker keeps the readings, and sends no more than it sends unacknowledged.
    """

    rows: Count = 100_000
    bytes: Size = Size(64 * 1024**2)
    age: Duration = Duration(7 * 86400)
    failing: Literal["memory", "hold"] = "memory"

    def __post_init__(self) -> None:
        if self.bytes < 4096:
            raise ValueError(f"bytes: expected at least 4KiB, got {self.bytes}")
        if not self.age:
            raise ValueError("age: expected more than 0")


class Updates(Struct, frozen=True):
    """Where signed bundles come from. Where this is configured, nothing unsigned goes live.

    Attributes:
        repository: `https://HOST/PATH`, `http://…`, or a folder: what `vedette publish --repo` wrote, wherever it was carried.
        root: The publisher's root.json, which says whom to trust; brought here by hand, once.
        channel: Which bundles of the repository are for this gateway.
        automatic: Whether an announcement on the broker starts an update.
        delay: Such an update starts after a random time up to this, so that a fleet does not ask all at once.
        ca_file: Certificates to trust instead of the system's, for https.
    """

    repository: str
    root: str
    channel: Name = "stable"
    automatic: bool = False
    delay: Duration = Duration(3600)
    ca_file: str | None = None

    def __post_init__(self) -> None:
        check_repository(self.repository)


class HomeAssistant(Struct, frozen=True):
    """Home Assistant is told of every device, by MQTT discovery. Where this is configured, even as `{}`, it is.

    Attributes:
        prefix: Its discovery prefix.
        birth: Where it says `online` when it has started; it is told of every device again then.
        gone_after: A device that is not heard of for so long, while the agent can hear, is removed; null for never.
    """

    prefix: TopicPrefix = "homeassistant"
    birth: TopicPrefix = "homeassistant/status"
    gone_after: Duration | None = Duration(7 * 86400)

    def __post_init__(self) -> None:
        if self.gone_after is not None and not self.gone_after:
            raise ValueError("gone_after: expected more than 0, or null for never, got 0")


def default_state_dir() -> str:
    """Systemd's StateDirectory, or what that is for the service."""
    return os.environ.get("STATE_DIRECTORY", "/var/lib/vedette")


def check_repository(repository: str) -> None:
    """See that a repository is named in a way that can be followed.

    Raises:
        ValueError: it is neither a web address nor a folder's absolute path.
    """
    parts = urlsplit(repository)
    web = parts.scheme in {"http", "https"} and parts.hostname
    if not web and not repository.startswith("/"):
        raise ValueError(f'repository: expected https://HOST/PATH, http://HOST/PATH or /A/FOLDER, got "{without_password(repository)}"')
    if web and (parts.query or parts.fragment or "@" in parts.netloc):
        raise ValueError(f'repository: must not hold a user, a password, ? or #, got "{without_password(repository)}"')


class Metrics(Struct, frozen=True):
    """Where Prometheus may scrape the agent.

    Attributes:
        listen: On this machine only: there is neither a password nor TLS.
    """

    listen: Loopback = Loopback("127.0.0.1", 9464)


class Config(Struct, frozen=True):
    """agent.yaml.

    Attributes:
        gateway: This gateway's name in topics and alerts, and, as `vedette-GATEWAY`, with the broker: no two may have the same.
        broker: Where telemetry comes from and alerts go to.
        streams: What to watch.
        alerts: When an alert begins, goes on and ends, for all streams.
        limits: What one device, one message or all together may take.
        spool: What waits for a broker that is away.
        prefix: What the agent's own topics start with.
        state_dir: Where bundles and undelivered alerts are kept; under systemd its StateDirectory.
        updates: Where signed bundles come from; without it bundles are installed by hand, signed or not.
        metrics: Where Prometheus may scrape the agent; without it nothing listens.
        durability: What survives a sudden end beside alerts, which always do. `full`: every reading, on disk before it is acknowledged.
            `periodic`: all but the readings of the last `flush_every`. `memory`: only what an orderly end saves.
        flush_every: With `periodic`, how often what arrived goes to disk.
        trial: How long a new model is tried beside the one that is live before it takes its place.
        state_every: A device's state is published at most this often; 0 turns it off. Longer where many devices make too much of it.
        stats_every: How often counters are published, and what `vedette status` and Prometheus are told is renewed.
        home_assistant: How Home Assistant is told of devices; without it, it is not.
    """

    gateway: Word
    broker: Broker
    streams: tuple[Stream, ...]
    alerts: Alerts = Alerts()
    limits: Limits = Limits()
    spool: SpoolLimits = SpoolLimits()
    updates: Updates | None = None
    metrics: Metrics | None = None
    durability: Literal["full", "periodic", "memory"] = "full"
    flush_every: Duration = Duration(10)
    trial: TrialLength = TrialLength(seconds=600)
    prefix: TopicPrefix = "vedette"
    state_dir: str = msgspec.field(default_factory=default_state_dir)
    state_every: Duration = Duration(10)
    stats_every: Duration = Duration(30)
    home_assistant: HomeAssistant | None = None

    def alerts_of(self, stream: Stream) -> Alerts:
        """A stream's rules."""
        return stream.alerts or self.alerts

    @property
    def announcements(self) -> dict[str, str]:
        """Topics on which publishers announce this gateway's models, and the model of each; empty where they are not followed."""
        if self.updates is None or not self.updates.automatic:
            return {}
        return {announcement(self.prefix, stream.model): stream.model for stream in self.streams}

    @property
    def aside(self) -> list[str]:
        """Topics of what is no telemetry: announcements, and where Home Assistant says that it has started."""
        return [*self.announcements, *([self.home_assistant.birth] if self.home_assistant else [])]

    @property
    def subscriptions(self) -> list[tuple[str, int]]:
        """MQTT filters and their QoS; where streams share a filter, the highest that one of them asks for."""
        qos: dict[str, int] = {}
        for stream in self.streams:
            subscription = stream.filter.subscription
            qos[subscription] = max(stream.qos, qos.get(subscription, 0))
        return [*qos.items(), *((topic, 1) for topic in self.aside)]

    def __post_init__(self) -> None:
        names = [stream.name for stream in self.streams]
        if not names:
            raise ValueError("streams: at least one is needed")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f'streams: the name "{min(twice)}" stands twice')
        if self.home_assistant and not self.state_every:
            raise ValueError("home_assistant: it shows devices' states: set state_every to more than 0, such as 10s")


def load(path: Path) -> Config:
    """Read agent.yaml.

    Raises:
        ConfigError: one line with the file, the key's path, what was wrong and what is expected.
    """
    return documents.load(path, Config, _complete)


def _complete(document: object) -> object:
    """Write out what streams leave to others: a preset's name alone, its topic, and alert rules that are those of all streams."""
    if not isinstance(document, dict) or not isinstance(document.get("streams"), list):
        return document
    return {**document, "streams": [_with_preset(_with_common(stream, document.get("alerts"))) for stream in document["streams"]]}


def _with_common(stream: object, common: object) -> object:
    if isinstance(stream, dict) and isinstance(common, dict) and isinstance(own := stream.get("alerts"), dict):
        return {**stream, "alerts": {**common, **own}}
    return stream


def _with_preset(stream: object) -> object:
    if not isinstance(stream, dict) or not (payload := stream.get("payload")):
        return stream
    if isinstance(payload, str):
        payload = {"preset" if payload in PRESETS else "format": payload}
    preset = PRESETS.get(str(payload.get("preset"))) if isinstance(payload, dict) else None
    return {**({"topic": preset.topic} if preset else {}), **stream, "payload": payload}
