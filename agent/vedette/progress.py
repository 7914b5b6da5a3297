"""A line on a terminal that says how far long work is; nothing at all in a pipe."""

import time
from collections.abc import Callable
from typing import TextIO

_EVERY_S = 0.2


class Progress:
    """One line, rewritten in place.

    Args:
        terminal: Where it goes, if that is a terminal.
        text: What it says at present; called only when it is shown.
        clock: Monotonic seconds.
    """

    def __init__(self, terminal: TextIO, text: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal, self._text, self._clock = terminal, text, clock
        self._is_seen = terminal.isatty()
        self._shown_at = -_EVERY_S

    def show(self) -> None:
        """Say how far it is, unless it was said a moment ago."""
        if self._is_seen and self._clock() - self._shown_at >= _EVERY_S:
            self._shown_at = self._clock()
            self._terminal.write(f"\r{self._text()}\033[K")
            self._terminal.flush()

    def clear(self) -> None:
        """Take the line away, so that others can be printed."""
        if self._is_seen:
            self._terminal.write("\r\033[K")
            self._terminal.flush()
            self._shown_at = -_EVERY_S
