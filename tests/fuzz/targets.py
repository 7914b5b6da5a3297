"""What `make fuzz` throws bytes at: one function for each reader of what somebody else wrote.

Rules this module keeps: a target returns, whatever the bytes, or raises what no reader declares; nothing but the agent's own environment
is imported; the time is always the same.
"""

import contextlib
import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vedette import config, topics
from vedette.contract import announcement, bundle, manifest, recordings, saved
from vedette.contract.durations import Duration
from vedette.contract.errors import BundleError, ConfigError, HistoryError, ReadingError, SavedError, UpdateError
from vedette.contract.features import Category, FeatureSpec, Number
from vedette.contract.payloads import PayloadSpec, TimeField, decoder_for, protobuf
from vedette.contract.readings import Decoder, Message, PayloadLimits
from vedette.packets import Packets
from vedette.records import Record
from vedette.websocket import WebSocket

NOW = 1_790_000_000.0
SPEC: FeatureSpec = (Number(name="temperature"), Category(name="door"))
LIMITS = PayloadLimits(max_bytes=4096, max_gap_s=3600, max_keys=100, max_depth=8)
TS = TimeField(field="ts")
FILTERS = tuple(map(topics.TopicFilter, ("plant/+/{device}/t", "{device:#}", "home/{device}/{field}", "a/{device}/#", "+/{device}")))
COMMENT = b"sha256:"
"""What stands before the digest at a bundle's end, 71 bytes in all."""

Target = Callable[[bytes], None]


class Aim(NamedTuple):
    """A target and its part of all executions: cheap ones get more."""

    target: Target
    weight: float = 1.0


def _decode(make: Callable[[], Decoder], device: str = "") -> Target:
    """Alone, among others, or kept by the broker, as the length has it; every message is accounted for."""
    subject = make()

    def target(data: bytes) -> None:
        message = Message("t", data, NOW)
        turn = len(data) % 4
        messages = [message._replace(retained=turn == 3)] * (4 if turn == 1 else 1)
        read = subject.decode_batch(messages, [device] * len(messages))
        assert read.accepted + read.rejected.total() == len(messages)
        assert len(read.devices) == len(read.times) == len(read.arrived) == len(read.values) == len(read.messages) == len(read)
        for name, at in zip(read.devices, read.times, strict=True):
            assert name.isprintable() and 0 <= at <= NOW + 600
            topics.escape(name)
        if turn == 2:
            subject.unused(message)

    return target


def _json(device_field: str | None = "id", **spec: Any) -> Target:
    return _decode(lambda: decoder_for(PayloadSpec(**spec), SPEC, device_field, limits=LIMITS), "d")


def _bare(data: bytes) -> None:
    _NUMBERS(data)
    _TEXTS(data)


_NUMBERS = _decode(lambda: decoder_for(PayloadSpec(format="value", fields={"temperature": ""}), SPEC[:1]), "d")
_TEXTS = _decode(lambda: decoder_for(PayloadSpec(format="value", fields={"door": ""}), SPEC[1:]), "d")


def _sparkplug(data: bytes) -> None:
    """A birth and data after it, cut at a byte that the first one names; the decoder remembers across all inputs, as a real one does."""
    cut = data[0] % (len(data) or 1) if data else 0
    kinds = ("NBIRTH", "DBIRTH", "DDATA", "NDATA", "DDEATH", "NDEATH")
    for number, part in enumerate((data[:cut], data[cut:])):
        kind = kinds[(len(data) + number) % len(kinds)]
        topic = f"spBv1.0/plant/{kind}/edge" + ("/d" if kind[0] == "D" else "")
        read = _SPARKPLUG.decode_batch([Message(topic, part, NOW)], ["edge/d"])
        assert read.accepted + read.rejected.total() == 1
        _SPARKPLUG.unused(Message(topic, part, NOW))


_SPARKPLUG = decoder_for(
    PayloadSpec(format="sparkplug", fields={"temperature": "T", "door": "Door"}),
    SPEC,
    topic=topics.TopicFilter("spBv1.0/plant/+/{device:#}"),
)


def _protobuf(data: bytes) -> None:
    with contextlib.suppress(ReadingError):
        for field in protobuf.read_fields(data):
            assert field.number >= 0 and len(field.data) <= len(data)


def _topics(data: bytes) -> None:
    """A topic for every filter, and a filter of its own."""
    topic = data.decode("utf-8", "replace")
    for each in FILTERS:
        device = each.match(topic)
        each.field(topic)
        assert not (device and topic.startswith("$"))
    escaped = topics.escape(topic)
    assert escaped.isascii() and not set(escaped) & set("/+#$\0\n \\~") and (not topic or escaped.strip("."))
    with contextlib.suppress(ValueError):
        own = topics.TopicFilter(topic)
        own.match(topic)
        own.match(own.fill("d"))


