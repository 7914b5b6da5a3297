"""What fuzzing starts from: samples of what each target reads, good and bad."""

import json
import struct
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import yaml

import sparkplug
from bundles import DOOR, TEMPERATURE, make_bundle
from hostile import CASES
from vedette.contract import bundle, manifest, saved


def _objects(*values: object) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


def _publish(topic: bytes, payload: bytes, qos: int, properties: bytes) -> bytes:
    body = struct.pack(">H", len(topic)) + topic + (b"\0\7" if qos else b"") + properties + payload
    return bytes([0x30 | qos << 1]) + (bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])) + body


def seeds() -> Mapping[str, Sequence[bytes]]:
    """Samples by target."""
    hostile = [payload[:4200] for payload, _ in CASES.values()]
    good = {"ts": 1_790_000_000, "id": "d", "temperature": 4.2, "door": "shut"}
    packed = make_bundle(features=(TEMPERATURE, DOOR))
    agent = {
        "gateway": "gw-7",
        "broker": {"url": "mqtts://b:8883", "username": "v", "password_file": "/p", "protocol": "3.1.1"},
        "streams": [
            {
                "name": "s",
                "topic": "plant/+/{device}/t",
                "model": "m",
                "payload": {"time": {"field": "ts", "unit": "iso"}, "fields": {"a": "b.c[0]"}},
            },
            {"name": "z", "model": "m", "payload": "zigbee2mqtt", "alerts": {"raise": "2 of 3", "silent": "5m", "group": "30% within 60s"}},
        ],
        "alerts": {"cooldown": "60s", "stuck": 60, "drift_share": None},
        "limits": {"devices": 10, "payload": "64KiB", "rate": None},
        "updates": {"repository": "https://h/p", "root": "/r", "automatic": True, "delay": "1h"},
        "trial": "500 windows",
    }
    metric = {"name": "T", "alias": 1, "datatype": sparkplug.DOUBLE, "double_value": 4.2, "timestamp": 1_790_000_000_000}
    born = sparkplug.payload(metric, {"name": "bdSeq", "datatype": 8, "long_value": 3}, timestamp=1_790_000_000_000, seq=0)
    told = sparkplug.payload({"alias": 1, "double_value": 5.0, "is_historical": True}, {"name": "Door", "string_value": "x"}, seq=1)
    array = bundle._array_bytes(np.zeros(3, dtype=np.float32))
    entry = {"version": "1.0.0", "sha256": "0" * 64, "signed": True}
    line = {"topic": "t/d", "payload": good, "time": 1.5, "retain": True}
    messages = [_publish(b"t/d", b'{"a":1}', qos, properties) for qos in (0, 1) for properties in (b"", b"\0", b"\x05\x23\0\1\x01\x01")]
    return {
        "json": [*_objects(good), *hostile],
        "json_iso_merge": [*_objects({**good, "ts": "2026-09-21T14:06:40+02:00", "a": [0, {"t": 3}], "door": None}), *hostile],
        "series": [*_objects({"id": "d", "r": [good, {**good, "temperature": None}, {}]}, {"r": []}), *hostile],
        "columns": [*_objects({"temperature": [1, 2, None], "door": ["a", "b", "c"]}, {"temperature": [], "door": 1}), *hostile],
        "value": [b"4.2", b" -1e9\n", b"nan", b"ON", b"\xff", b"1e999", b"9" * 400],
        "senml": [
            *_objects([{"bn": "urn:d:", "bt": 1.79e9, "bver": 10, "n": "temperature", "v": 1, "s": 2}, {"n": "door", "vs": "x", "t": -5}]),
            b'[{"n_":1}]',
            b"\x81",
            *hostile,
        ],
        "sparkplug": [bytes([1 + len(born)]) + born + told, b"\x05" + told, born, told],
        "protobuf": [born, told, b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b", b"\x12\xff\xff\xff\xff\x0f"],
        "topics": [
            b"plant/a/d/t",
            b"$SYS/x",
            b"home/d/f",
            b"../..",
            b"a/{device}/#",
            "ü%+#\n".encode(),
            b"{device:#}",
            b"x" * 1025,
            b"...",
        ],
        "config": [
            yaml.safe_dump(agent).encode(),
            b"a: &x [*x]",
            b"\xff",
            b"%YAML 9",
            b"? [a]: b",
            b"!!python/object:a {}",
            *_objects(agent),
        ],
        "config_values": [*_objects(agent), *_objects({**agent, "limits": {"payload": "9" * 400}}, {**agent, "stats_every": "9" * 400})],
        "manifest": [manifest.encode(bundle.read(packed).manifest), b"{}", b'{"format": 2}', b'{"format": ' + b"9" * 400 + b"}"],
        "bundle": [packed, packed[:-71], packed.replace(b"manifest.json", b"manifest.jsoN")],
        "golden": [array, array.replace(b"(3,)", b"(9" + b"9" * 13 + b",)"), array.replace(b"'<f4'", b"'|O8'"), array.replace(b"}", b"(")],
        "record": _objects({"live": entry, "candidate": entry, "refused": [{**entry, "time": 1, "reason": "x"}]}, {}, {"format": 2}),
        "announcement": _objects({"name": "m", "channels": {"stable": {"version": "1.0.0", "sha256": "0" * 64}}}),
        "recording": [
            msgspec.json.encode(line) + b"\n" + json.dumps({**line, "payload": "text", "time": None}).encode() + b"\n",
            json.dumps({"topic": "t", "payload_base64": "AP8=", "receivedTimestamp": "2026-09-21T14:06:40Z"}).encode(),
            *hostile[:8],
        ],
        "saved": [
            saved.encode({"names": ["a", "b"], "heard": np.arange(2), "count": 3, "none": None, "deep": {"x": [1.5, b"z", True]}}),
            saved.encode({"record": np.zeros(2, dtype=[("time", "f8"), ("values", "f4", (3,))])}),
        ],
        "frames": [b"\x82\x03abc", b"\x02\x01a\x80\x01b", b"\x82\x7e\0\x7e" + bytes(126), b"\x89\x02hi\x82\x01a", b"\x88\x02\x03\xe8"],
        "packets": [*messages, b"".join(messages), b"\xd0\0", b"\x30\xff\xff\xff\xff\x01", b"\x30\0", b"\x90\x03\0\1\1"],
    }
