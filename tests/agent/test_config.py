from pathlib import Path
from typing import Any

import pytest
import yaml

from vedette import config
from vedette.contract.errors import ConfigError

SMALLEST: dict[str, Any] = {
    "gateway": "gw-7",
    "broker": {"url": "mqtt://localhost"},
    "streams": [{"name": "fridges", "topic": "plant/+/fridge/{device}/telemetry", "model": "fridge"}],
}


def load(tmp_path: Path, **changes: Any) -> config.Config:
    path = tmp_path / "agent.yaml"
    path.write_text(yaml.safe_dump({**SMALLEST, **changes}))
    return config.load(path)


def refusal(tmp_path: Path, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def stream(**changes: Any) -> list[dict[str, Any]]:
    return [{**SMALLEST["streams"][0], **changes}]


def test_gateway_broker_and_a_stream_are_enough(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert (loaded.broker.host, loaded.broker.port, loaded.broker.tls, loaded.broker.protocol) == ("localhost", 1883, False, 5)
    assert (loaded.alerts.raise_.m, loaded.alerts.raise_.n) == (3, 5)
    assert loaded.limits.payload == 65536


def test_the_designs_example_is_read(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        broker={"url": "mqtts://broker.local:8884", "username": "vedette", "password_file": "/run/x", "protocol": "3.1.1"},
        streams=stream(payload={"time": {"field": "ts", "unit": "s"}, "fields": {"fridge_temperature": "temp.c"}}),
        alerts={"raise": "2 of 4", "clear": "5 of 5", "cooldown": "2m"},
        limits={"devices": 100, "payload": "16KiB", "queue": 500},
    )
    assert (loaded.broker.port, loaded.broker.tls, loaded.broker.protocol) == (8884, True, "3.1.1")
    assert (loaded.alerts.cooldown, loaded.limits.payload) == (120.0, 16384)
    assert loaded.streams[0].payload.fields == {"fridge_temperature": "temp.c"}


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "path"),
    [
        ("mqtt://h", "h", 1883, False, ""),
        ("mqtts://[::1]:1", "::1", 1, True, ""),
        ("ws://h", "h", 80, False, "/mqtt"),
        ("ws://h:9001/", "h", 9001, False, "/mqtt"),
        ("wss://h/a/b", "h", 443, True, "/a/b"),
        ("unix:///run/m.sock", "localhost", 1, False, "/run/m.sock"),
    ],
)
def test_every_kind_of_url_is_read(tmp_path: Path, url: str, host: str, port: int, tls: bool, path: str) -> None:
    broker = load(tmp_path, broker={"url": url}).broker
    assert (broker.host, broker.port, broker.tls, broker.path) == (host, port, tls, path)


