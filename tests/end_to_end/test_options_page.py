"""docs/options.md is what `make options` makes of the configuration."""

import msgspec
import pytest

import options_page
from vedette import config
from vedette.broker import Broker


def test_the_page_is_what_the_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert options_page.PAGE.read_text() == options_page.page(), f"an option has changed: {options_page.COMMAND}"


def test_every_option_and_its_default_is_on_it() -> None:
    page = options_page.page()
    for struct in (config.Config, Broker, config.Stream, config.Alerts, config.Limits, config.SpoolLimits, config.Updates):
        for field in msgspec.structs.fields(struct):
            assert f"\n| `{field.encode_name}` | " in page
    assert "| `keepalive` | duration | `30s` |" in page
    assert "| `payload` | size | `64KiB` |" in page
    assert page.count("| `cooldown` | duration | `1m` |") == 1


class Untold(msgspec.Struct):
    """A part of a configuration.

    Attributes:
        one: Is explained.
    """

    one: int = 1
    another: int = 2


def test_an_option_that_nothing_is_said_of_is_a_fault() -> None:
    with pytest.raises(LookupError, match="says nothing of another"):
        list(options_page._sections(Untold, "", set()))