def _through_file(read: Callable[[Path], object], *declared: type[Exception]) -> Target:
    path = Path(tempfile.gettempdir()) / f"vedette-fuzz-{os.getpid()}.yaml"

    def target(data: bytes) -> None:
        path.write_bytes(data)
        try:
            with contextlib.suppress(*declared):
                read(path)
        finally:
            path.unlink()

    return target


def _yaml_config(data: bytes) -> None:
    """JSON is YAML: one that only has to be plausible is read quickly, so that more of what comes behind YAML is tried."""
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    with contextlib.suppress(msgspec.ValidationError):
        msgspec.convert(config._complete(document), config.Config, dec_hook=lambda type_, value: type_.parse(value))


def _manifest(data: bytes) -> None:
    with contextlib.suppress(BundleError):
        manifest.decode(data)


def _bundle(data: bytes) -> None:
    """As it is, and with a digest that is right: whoever makes a bundle can seal it."""
    for sealed in (data, data[:-71] + COMMENT + hashlib.sha256(data[:-71]).hexdigest().encode()):
        with contextlib.suppress(BundleError):
            bundle.read(sealed)


def _golden(data: bytes) -> None:
    """An array within a bundle, which its archive's own checksums keep mutations from."""
    with contextlib.suppress(BundleError):
        bundle._array({"golden": data}, "golden", 1)


def _record(data: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        msgspec.json.decode(data, type=Record)


def _announcement(data: bytes) -> None:
    with contextlib.suppress(UpdateError):
        announcement.decode(data)


def _recording(path: Path) -> None:
    recordings.is_recording(path)
    for _ in recordings.read_objects(path):
        pass
    for message in recordings.read_messages(path):
        assert isinstance(message.payload, bytes)


def _saved(data: bytes) -> None:
    with contextlib.suppress(SavedError):
        saved.encode(saved.decode(data))


def _packets(data: bytes) -> None:
    """MQTT 5 and 3.1.1, at once and in two pieces."""
    for has_properties in (True, False):
        # Two connections: what is left out of a message that is too long goes on where the bytes end.
        whole, parts = (Packets(has_properties=has_properties, max_packet=100, on_other=lambda packet: None) for _ in range(2))
        with contextlib.suppress(ConnectionError):
            rest = whole.take(data, 0.0)
            half = len(data) // 2
            assert parts.take(parts.take(data[:half], 0.0) + data[half:], 0.0) == rest
            assert parts.take_burst() == whole.take_burst()


def _frames(data: bytes) -> None:
    """WebSocket frames, at once and in two pieces."""
    near, far = socket.socketpair()
    with near, far, contextlib.suppress(ConnectionError):
        near.setblocking(False)
        whole, parts = (WebSocket(near) for _ in range(2))
        half = len(data) // 2
        assert parts._unwrap(data[:half]) + parts._unwrap(data[half:]) == whole._unwrap(data)


TARGETS: Mapping[str, Aim] = {
    "json": Aim(_json(time=TS), 3.0),
    "json_iso_merge": Aim(_json(time=TimeField(field="ts", unit="iso"), merge=True, fields={"temperature": "a[1].t"}), 2.0),
    "series": Aim(_json(time=TS, readings="r"), 2.0),
    "columns": Aim(_json(None, columns=".", every=Duration(10)), 2.0),
    "value": Aim(_bare, 4.0),
    "senml": Aim(_decode(lambda: decoder_for(PayloadSpec(format="senml"), SPEC, "n", limits=LIMITS)), 2.0),
    "sparkplug": Aim(_sparkplug, 2.0),
    "protobuf": Aim(_protobuf, 15.0),
    "topics": Aim(_topics, 4.0),
    "config": Aim(_through_file(config.load, ConfigError), 0.2),
    "config_values": Aim(_yaml_config, 4.0),
    "manifest": Aim(_manifest, 4.0),
    "bundle": Aim(_bundle, 0.5),
    "golden": Aim(_golden, 2.0),
    "record": Aim(_record, 15.0),
    "announcement": Aim(_announcement, 15.0),
    "recording": Aim(_through_file(_recording, HistoryError), 0.5),
    "saved": Aim(_saved, 4.0),
    "packets": Aim(_packets, 15.0),
    "frames": Aim(_frames, 4.0),
}


def shares(executions: int, least: int, names: Sequence[str] = tuple(TARGETS)) -> dict[str, int]:
    """How often each target is to be run, so that all are as often as asked, and each at least as often as said."""
    total = sum(TARGETS[name].weight for name in names)
    return {name: max(least, round(executions * TARGETS[name].weight / total)) for name in names}
