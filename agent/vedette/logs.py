"""The agent's log lines: to stderr, with the priority that systemd's journal reads from a line's beginning.

Rules this module keeps: one line for each change of state, never one for each retry; every line of a traceback has its priority, too, or
`journalctl -p warning` would show half of it; what is no change of state but a fault that comes again is said the first time only.
"""

import logging
import os
import sys
from types import TracebackType

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""syslog's, which sd-daemon(3) has as `<N>` at the beginning of a line."""


class _ForJournal(logging.Formatter):
    """Lines for systemd's journal, which stamps the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITIES.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def begin() -> None:
    """Let log lines of INFO and above go to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    is_read = is_journal(sys.stderr.fileno(), os.environ.get("JOURNAL_STREAM"))
    handler.setFormatter(_ForJournal("%(name)s: %(message)s") if is_read else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)


def is_journal(descriptor: int, journal_stream: str | None) -> bool:
    """Whether the system's journal reads what is written to a descriptor: `journal_stream` is its device and inode, $JOURNAL_STREAM."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return journal_stream == f"{found.st_dev}:{found.st_ino}"


def say_change(log: logging.Logger, begins: str, ends: str, *, before: bool, now: bool) -> None:
    """Log one line where something that should not be begins, and one where it ends."""
    if now != before:
        log.log(logging.WARNING if now else logging.INFO, "%s", begins if now else ends)


class Faults:
    """Which faults of our own were said already: one that comes with every message is one line, and a count elsewhere."""

    _MOST = 64

    def __init__(self) -> None:
        self._said: set[tuple[type[BaseException], str, int]] = set()

    def is_new(self, error: BaseException) -> bool:
        """Whether nothing was raised from the same place before."""
        where = _innermost(error.__traceback__)
        key = (type(error), where.tb_frame.f_code.co_filename if where else "", where.tb_lineno if where else 0)
        if key in self._said or len(self._said) >= self._MOST:
            return False
        self._said.add(key)
        return True


def _innermost(trace: TracebackType | None) -> TracebackType | None:
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace
