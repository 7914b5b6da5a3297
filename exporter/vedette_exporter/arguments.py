"""Types of the exporter's command-line arguments: each takes what it should be and says what it expected where it is not."""

import argparse
import re
from collections.abc import Callable

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VERSION = re.compile(r"\d+\.\d+\.\d+")
TOPIC_PREFIX = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


def checked(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    """An argument's type that takes what matches."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise argparse.ArgumentTypeError(f'expected {expected}, got "{text}"')
        return text

    return check


def days(text: str) -> float:
    """An argument's type: days, more than none and no more than ten years.

    Raises:
        ArgumentTypeError: it is something else.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3650:
        raise argparse.ArgumentTypeError(f'expected days, from a fraction of one to 3650, got "{text}"')
    return value