def test_a_streams_alerts_are_those_of_all_streams_but_for_what_it_says(tmp_path: Path) -> None:
    common = {"raise": "2 of 4", "silent": "10m", "group": "30% within 60s"}
    both = [*stream(alerts={"silent": None, "threshold": 1.3}), *stream(name="ovens", topic="ovens/{device}")]
    loaded = load(tmp_path, streams=both, alerts=common)
    fridges, ovens = (loaded.alerts_of(each) for each in loaded.streams)
    assert (fridges.raise_.m, fridges.silent, fridges.threshold) == (2, None, 1.3)
    assert (ovens.raise_.m, ovens.silent, ovens.threshold) == (2, 600.0, 1.0)
    assert ovens.group is not None
    assert (ovens.group.share, ovens.group.within_s) == (0.3, 60.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gatewy": "x"}, 'agent.yaml: gatewy: unknown key; did you mean "gateway"?'),
        (
            {"streams": stream(payload={"zzz": 1})},
            "agent.yaml: streams[0].payload.zzz: unknown key; known keys: format, preset, time, fields, readings, columns, every, merge",
        ),
        ({"gateway": 7}, "agent.yaml: gateway: expected str, got int"),
        ({"gateway": "a/b"}, "agent.yaml: gateway: expected str matching regex '^[A-Za-z0-9._-]{1,64}$', got 'a/b'"),
        ({"broker": {}}, "agent.yaml: broker.url: missing, and it has no default"),
        (
            {"broker": {"url": "http://x"}},
            "agent.yaml: broker.url: expected mqtt://HOST[:PORT], mqtts://HOST[:PORT], ws://HOST[:PORT][/PATH],",
        ),
        ({"broker": {"url": "mqtt://x/mqtt"}}, "agent.yaml: broker.url: expected mqtt://HOST[:PORT], "),
        ({"broker": {"url": "ws://x/mqtt?token=1"}}, "agent.yaml: broker.url: expected mqtt://HOST[:PORT], "),
        ({"broker": {"url": "unix://run/m.sock"}}, "agent.yaml: broker.url: expected the absolute path of a socket, as in unix:///run/"),
        ({"broker": {"url": "unix:m.sock"}}, "agent.yaml: broker.url: expected the absolute path of a socket, as in unix:///run/"),
        (
            {"broker": {"url": "mqtt://x", "ca_file": "/ca"}},
            "agent.yaml: broker.ca_file: it is for TLS, and mqtt:// has none: say mqtts://",
        ),
        (
            {"broker": {"url": "unix:///s", "cert_file": "/c", "key_file": "/k"}},
            "agent.yaml: broker.cert_file: it is for TLS, and unix://",
        ),
        ({"broker": {"url": "wss://x", "cert_file": "/c"}}, "agent.yaml: broker: cert_file and key_file go together"),
        ({"broker": {"url": "mqtt://x:99999"}}, "agent.yaml: broker.url: Port out of range 0-65535"),
        ({"streams": []}, "agent.yaml: streams: at least one is needed"),
        ({"streams": stream() * 2}, 'agent.yaml: streams: the name "fridges" stands twice'),
        ({"streams": stream(topic="a/#/{device}")}, 'agent.yaml: streams[0].topic: "#" must be the last level, got "a/#/{device}"'),
        ({"streams": stream(topic="a/b{device}")}, 'agent.yaml: streams[0].topic: level "b{device}": +, #, {device} and {field}'),
        ({"streams": stream(topic="a/b")}, "agent.yaml: streams[0].topic: it names no device: put {device} in it, or say where the"),
        ({"streams": stream(device={"field": "id"})}, "agent.yaml: streams[0].device: the topic names the device already; drop one of the"),
        ({"streams": stream(qos=2)}, "agent.yaml: streams[0].qos: expected 0 or 1, got 2"),
        (
            {"streams": stream(payload={"time": {"field": "t", "unit": "sec"}})},
            "agent.yaml: streams[0].payload.time.unit: expected s, ms, us or iso, got 'sec'",
        ),
        ({"alerts": {"raise": "6 of 5"}}, 'agent.yaml: alerts.raise: expected "M of N" with 1 <= M <= N <= 64, such as 3 of 5, got'),
        ({"alerts": {"cooldown": "soon"}}, 'agent.yaml: alerts.cooldown: expected a duration such as 90, 60s, 45m or 7d, got "soon"'),
        ({"alerts": {"silent": 0}}, "agent.yaml: alerts.silent: expected more than 0, or null for none, got 0"),
        ({"alerts": {"stuck_features": ["t"]}}, "agent.yaml: alerts.stuck_features: needs stuck, which says for how long"),
        ({"alerts": {"group": "1 within 60s"}}, "agent.yaml: alerts.group: expected N within T, N at least 2, or P% within T, such as"),
        ({"alerts": {"drift_share": 2}}, "agent.yaml: alerts.drift_share: expected "),
        ({"streams": stream(alerts={"rise": "3 of 5"})}, 'agent.yaml: streams[0].alerts.rise: unknown key; did you mean "raise"?'),
        ({"updates": {"repository": "/models"}}, "agent.yaml: updates.root: missing, and it has no default"),
        (
            {"updates": {"repository": "models", "root": "r"}},
            "agent.yaml: updates.repository: expected https://HOST/PATH, http://HOST/PATH or",
        ),
        (
            {"updates": {"repository": "https://h/?x", "root": "r"}},
            "agent.yaml: updates.repository: must not hold a user, a password, ? or #",
        ),
        ({"updates": {"repository": "/m", "root": "r", "channel": "../x"}}, "agent.yaml: updates.channel: expected str matching regex"),
        ({"spool": {"bytes": 100}}, "agent.yaml: spool.bytes: expected at least 4KiB, got 100"),
        ({"spool": {"age": 0}}, "agent.yaml: spool.age: expected more than 0"),
        ({"spool": {"rows": 0}}, "agent.yaml: spool.rows: expected int >= 1, got 0"),
        ({"spool": {"failing": "stop"}}, "agent.yaml: spool.failing: expected "),
        ({"limits": {"devices": 0}}, "agent.yaml: limits.devices: expected int >= 1, got 0"),
    ],
)
def test_a_fault_is_one_line_with_the_keys_path(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert refusal(tmp_path, **changes).startswith(message)


def test_a_password_in_the_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for url in ("mqtt://user:secret@host", "http://user:secret@host"):
        message = refusal(tmp_path, broker={"url": url})
        assert "broker.url" in message and "secret" not in message
    for url in ("https://user:secret@host/models", "ftp://user:secret@host"):
        message = refusal(tmp_path, updates={"repository": url, "root": "root.json"})
        assert "updates.repository" in message and "secret" not in message


def test_a_carried_repository_needs_a_root_and_little_else(tmp_path: Path) -> None:
    updates = load(tmp_path, updates={"repository": "/media/usb/repo", "root": "/etc/vedette/root.json"}).updates
    assert updates and (updates.channel, updates.automatic, updates.delay, updates.ca_file) == ("stable", False, 3600.0, None)
    assert load(tmp_path).updates is None


def test_yaml_that_does_not_parse_says_where(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("gateway: gw\nbroker: {url: [\n")
    with pytest.raises(ConfigError, match=r"agent\.yaml: line \d+, column \d+: not valid YAML"):
        config.load(path)
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        config.load(tmp_path / "none.yaml")


def test_streams_that_share_a_filter_subscribe_once_with_the_higher_qos(tmp_path: Path) -> None:
    shared = [*stream(name="a", qos=1), *stream(name="b", qos=0)]
    assert load(tmp_path, streams=shared).subscriptions == [("plant/+/fridge/+/telemetry", 1)]
