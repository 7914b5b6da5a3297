"""How far a part of the chaos run is: a bar on a terminal, nothing in a pipe, and what was found beside it."""

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """One bar at a time."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def begin(self, what: str, total: float) -> None:
        """A part begins: what is counted up to the total."""
        self.clear()
        self._bar = tqdm(total=total, desc=what, disable=None, leave=False, file=sys.stderr)

    def __call__(self, count: float | str = 1) -> None:
        """So many more are done; or, in words, what is being done now."""
        if isinstance(count, str):
            self.begin(count, 1)
        elif self._bar is not None:
            self._bar.update(count)

    def say(self, *lines: str) -> None:
        """Tell of something that was found, for whoever looks for its cause."""
        with tqdm.external_write_mode(file=sys.stderr):
            for line in lines:
                print(line[:1000], file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
