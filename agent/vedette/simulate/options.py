"""What `vedette simulate` understands on its command line, and what it says when it does not."""

import argparse
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from vedette.contract.durations import parse_duration
from vedette.simulate.faults import KINDS


def parse_options(arguments: Sequence[str], *, scenarios: Iterable[str]) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: What follows `vedette simulate`.
        scenarios: Names of the scenarios that there are.

    Raises:
        SystemExit: 2, the command was not understood; 0, help was asked for.
    """
    parser = _parser(scenarios)
    options = parser.parse_args(arguments)
    _check_together(parser, options)
    return options


def _parser(scenarios: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vedette simulate",
        description="Simulate a fleet of devices with injectable faults, to a file or live on MQTT.",
        epilog=f"Faults: {', '.join(KINDS)}. A seed gives the same readings on every machine.",
    )
    parser.add_argument("scenario", choices=sorted(scenarios))
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--output", metavar="FILE", help='labelled history as CSV; "-" for standard output')
    where.add_argument("--broker", metavar="URL", help="live, to mqtt://host:port or mqtts://host:port")
    fleet = parser.add_argument_group("the fleet")
    fleet.add_argument("--devices", type=_count, default=20, metavar="N", help="default 20")
    fleet.add_argument("--seed", type=_seed, default=1, metavar="N", help="default 1")
    fleet.add_argument("--interval", type=_interval, default=60.0, metavar="TIME", help="between readings; default 60s")
    fleet.add_argument("--duration", type=_duration, metavar="TIME", help="default 7d in a file; live, until Ctrl-C")
    fleet.add_argument(
        "--start",
        type=_moment,
        metavar="TIME",
        help="ISO 8601; default 2026-01-05T00:00:00Z in a file; live, now",
    )
    faults = parser.add_argument_group("what goes wrong")
    faults.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND:DEVICE:START:DURATION",
        help="such as door_left_open:fridge-03:2h:45m, START from the simulation's; may be repeated",
    )
    faults.add_argument(
        "--fault-rate",
        type=_rate,
        default=0.0,
        metavar="N",
        help="faults drawn per device and day, for devices that no --fault names; default 0",
    )
    live = parser.add_argument_group("live")
    live.add_argument("--topic", type=_topic, help="{device} stands for the device's name")
    live.add_argument("--speed", type=_speed, default=1.0, help="simulated seconds per second; default 1, inf allowed")
    live.add_argument("--protocol", choices=("5", "3.1.1"), default="5")
    live.add_argument("--qos", type=int, choices=(0, 1, 2), default=1)
    parser.add_argument("--json", action="store_true", help="end with a summary as JSON on standard output")
    return parser


def _check_together(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.json and options.output == "-":
        parser.error("--json and -o - would both write to standard output")
    if options.output is not None and options.topic is not None:
        parser.error("--topic is for --broker, not for -o")


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


def _interval(text: str) -> float:
    interval_s = _duration(text)
    if interval_s < 2 or interval_s != int(interval_s):
        raise argparse.ArgumentTypeError(f'expected whole seconds, at least 2s, got "{text}"')
    return interval_s


def _count(text: str) -> int:
    return _whole(text, least=1)


def _seed(text: str) -> int:
    return _whole(text, least=0)


def _whole(text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f'expected a whole number, at least {least}, got "{text}"')
    return int(text)


def _rate(text: str) -> float:
    rate = _number(text)
    if not 0 <= rate < math.inf:
        raise argparse.ArgumentTypeError(f'expected 0 or more, got "{text}"')
    return rate


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


def _topic(text: str) -> str:
    if "{device}" not in text or any(sign in text for sign in "+#\0"):
        raise argparse.ArgumentTypeError(f'expected {{device}} in it, and neither + nor #, got "{text}"')
    return text
