"""The command `vedette simulate`: which fleet, which faults, and where the readings go."""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TextIO

import msgspec
import numpy as np

from vedette.contract.errors import ConfigError
from vedette.simulate.faults import Fault, FaultError, parse_fault, plan_faults
from vedette.simulate.fleet import ColdChain, Sample, device_name
from vedette.simulate.history import Tally, write_history
from vedette.simulate.live import Publisher
from vedette.simulate.options import parse_options

_FILE_DURATION_S: Final = 7 * 86400.0
_FILE_START: Final = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
# How far ahead faults are drawn for a fleet that runs until it is interrupted.
_LIVE_HORIZON_S: Final = 90 * 86400.0
_PLAN_STREAM: Final = 3  # the seed's child for schedules; `fleet` uses 0 to 2


class _Scenario(NamedTuple):
    fleet: type[ColdChain]
    columns: tuple[str, ...]
    topic: str


_SCENARIOS: Final = {
    "cold-chain": _Scenario(ColdChain, ("temperature", "power", "door"), "plant/cold-store/fridge/{device}/telemetry"),
}


def simulate(arguments: Sequence[str]) -> int:
    """Simulate a fleet of devices with injectable faults, to a file or live on MQTT.

    Args:
        arguments: What follows `vedette simulate` on the command line.

    Returns:
        0, or 1 if it was interrupted before a file was whole.

    Raises:
        FaultError: a fault cannot be as asked.
        BrokerError: the URL names no broker.
        ConfigError: the file cannot be written.
        SystemExit: 2, the command was not understood; 0, help was asked for.
    """
    options = parse_options(arguments, scenarios=_SCENARIOS)
    start_s = float(int(_start(options).timestamp()))
    scenario = _SCENARIOS[options.scenario]
    duration_s: float | None = options.duration
    if duration_s is None and options.output is not None:
        duration_s = _FILE_DURATION_S
    fleet = scenario.fleet(
        devices=options.devices,
        seed=options.seed,
        start=start_s,
        interval_s=options.interval,
        faults=_faults(options, start_s, duration_s),
    )
    end_s = math.inf if duration_s is None else start_s + duration_s
    try:
        if options.output is not None:
            tally = _write(options.output, fleet, end_s, scenario.columns)
        else:
            tally = _publish(options, fleet, end_s, scenario.topic)
    except BrokenPipeError:
        # Whoever read has read enough, as `head` does; Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        _say("interrupted" if options.output is None else f"interrupted; {options.output} ends early")
        return 1
    summary = {
        "scenario": options.scenario,
        "devices": options.devices,
        "seed": options.seed,
        "interval_s": options.interval,
        "start": _iso(start_s),
        "end": _iso(min(end_s, fleet.time)),
        "readings": tally.readings,
        "anomalous": tally.anomalous,
        "output": options.output,
        "faults": [
            {"kind": fault.kind, "device": fault.device, "start": _iso(fault.start), "end": _iso(fault.end)}
            for fault in fleet.faults
            if fault.start < fleet.time
        ],
    }
    if options.json:
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
    else:
        _say(f"{tally.readings} readings of {options.devices} devices, {tally.anomalous} of them labelled")
    return 0


def _start(options: argparse.Namespace) -> datetime:
    if options.start is not None:
        start: datetime = options.start
        return start
    return _FILE_START if options.output is not None else datetime.fromtimestamp(time.time(), UTC)


def _faults(options: argparse.Namespace, start_s: float, duration_s: float | None) -> list[Fault]:
    """The faults named and the faults drawn."""
    devices = [device_name(number) for number in range(1, options.devices + 1)]
    faults = [parse_fault(text, devices=devices, start=start_s) for text in options.fault]
    for text, fault in zip(options.fault, faults, strict=True):
        if duration_s is not None and fault.start >= start_s + duration_s:
            raise FaultError(f'fault "{text}": starts when the simulation of {duration_s:g} s is over')
    named = {fault.device for fault in faults}
    others = [device for device in devices if device not in named]
    if options.fault_rate > 0 and others:
        rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(_PLAN_STREAM,)))
        faults += plan_faults(others, start_s, duration_s or _LIVE_HORIZON_S, rng, options.fault_rate)
    return faults


def _samples(fleet: ColdChain, end_s: float) -> Iterator[Sample]:
    """Everything before `end_s`, in order of time."""
    while fleet.time < end_s:
        for sample in fleet.step():
            if sample.time < end_s:
                yield sample


def _write(output: str, fleet: ColdChain, end_s: float, columns: Sequence[str]) -> Tally:
    """Write history to a file or, for "-", to standard output."""
    samples = _with_progress(_samples(fleet, end_s), fleet.time, end_s, sys.stderr, time.monotonic)
    try:
        if output == "-":
            tally = write_history(samples, sys.stdout, columns=columns)
            sys.stdout.flush()
            return tally
        with Path(output).open("w", encoding="utf-8", newline="") as file:
            return write_history(samples, file, columns=columns)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error


def _with_progress(
    samples: Iterator[Sample], start_s: float, end_s: float, terminal: TextIO, clock: Callable[[], float]
) -> Iterator[Sample]:
    """Pass samples on, with a line about how far it is if somebody is looking."""
    if not terminal.isatty():
        yield from samples
        return
    shown_at = clock()
    for number, sample in enumerate(samples):
        if number % 1000 == 0 and clock() - shown_at > 0.2:
            shown_at = clock()
            terminal.write(f"\r{_iso(sample.time)}  {(sample.time - start_s) / (end_s - start_s):4.0%} ")
            terminal.flush()
        yield sample
    terminal.write("\r\033[K")


def _publish(options: argparse.Namespace, fleet: ColdChain, end_s: float, topic: str) -> Tally:
    """Publish until the end or Ctrl-C, both of which are a good end; the tally of what was published."""
    publisher = Publisher(
        options.broker,
        topic=options.topic or topic,
        speed=options.speed,
        qos=options.qos,
        protocol=options.protocol,
        say=_say,
    )
    readings = anomalous = 0
    announce = _Announcer(fleet.faults)
    publisher.open()
    try:
        for sample in _samples(fleet, end_s):
            publisher.publish(sample)
            readings += 1
            anomalous += sample.fault is not None
            announce(sample)
    except KeyboardInterrupt:
        _say("interrupted")
    finally:
        left = publisher.close()
        if left:
            _say(f"{left} readings were not acknowledged by the broker")
    return Tally(readings, anomalous)


class _Announcer:
    """Says on standard error, as readings pass, which faults start, end, and when a fridge has recovered."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        news = [(fault.start, f"{fault.device}: {fault.kind} starts") for fault in faults]
        news += [(fault.end, f"{fault.device}: {fault.kind} ends") for fault in faults]
        self._news = sorted(news, reverse=True)
        self._labelled: set[str] = set()

    def __call__(self, sample: Sample) -> None:
        while self._news and self._news[-1][0] <= sample.time:
            at, text = self._news.pop()
            _say(f"{_iso(at)} {text}")
        if sample.fault is not None:
            self._labelled.add(sample.device)
        elif sample.device in self._labelled:
            self._labelled.remove(sample.device)
            _say(f"{_iso(sample.time)} {sample.device}: well again")


def _say(text: str) -> None:
    sys.stderr.write(f"vedette simulate: {text}\n")
    sys.stderr.flush()


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
