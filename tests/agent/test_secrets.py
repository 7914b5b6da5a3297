"""Secrets stay out of whatever the agent says, and what devices send cannot write its log."""

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from agents import Agent, Watcher, vedette, write_config
from brokers import Mosquitto, free_port
from bundles import install, make_bundle
from vedette import config
from vedette.contract.errors import VedetteError
from vedette.mqtt import Connection
from vedette.visits import probe, publish_once

SECRET = "hunter2-hunter2"
KEY = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
HOSTILE = ("a\nERROR forged: line", "\x1b[2Jcleared", "%s%n%(name)s{0}", "../../etc/passwd", "ü" * 64, "x" * 5000, "$SYS/+/#")


def guarded(folder: Path, content: bytes = SECRET.encode(), **broker: str) -> Path:
    """A configuration that logs in, with an unreachable broker unless another is named."""
    (folder / "password").write_bytes(content)
    login = {"url": f"mqtt://127.0.0.1:{free_port()}", "username": "vedette", "password_file": str(folder / "password"), **broker}
    return write_config(folder, "", broker=login)


def words(error: BaseException) -> str:
    """All that a traceback, a log or a dump could say of an error."""
    said = "".join(traceback.format_exception(error))
    link: BaseException | None = error
    while link:
        said += repr(link)
        link = link.__cause__ or link.__context__
    return said


def test_a_password_is_in_no_log_at_any_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Mosquitto(tmp_path) as broker:
        settings = config.load(guarded(tmp_path, url=broker.url)).broker
        logging.getLogger().debug("%r", settings)
        probe(settings, "probe", [("a", 1)], 5.0)
        publish_once(settings, "once", {"a": b"1"}, 5.0)
        connection = Connection(settings, "agent", "status", [("a", 1)], 1000, lambda _: True, lambda: None)
        connection.start()
        connection.stop()
    assert caplog.text and SECRET not in caplog.text


@pytest.mark.parametrize("content", [SECRET.encode() + b"\xff", b"\xff" + SECRET.encode()])
def test_a_password_that_cannot_be_read_is_not_shown(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(VedetteError) as raised:
        probe(config.load(guarded(tmp_path, content)).broker, "probe", [], 1.0)
    assert "password_file" in str(raised.value) and SECRET not in "".join(traceback.format_exception(raised.value))
    done = vedette("check", "--json", "-c", guarded(tmp_path, content))
    assert done.returncode == 1 and "not UTF-8" in done.stdout and SECRET not in done.stdout + done.stderr


def test_keys_and_certificates_that_cannot_be_used_are_not_shown(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text(KEY)
    files = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    path = guarded(tmp_path, url=f"mqtts://127.0.0.1:{free_port()}", cert_file=files[0], key_file=files[1])
    with pytest.raises(VedetteError) as raised:
        probe(config.load(path).broker, "probe", [], 1.0)
    assert "certificates cannot be used" in str(raised.value) and SECRET not in words(raised.value)
    for command in (["check"], ["check", "--json"], ["run"]):
        done = vedette(*command, "-c", path)
        assert done.returncode == 1 and SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "broker",
    [
        {"url": f"mqtt://vedette:{SECRET}@127.0.0.1"},
        {"url": f"http://vedette:{SECRET}@127.0.0.1"},
        {"url": "mqtt://127.0.0.1", "password": SECRET},
        {"url": "mqtt://127.0.0.1", "username": "v", "password_file": [SECRET]},
    ],
)
def test_a_password_that_is_in_the_configuration_is_refused_and_not_repeated(tmp_path: Path, broker: dict[str, Any]) -> None:
    path = write_config(tmp_path, "", broker=broker)
    with pytest.raises(VedetteError) as raised:
        config.load(path)
    assert SECRET not in str(raised.value)
    done = vedette("check", "-c", path)
    assert done.returncode == 1 and SECRET not in done.stdout + done.stderr


def test_what_devices_send_stays_out_of_the_log_and_is_escaped_in_topics(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    stream = {"name": "f", "topic": "f/#", "model": "fridge", "device": {"field": "id"}, "payload": {"time": {"field": "ts"}}}
    rules = {"raise": "1 of 1"}
    with Mosquitto(tmp_path) as broker, Watcher(broker) as watcher:
        path = guarded(tmp_path, url=broker.url)
        path = write_config(
            tmp_path, "", broker=json.loads(json.dumps(config_of(path))), streams=[stream], alerts=rules, stats_every="200ms"
        )
        with Agent(path) as agent:
            watcher.wait_online()
            for name in HOSTILE:
                watcher.publish(
                    f"f/{name.encode('unicode_escape').decode().replace('+', '').replace('#', '')[:50]}",
                    {"ts": 1, "id": name, "temperature": 70},
                )
            watcher.publish("f/x", *[name.encode() for name in HOSTILE])
            watcher.wait(lambda: watcher.counters("f").get("received") == 2 * len(HOSTILE))
            assert agent.stop() == 0
        assert watcher.counters("f")["rejected.device"] == 3
        told = {alert["topic"].rpartition("/")[2] for alert in watcher.alerts() if alert["payload"]["type"] == "new"}
        stats = watcher.last("vedette/gw-1/stats") or b""
    assert told == {"%25s%25n%25%28name%29s%7B0%7D", "..%2F..%2Fetc%2Fpasswd", "%C3%BC" * 64, "%24SYS%2F%2B%2F%23"}
    lines = agent.said.splitlines()
    assert lines and all(line.isprintable() and len(line) < 500 and line.startswith("INFO vedette.") for line in lines), agent.said
    assert SECRET not in agent.said and SECRET.encode() not in stats


def config_of(path: Path) -> Any:
    """The broker's part of a configuration."""
    import yaml

    return yaml.safe_load(path.read_text())["broker"]
