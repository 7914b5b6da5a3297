"""docs/alerts.md shows what the agent tells and takes."""

import json
import re
from pathlib import Path

import msgspec
import yaml

from schemas import faults
from vedette.alerts import Alert
from vedette.cloudevents import attributes
from vedette.config import Alerts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "alerts.md").read_text()
LINES = [line for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_every_alert_shown_is_one() -> None:
    lines = [line for line in LINES if '"schema"' in line]
    assert {msgspec.json.decode(line, type=Alert).kind for line in lines} == {"silent", "stuck", "drift"}
    for line in lines:
        assert msgspec.json.decode(msgspec.json.encode(msgspec.json.decode(line, type=Alert))) == msgspec.json.decode(line)
        assert not faults("alert-1", json.loads(line))


def test_every_state_shown_is_one() -> None:
    states = [json.loads(line) for line in LINES if '"schema"' not in line]
    assert [state["alert"] is None for state in states] == [False, True]
    assert not [fault for state in states for fault in faults("state-1", state)]


def test_every_attribute_of_an_event_is_named() -> None:
    table = PAGE[PAGE.index("| property |") : PAGE.index("`source` and `id` together")]
    named = re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE)
    example = next(line for line in LINES if '"silent"' in line and '"new"' in line)
    event = dict(attributes(example.encode()))
    assert set(named) == set(event)
    assert event["id"] in table
    assert event["subject"] in table


def test_every_option_is_named_here_and_in_the_configuration_that_is_installed() -> None:
    options = [field.encode_name for field in msgspec.structs.fields(Alerts)]
    assert re.findall(r"^\| `([a-z_]+)` \| [^|]+ \|", PAGE[PAGE.index("## Options") : PAGE.index("## Many")], re.MULTILINE) == options
    text = (ROOT / "systemd" / "agent.yaml").read_text()
    installed = text[text.index("# alerts:") : text.index("# limits:")]
    assert list(yaml.safe_load(re.sub(r"^# ", "", installed, flags=re.MULTILINE))["alerts"]) == options
