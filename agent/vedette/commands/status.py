"""`vedette status`."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vedette import config
from vedette.commands import add_config, parser
from vedette.contract.errors import ConfigError
from vedette.report import Report, find

_WATCH_S = 1.0
_CLEAR = "\033[H\033[2J"


def status(arguments: Sequence[str]) -> int:
    """Show how the running agent does, broker or not; exit 1 where none runs, or it does not answer."""
    options = parser("status", status.__doc__ or "")
    add_config(options)
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument("--watch", action="store_true", help="go on showing it, every second, until Ctrl-C")
    given = options.parse_args(arguments)
    if not given.watch:
        return _show(given.config, as_json=given.json)
    while True:
        if sys.stdout.isatty() and not given.json:
            print(_CLEAR, end="")
        _show(given.config, as_json=given.json)
        sys.stdout.flush()
        time.sleep(_WATCH_S)


def _show(file: Path, *, as_json: bool) -> int:
    fault = None
    try:
        config.load(file)
    except ConfigError as error:
        fault = str(error)  # the agent may run on with what was there before
    report = find(file, os.environ)
    answer = _answer(report, time.time())
    if as_json:
        told = None if report is None else msgspec.to_builtins(report)
        print(msgspec.json.encode({"running": answer is None, "answer": answer, "config_fault": fault, "report": told}).decode())
    else:
        print("\n".join(_page(report, answer, fault, file)))
    return 0 if answer is None else 1


def _answer(report: Report | None, now: float) -> str | None:
    """Why there is no agent to speak of; None where there is one."""
    if report is None:
        return "not running"
    if not report.is_alive():
        return (
            f"not running: process {report.pid} ended without a word after {_when(report.written)}; its last lines: journalctl -u vedette"
        )
    if report.is_late(now):
        why = f"process {report.pid} is there, but stands still, or has no disk for its report"
        return f"does not answer since {_when(report.written)}: {why}; see journalctl -u vedette"
    return None


def _page(report: Report | None, answer: str | None, fault: str | None, file: Path) -> Iterator[str]:
    if answer:
        yield f"vedette: {answer}"
        if report is None:
            yield f"         start it: systemctl start vedette, or vedette run -c {file}"
    if fault:
        yield f"FAULT    the configuration cannot be read any more, and a restart would fail: {fault}"
    if report is None:
        return
    for each in report.degraded:
        yield f"DEGRADED {each}"
    if answer or fault or report.degraded:
        yield ""
    stats, now = report.stats, report.written
    since = f"up {_span(now - report.started)}, configuration of {_when(report.configured)} from {report.config}"
    yield f"agent    {report.gateway}, vedette {report.version}, process {report.pid}, {since}"
    broker = stats["broker"]
    yield f"broker   {'connected' if broker['connected'] else 'not connected'} since {_when(broker['since'])}"
    for name, model in stats["models"].items():
        live = f"live since {_when(model['since'])} ({_span(now - model['since'])})" if model["since"] else "live"
        trial = f", {model['trial']} on trial" if model["trial"] else ""
        yield f"model    {name} {model['version']}, {live}{trial}"
    spool = stats["spool"]
    dropped = _listed({name.removeprefix("dropped.spool_"): n for name, n in spool.items() if name.startswith("dropped.")})
    waiting = f"{spool['waiting']} waiting ({_size(spool['bytes'])})" if spool["waiting"] else "none waiting"
    yield f"alerts   {spool['delivered']} messages delivered, {waiting}" + (f", dropped: {dropped}" if dropped else "")
    yield f"disk     {stats['disk'] or 'written'}"
    yield f"process  {_size(stats['rss_bytes'])} of memory, {stats['queued']} messages waiting to be scored"
    yield ""
    yield from _table(stats)
    elsewhere = _listed({name: stats[name] for name in ("unmatched", "crashed", "repeated", "dropped")})
    yield from [f"{'':9}of no stream: {elsewhere}"] if elsewhere else []
    yield f"{'':9}as of {_when(report.written)}; next within {_span(report.every_s)}"


def _table(stats: Mapping[str, Any]) -> Iterator[str]:
    head = ("stream", "per s", "received", "scored", "devices", "open alerts", "not scored")
    rows = [head]
    for name, counters in stats["streams"].items():
        kinds = _listed({key.removeprefix("open."): n for key, n in counters.items() if key.startswith("open.")})
        lost = {key: counters[key] for key in ("late", "repeated", "failed")}
        lost |= {key.removeprefix("rejected."): n for key, n in counters.items() if key.startswith("rejected.")}
        rate = f"{stats['rates'].get(name, 0.0):.1f}"
        rows.append(
            (name, rate, *(str(counters[key]) for key in ("received", "scored", "devices")), kinds or "none", _listed(lost) or "none")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        cells = [
            cell.rjust(width) if 0 < place < 5 else cell.ljust(width) for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def _span(seconds: float) -> str:
    """A length of time in its two largest units."""
    rest, words = max(0, round(seconds)), list[str]()
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (name == "s" and not words):
            words.append(f"{count} {name}")
    return " ".join(words[:2])


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
