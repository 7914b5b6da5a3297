"""The command of docs/home-assistant.md that removes what a lost gateway has announced."""

import shutil
import subprocess

import pytest

import guides
from agents import Watcher
from brokers import Mosquitto
from conftest import REPOSITORY


def test_what_a_lost_gateway_has_announced_is_removed_and_nothing_else(broker: Mosquitto) -> None:
    if shutil.which("mosquitto_sub") is None:
        pytest.skip(reason="mosquitto_sub is not here: make mosquitto installs it")
    (block,) = [block for block in guides.read(REPOSITORY / "docs" / "home-assistant.md") if block.language == guides.COMMAND]
    announced = [f"homeassistant/device/vedette__{name}/config" for name in ("gw-7__fridges__a", "gw-7__fridges__b", "gw-8__fridges__a")]
    with Watcher(broker) as watcher:
        for topic in announced:
            watcher.client.publish(topic, b"{}", 1, retain=True).wait_for_publish(30)
        typed = block.text
        for program in ("mosquitto_sub", "mosquitto_pub"):
            typed = typed.replace(program, f"{program} -p {broker.port}")
        done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, timeout=120, check=False)
        watcher.client.subscribe("homeassistant/#", 1)
        watcher.wait(lambda: watcher.last(announced[2]) == b"{}")
        assert [topic for topic in announced if watcher.last(topic)] == announced[2:], done.stderr
