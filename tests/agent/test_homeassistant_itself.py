"""Home Assistant's own schemas and templates take what it is told, where they are installed: make home-assistant."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vedette.config import HomeAssistant
from vedette.homeassistant import GATEWAY, Announcements
from vedette.topics import AgentTopics

TESTS = Path(__file__).parents[1]
TOPICS = AgentTopics("vedette", "gw-1")
DEVICE, STREAM = ("fridges", "f-1"), ("fridges", "")

CALM = {"score": 0.42, "time": 1_790_000_960.0, "alert": None}
CAUSE = {"feature": "temperature", "share": 0.81, "observed": 13.9, "expected": None}
ALARMED = {
    "score": 1.83,
    "time": 1_790_000_420.0,
    "alert": "7" * 32,
    "kind": "anomaly",
    "severity": "warning",
    "started": "2026-09-21T14:20:20Z",
    "explanation": [CAUSE],
}
STATS = {"streams": {"fridges": {"open": 2}, "freezers": {"open": 1}}}


@pytest.fixture(scope="module")
def interpreter() -> list[str]:
    """A command for Python with Home Assistant."""
    here = TESTS.parent / ".venv-home-assistant" / "bin" / "python"
    command = shlex.split(os.environ.get("VEDETTE_HOME_ASSISTANT_PYTHON") or str(here))
    if not shutil.which(command[0]):
        pytest.skip(reason="Home Assistant is not installed: make home-assistant PYTHON=python3.13 does that")
    return command


def ask(interpreter: list[str], status: str, state: dict[str, Any], key: tuple[str, str]) -> dict[str, dict[str, Any]]:
    """What it makes of an announcement and of what is on its topics."""
    told = Announcements(HomeAssistant(), "gw-1", TOPICS)
    values = {TOPICS.status: status, TOPICS.stats: json.dumps(STATS), TOPICS.state(*DEVICE): json.dumps(state)}
    question = {"payload": json.loads(told.payload(key)), "values": {**values, TOPICS.state(*STREAM): json.dumps(state)}}
    script = (TESTS / "home_assistant_itself.py").read_text()
    done = subprocess.run([*interpreter, "-c", script], input=json.dumps([question]), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = json.loads(done.stdout)
    for component in found.values():
        if "json_attributes_template" in component:
            component["json_attributes_template"] = json.loads(component["json_attributes_template"])
    return dict(found)


def test_a_device_that_is_well(interpreter: list[str]) -> None:
    attributes: dict[str, Any] = {"alert": None, "kind": None, "severity": None, "started": None, "explanation": []}
    assert ask(interpreter, "online", CALM, DEVICE) == {
        "problem": {"value_template": "OFF", "json_attributes_template": attributes, "availability_template": "online"},
        "score": {"value_template": "0.42", "availability_template": "online"},
    }


def test_a_device_that_is_not_well(interpreter: list[str]) -> None:
    found = ask(interpreter, "degraded: the disk is full", ALARMED, DEVICE)
    attributes = {name: ALARMED[name] for name in ("alert", "kind", "severity", "started", "explanation")}
    assert found == {
        "problem": {"value_template": "ON", "json_attributes_template": attributes, "availability_template": "online"},
        "score": {"value_template": "1.83", "availability_template": "online"},
    }


def test_a_device_without_a_score_of_an_agent_that_is_offline(interpreter: list[str]) -> None:
    found = ask(interpreter, "offline", {**CALM, "score": None, "time": None}, DEVICE)
    assert found["score"] == {"value_template": "None", "availability_template": "offline"}, "which Home Assistant takes for unknown"


def test_a_stream(interpreter: list[str]) -> None:
    found = ask(interpreter, "online", {**ALARMED, "devices": 14}, STREAM)
    assert found["problem"]["value_template"] == "ON"
    assert found["problem"]["json_attributes_template"]["devices"] == 14


@pytest.mark.parametrize(
    ("status", "connected", "problem"), [("online", "ON", "OFF"), ("degraded: the disk is full", "ON", "ON"), ("offline", "OFF", "OFF")]
)
def test_the_gateway(interpreter: list[str], status: str, connected: str, problem: str) -> None:
    found = ask(interpreter, status, CALM, GATEWAY)
    assert (found["connected"], found["problem"]["value_template"]) == ({"value_template": connected}, problem)
    assert found["open"]["value_template"] == "3"
