import functools
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from agents import Agent, Watcher, episode, write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from schemas import schema
from spools import opened_spool
from vedette import cloudevents
from vedette.spool import Outgoing

WARM = [4.0] * 5 + [10.0] * 4 + [4.0] * 6


def alert(**changes: object) -> bytes:
    """An alert's payload, with what its event is made of."""
    told = {"schema": "vedette.alert/1", "id": "0" * 32, "type": "new", "gateway": "gw", "stream": "s", "device": "d", "time": "T"}
    return json.dumps({**told, **changes}).encode()


def attributes(message: Any) -> dict[str, str]:
    """An event's attributes, as a paho client gets them; each may stand there once."""
    pairs = message.properties.UserProperty
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_on_mqtt_5_an_alert_is_a_cloudevent_in_binary_mode(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url)) as agent:
        watcher.wait_online()
        watcher.publish("plant/north/fridge/Kühl & 1/telemetry", *episode(WARM))
        watcher.wait(lambda: len(watcher.alerts()) == 2)
        assert agent.stop() == 0
    new, end = (message for message in watcher.messages if "/alerts/" in message.topic)
    told = json.loads(new.payload)
    found = attributes(new)
    assert found == {
        "specversion": "1.0",
        "id": found["id"],
        "source": "/vedette/gw-1/fridges",
        "type": "io.vedette.alert.new",
        "subject": "Kühl & 1",
        "time": told["time"],
        "dataschema": schema("alert-1")["$id"],
    }
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in found), "the specification's rule for names"
    properties: Any = new.properties
    assert (properties.ContentType, properties.PayloadFormatIndicator) == ("application/json", 1)
    assert attributes(end)["type"] == "io.vedette.alert.end"
    assert attributes(end)["id"] != found["id"]
    assert {attributes(each)["id"].split(".")[0] for each in (new, end)} == {told["id"]}


def test_an_alert_that_is_sent_again_is_the_same_event(tmp_path: Path, broker: Mosquitto) -> None:
    """After a restart the spool has nothing but topic and payload."""
    install(tmp_path / "state", make_bundle())
    payload = alert(id="1" * 32)
    with Watcher(broker) as watcher:
        for number in (1, 2):
            with opened_spool(tmp_path / "state") as spool:
                spool.keep([Outgoing(f"vedette/gw-1/elsewhere/{number}", payload, "1" * 32, "new")], time.time())
            with Agent(write_config(tmp_path, broker.url)) as agent:
                watcher.wait(functools.partial(watcher.last, f"vedette/gw-1/elsewhere/{number}"))
                assert agent.stop() == 0
    first, second = (message for message in watcher.messages if "/elsewhere/" in message.topic)
    assert attributes(first) == attributes(second) == dict(cloudevents.attributes(payload))


def test_updates_of_one_time_are_events_of_their_own() -> None:
    ids = [dict(cloudevents.attributes(alert(type="update", devices=count)))["id"] for count in (10, 20)]
    assert len(set(ids)) == 2


def test_an_alert_about_many_devices_has_no_subject() -> None:
    assert "subject" not in dict(cloudevents.attributes(alert(device="")))


def test_what_is_no_alert_goes_without_attributes() -> None:
    assert [cloudevents.attributes(payload) for payload in (b"", b"{", b"[]", b'{"id": 3}', b"\xff")] == [[]] * 5


@pytest.mark.parametrize("device", ["a\x85b", "a\ufffeb", "a\U0001ffffb"])
def test_a_name_that_brokers_refuse_in_text_is_written_out(tmp_path: Path, broker: Mosquitto, device: str) -> None:
    """mosquitto would close the connection, and the alert would be sent again for ever."""
    install(tmp_path / "state", make_bundle())
    payload = alert(device=device)
    with Watcher(broker) as watcher:
        with opened_spool(tmp_path / "state") as spool:
            spool.keep([Outgoing("vedette/gw-1/elsewhere", payload, "1" * 32, "new")], time.time())
        with Agent(write_config(tmp_path, broker.url)) as agent:
            watcher.wait(lambda: any(m.topic.endswith("/elsewhere") for m in watcher.messages))
            assert agent.stop() == 0
    (message,) = (message for message in watcher.messages if message.topic.endswith("/elsewhere"))
    assert attributes(message)["subject"].startswith("a%") and attributes(message)["subject"].isascii()


def test_on_mqtt_3_an_alert_is_its_payload_alone(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url, broker={"url": broker.url, "protocol": "3.1.1"})
    with Watcher(broker) as watcher, Agent(config) as agent:
        watcher.wait_online()
        watcher.publish("plant/north/fridge/f-1/telemetry", *episode(WARM))
        watcher.wait(lambda: len(watcher.alerts()) == 2)
        assert agent.stop() == 0
    assert not any(hasattr(m.properties, "UserProperty") for m in watcher.messages if "/alerts/" in m.topic)
