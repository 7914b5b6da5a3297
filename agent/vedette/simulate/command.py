"""The command `vedette simulate`: which scenario, and where its readings go."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from vedette.contract.errors import ConfigError
from vedette.simulate.cold_store import COLD_CHAIN
from vedette.simulate.live import Publisher
from vedette.simulate.logins.provider import LOGIN_EVENTS
from vedette.simulate.options import parse_options
from vedette.simulate.scenario import Period, S, Simulation, Tally, iso

_FILE_START: Final = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
_SCENARIOS: Final = {"cold-chain": COLD_CHAIN, "login-events": LOGIN_EVENTS}


def simulate(arguments: Sequence[str]) -> int:
    """Simulate devices or accounts of which some go wrong, to a file or live on MQTT.

    Args:
        arguments: What follows `vedette simulate` on the command line.

    Returns:
        0, or 1 if it was interrupted before a file was whole.

    Raises:
        FaultError: a fault cannot be as asked.
        AttackError: an attack cannot be as asked.
        BrokerError: the URL names no broker.
        ConfigError: the file cannot be written.
        SystemExit: 2, the command was not understood; 0, help was asked for.
    """
    options = parse_options(arguments, scenarios=_SCENARIOS)
    scenario = _SCENARIOS[options.scenario]
    duration_s: float | None = options.duration
    if duration_s is None and options.output is not None:
        duration_s = scenario.file_duration_s
    period = Period(float(int(_start(options).timestamp())), duration_s)
    simulation = scenario.make(options, period)
    try:
        tally = _write(options.output, simulation, period) if options.output is not None else _publish(options, simulation)
    except BrokenPipeError:
        # Whoever read has read enough, as `head` does; Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        _say("interrupted" if options.output is None else f"interrupted; {options.output} ends early")
        return 1
    if options.json:
        summary = {
            "scenario": options.scenario,
            "seed": options.seed,
            "start": iso(period.start_s),
            "readings": tally.readings,
            "anomalous": tally.anomalous,
            "output": options.output,
            **simulation.summary(),
        }
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
    else:
        _say(f"{tally.readings} readings of {simulation.population}, {tally.anomalous} of them labelled")
    return 0


def _start(options: argparse.Namespace) -> datetime:
    if options.start is not None:
        start: datetime = options.start
        return start
    return _FILE_START if options.output is not None else datetime.fromtimestamp(time.time(), UTC)


def _write(output: str, simulation: Simulation[Any], period: Period) -> Tally:
    samples = _with_progress(simulation.samples(), period.start_s, period.end_s, sys.stderr, time.monotonic)
    try:
        return simulation.write(output, samples)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error


def _with_progress(samples: Iterator[S], start_s: float, end_s: float, terminal: TextIO, clock: Callable[[], float]) -> Iterator[S]:
    """Pass samples on, with a line about how far it is if somebody is looking."""
    if not terminal.isatty():
        yield from samples
        return
    shown_at = clock()
    for number, sample in enumerate(samples):
        if number % 1000 == 0 and clock() - shown_at > 0.2:
            shown_at = clock()
            terminal.write(f"\r{iso(sample.time)}  {(sample.time - start_s) / (end_s - start_s):4.0%} ")
            terminal.flush()
        yield sample
    terminal.write("\r\033[K")


def _publish(options: argparse.Namespace, simulation: Simulation[Any]) -> Tally:
    """Publish until the end or Ctrl-C, both of which are a good end; the tally of what was published."""
    topic: str = options.topic or options.default_topic
    publisher = Publisher(
        options.broker,
        topic=topic,
        speed=options.speed,
        qos=options.qos,
        protocol=options.protocol,
        say=_say,
    )
    readings = anomalous = 0
    publisher.open()
    try:
        for sample in simulation.samples():
            publisher.send(sample.time, simulation.topic(topic, sample), simulation.payload(sample))
            readings += 1
            anomalous += sample.fault is not None
            for news in simulation.news(sample):
                _say(news)
    except KeyboardInterrupt:
        _say("interrupted")
    finally:
        left = publisher.close()
        if left:
            _say(f"{left} readings were not acknowledged by the broker")
    return Tally(readings, anomalous)


def _say(text: str) -> None:
    sys.stderr.write(f"vedette simulate: {text}\n")
    sys.stderr.flush()
