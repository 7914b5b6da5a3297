"""docs/alerts.md shows what the agent tells and takes."""

import re
from pathlib import Path

import msgspec
import yaml

from vedette.alerts import Alert
from vedette.config import Alerts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "alerts.md").read_text()


def test_every_alert_shown_is_one() -> None:
    lines = [line for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert {msgspec.json.decode(line, type=Alert).kind for line in lines} == {"silent", "stuck", "drift"}
    for line in lines:
        assert msgspec.json.decode(msgspec.json.encode(msgspec.json.decode(line, type=Alert))) == msgspec.json.decode(line)


def test_every_option_is_named_here_and_in_the_configuration_that_is_installed() -> None:
    options = [field.encode_name for field in msgspec.structs.fields(Alerts)]
    assert re.findall(r"^\| `([a-z_]+)` \| [^|]+ \|", PAGE[PAGE.index("## Options") : PAGE.index("## Many")], re.MULTILINE) == options
    text = (ROOT / "systemd" / "agent.yaml").read_text()
    installed = text[text.index("# alerts:") : text.index("# limits:")]
    assert list(yaml.safe_load(re.sub(r"^# ", "", installed, flags=re.MULTILINE))["alerts"]) == options
