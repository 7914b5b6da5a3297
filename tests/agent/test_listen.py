import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents import STREAM, Watcher, vedette, write_config
from brokers import Mosquitto
from bundles import install, make_bundle

TOPIC = "plant/north/fridge/f-1/telemetry"


@contextmanager
def publishing(broker: Mosquitto) -> Iterator[None]:
    """A fridge that says something every 0.2 s, now and then nonsense."""
    over = threading.Event()

    def publish() -> None:
        with Watcher(broker) as fridge:
            fridge.client.publish(TOPIC, json.dumps({"ts": time.time(), "temperature": 1.0}), retain=True)
            for count in range(1000):
                fridge.publish(TOPIC, {"ts": time.time(), "temperature": 4.0 + count % 3, "batt\x1bery": "secret-71"})
                if count % 5 == 0:
                    fridge.publish(TOPIC, {"ts": time.time(), "temperature": "secret-72"}, b"\xff", b"{")
                if over.wait(0.2):
                    return

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_listening_tells_what_each_stream_decoded_and_why_it_refused(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    quiet = {**STREAM, "name": "quiet", "topic": "elsewhere/{device}"}
    config = write_config(tmp_path, broker.url, streams=[STREAM, quiet])
    with publishing(broker):
        text = vedette("check", "--listen", "2", "-c", config)
        data = vedette("check", "--listen", "2s", "--json", "-c", config)
    assert (text.returncode, data.returncode) == (0, 0), text.stdout + text.stderr
    told: dict[str, Any] = json.loads(data.stdout)
    fridges, nothing = told["heard"]
    assert fridges["messages"] == fridges["accepted"] + sum(each["count"] for each in fridges["rejected"].values())
    assert fridges["readings"] >= 5 and fridges["devices"] == 1 and 0.1 < fridges["interval_s"] < 0.6
    assert fridges["features"]["temperature"]["range"][1] == 6.0
    assert fridges["unused"] == ["batt\\x1bery"]
    assert {"type", "malformed"} <= fridges["rejected"].keys()
    assert fridges["rejected"]["type"]["example"] == "f-1: payload: Expected `float`, got `str` - at `$.temperature`"
    assert nothing["messages"] == 0 and nothing["features"]["temperature"]["sent"] == 0
    assert [finding["what"] for finding in told["check"]][-1] == "listen"
    assert "fridges: " in text.stdout and "not used: batt\\x1bery" in text.stdout and "temperature  never sent" in text.stdout
    assert "secret" not in text.stdout + data.stdout + text.stderr


def test_listening_beside_the_agent_leaves_its_status_alone(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url)
    with Watcher(broker) as watcher:
        done = vedette("check", "--listen", "1", "-c", config)
        assert done.returncode == 0 and "no message in 1 s; do devices publish on these topics?" in done.stdout
        # But for seeing that the agent may publish.
        assert not [message for message in watcher.messages if message.payload or not message.topic.endswith("/vedette-check")]


def test_a_stream_that_can_use_nothing_of_what_it_hears_is_a_fault(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    wrong = {**STREAM, "payload": {"fields": {"temperature": "temp"}}}
    with publishing(broker):
        done = vedette("check", "--listen", "1", "-c", write_config(tmp_path, broker.url, streams=[wrong]))
    assert done.returncode == 1
    assert "FAULT  listen      nothing of what came for fridges could be used" in done.stdout and "rejected empty: " in done.stdout


def test_how_long_must_be_a_duration(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "vedette", "check", "--listen", "soon"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--listen" in done.stderr
