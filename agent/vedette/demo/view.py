"""What the demo shows while it runs: faults and alerts as they come, a line each, and a line that moves."""

import os
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO

from vedette.alerts import Alert
from vedette.demo.ledger import Verdict

_COLOURS = {"fault": "\033[36m", "ALERT": "\033[1;31m", "update": "\033[31m", "over": "\033[32m", "note": "\033[2m"}
_RESET = "\033[0m"


class View:
    """Writes the demo's lines, from several threads.

    Args:
        out: Where to; colours and the moving line only if it is a terminal.
    """

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._coloured = self._terminal and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Say what is going on."""
        self._line("note", text)

    def fault(self, time: float, device: str, text: str) -> None:
        """Announce what is done to a device."""
        self._line("fault", f"{_clock(time)}  {'fault':6}  {device}  {text}")

    def alert(self, alert: Alert) -> None:
        """Show an alert as a subscriber gets it."""
        word = {"new": "ALERT", "update": "update", "end": "over"}[alert.type]
        said = f"{alert.severity}, score {alert.score:.2f}"
        if alert.type == "end":
            said = f"after {_minutes((alert.time - alert.started).total_seconds())}"
        causes = ", ".join(cause.words() for cause in alert.explanation)
        because = f"  because {causes}" if causes else ""
        self._line(word, f"{_clock(alert.time.timestamp())}  {word:6}  {alert.device}  {said}{because}")

    def progress(self, time: float, share: float, readings: int) -> None:
        """Move the line that says how far it is; terminals only."""
        if self._terminal:
            done = "#" * round(share * 30)
            with self._lock:
                self._out.write(f"\r\033[K{_clock(time)}  [{done:30}] {readings} readings")
                self._out.flush()

    def summary(self, verdicts: Sequence[Verdict], false_alerts: int, counters: dict[str, int]) -> None:
        """The closing table."""
        detected = [v for v in verdicts if v.delay_s is not None]
        self._line("note", "")
        self._line("", f"{'fault':20} {'device':10} {'began':6} {'detected':9} delay (simulated)")
        for verdict in verdicts:
            outcome, delay = ("missed", "") if verdict.delay_s is None else ("yes", _minutes(verdict.delay_s))
            self._line("", f"{verdict.kind.replace('_', ' '):20} {verdict.device:10} {_clock(verdict.start):6} {outcome:9} {delay}")
        self._line("", "")
        missed = len(verdicts) - len(detected)
        self._line("", f"faults injected {len(verdicts)}, detected {len(detected)}, missed {missed}, false alerts {false_alerts}")
        self._line(
            "",
            "readings " + ", ".join(f"{name} {counters[name]}" for name in ("received", "scored", "waiting", "late", "repeated", "failed")),
        )

    def _line(self, kind: str, text: str) -> None:
        colour = _COLOURS.get(kind, "") if self._coloured else ""
        with self._lock:
            self._out.write(f"{chr(13) + chr(27) + '[K' if self._terminal else ''}{colour}{text}{_RESET if colour else ''}\n")
            self._out.flush()


def _clock(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%H:%M")


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
