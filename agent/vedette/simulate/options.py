"""What `vedette simulate` understands on its command line, and what it says when it does not."""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from vedette.contract.durations import parse_duration
from vedette.simulate.scenario import Scenario


def parse_options(arguments: Sequence[str], *, scenarios: Mapping[str, Scenario]) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: What follows `vedette simulate`.
        scenarios: The scenarios that there are, by name.

    Returns:
        What was given or is the default; `scenario` is the name.

    Raises:
        SystemExit: 2, the command was not understood; 0, help was asked for.
    """
    parser = argparse.ArgumentParser(
        prog="vedette simulate",
        description="Simulate devices or accounts of which some go wrong, to a file or live on MQTT.",
    )
    names = parser.add_subparsers(dest="scenario", metavar="SCENARIO", required=True)
    own: dict[str, argparse.ArgumentParser] = {}
    for name, scenario in sorted(scenarios.items()):
        own[name] = names.add_parser(name, help=scenario.help, description=f"Simulate {scenario.help}.")
        scenario.add_options(own[name])
        own[name].add_argument("--json", action="store_true", help="end with a summary as JSON on standard output")
    options = parser.parse_args(arguments)
    error = scenarios[options.scenario].check(options)
    if error is None and options.output is not None and options.topic is not None:
        error = "--topic is for --broker, not for -o"
    if error is not None:
        own[options.scenario].error(error)
    return options


def add_output(parser: argparse.ArgumentParser, *, metavar: str, help_: str) -> None:
    """Add the choice between history and live."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--output", metavar=metavar, help=help_)
    where.add_argument("--broker", metavar="URL", help="live, to mqtt://host:port or mqtts://host:port")


def add_fleet(parser: argparse.ArgumentParser, title: str, *, file_duration: str) -> argparse._ArgumentGroup:
    """Add seed, start and duration in a group, to which a scenario may add more."""
    group = parser.add_argument_group(title)
    group.add_argument("--seed", type=_seed, default=1, metavar="N", help="default 1")
    group.add_argument("--duration", type=_duration, metavar="TIME", help=f"default {file_duration} in a file; live, until Ctrl-C")
    group.add_argument(
        "--start",
        type=_moment,
        metavar="TIME",
        help="ISO 8601; default 2026-01-05T00:00:00Z in a file; live, now",
    )
    return group


def add_live(parser: argparse.ArgumentParser, *, topic: str, topic_type: Callable[[str], str], topic_help: str) -> None:
    """Add what is for `--broker` alone."""
    live = parser.add_argument_group("live")
    live.add_argument("--topic", type=topic_type, help=f"{topic_help}; default {topic}")
    live.add_argument("--speed", type=_speed, default=1.0, help="simulated seconds per second; default 1, inf allowed")
    live.add_argument("--protocol", choices=("5", "3.1.1"), default="5")
    live.add_argument("--qos", type=int, choices=(0, 1, 2), default=1)
    parser.set_defaults(default_topic=topic)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected ISO 8601 such as 2026-01-05T00:00:00Z, got "{text}"') from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _duration(text: str) -> float:
    try:
        duration_s = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if duration_s <= 0:
        raise argparse.ArgumentTypeError(f'expected more than 0, got "{text}"')
    return duration_s


def interval(text: str) -> float:
    """Whole seconds, at least 2."""
    interval_s = _duration(text)
    if interval_s < 2 or interval_s != int(interval_s):
        raise argparse.ArgumentTypeError(f'expected whole seconds, at least 2s, got "{text}"')
    return interval_s


def count(text: str) -> int:
    """A whole number, at least 1."""
    return _whole(text, least=1)


def _seed(text: str) -> int:
    return _whole(text, least=0)


def _whole(text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f'expected a whole number, at least {least}, got "{text}"')
    return int(text)


def rate(text: str) -> float:
    """A finite number, at least 0."""
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f'expected 0 or more, got "{text}"')
    return number


def share(text: str) -> float:
    """A number between 0 and 1, neither included."""
    number = _number(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f'expected more than 0 and less than 1, got "{text}"')
    return number


def _speed(text: str) -> float:
    speed = _number(text)
    if not speed > 0:
        raise argparse.ArgumentTypeError(f'expected more than 0, got "{text}"')
    return speed


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected a number, got "{text}"') from None


def topic_with(name: str) -> Callable[[str], str]:
    """Reads a topic to publish to, in which `{name}` must stand."""

    def topic(text: str) -> str:
        if f"{{{name}}}" not in text or not _publishable(text):
            raise argparse.ArgumentTypeError(f'expected {{{name}}} in it, and neither + nor #, got "{text}"')
        return text

    return topic


def topic_without_wildcards(text: str) -> str:
    """A topic to publish to."""
    if not text or not _publishable(text):
        raise argparse.ArgumentTypeError(f'expected neither + nor #, got "{text}"')
    return text


def _publishable(topic: str) -> bool:
    return not any(sign in topic for sign in "+#\0")
