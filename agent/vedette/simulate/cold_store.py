"""The scenario `cold-chain` as the command sees it: its options, its CSV and its topic."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from vedette.contract.readings import Message
from vedette.contract.recordings import RecordingWriter
from vedette.simulate.faults import KINDS, Fault, FaultError, parse_fault, plan_faults
from vedette.simulate.fleet import ColdChain, Sample, device_name
from vedette.simulate.history import write_history
from vedette.simulate.live import device_topic, payload
from vedette.simulate.options import add_fleet, add_live, add_output, count, interval, rate, topic_with
from vedette.simulate.scenario import Chronicle, Period, Scenario, Tally, iso

_COLUMNS: Final = ("temperature", "power", "door")
_TOPIC: Final = "plant/cold-store/fridge/{device}/telemetry"
_FILE_DURATION_S: Final = 7 * 86400.0
# How far ahead faults are drawn for a fleet that runs until it is interrupted.
_LIVE_HORIZON_S: Final = 90 * 86400.0
_PLAN_STREAM: Final = 3  # the seed's child for schedules; `fleet` uses 0 to 2


class ColdStore:
    """A fleet of fridges with the faults named and the faults drawn.

    Raises:
        FaultError: a fault cannot be as asked.
    """

    def __init__(self, options: argparse.Namespace, period: Period) -> None:
        self.population = f"{options.devices} devices"
        self._options = options
        self._end_s = period.end_s
        self._fleet = ColdChain(
            devices=options.devices,
            seed=options.seed,
            start=period.start_s,
            interval_s=options.interval,
            faults=_faults(options, period),
        )
        self._chronicle = Chronicle(self._fleet.faults, lambda fault: str(fault.device))
        self._labelled: set[str] = set()

    def samples(self) -> Iterator[Sample]:
        """Readings of all fridges."""
        while self._fleet.time < self._end_s:
            for sample in self._fleet.step():
                if sample.time < self._end_s:
                    yield sample

    def write(self, output: str, samples: Iterator[Sample]) -> Tally:
        """Write CSV to a file or, for "-", to standard output; a recording, with the truth beside each message, where the name says so."""
        if output == "-":
            tally = write_history(samples, sys.stdout, columns=_COLUMNS)
            sys.stdout.flush()
            return tally
        if output.lower().endswith((".jsonl", ".jsonl.gz")):
            return self._record(Path(output), samples)
        with Path(output).open("w", encoding="utf-8", newline="") as file:
            return write_history(samples, file, columns=_COLUMNS)

    def _record(self, output: Path, samples: Iterator[Sample]) -> Tally:
        readings = anomalous = 0
        with RecordingWriter(output) as writer:
            for sample in samples:
                label = int(sample.fault is not None)
                message = Message(self.topic(_TOPIC, sample), self.payload(sample), sample.time)
                writer.write(message, label=label, fault=sample.fault or "")
                readings += 1
                anomalous += label
        return Tally(readings, anomalous)

    def topic(self, template: str, sample: Sample) -> str:
        """The fridge's own topic."""
        return device_topic(template, sample.device)

    def payload(self, sample: Sample) -> bytes:
        """What the fridge sends."""
        return payload(sample)

    def news(self, sample: Sample) -> Iterator[str]:
        """Which faults start and end, and when a fridge has recovered."""
        yield from self._chronicle.until(sample.time)
        if sample.fault is not None:
            self._labelled.add(sample.device)
        elif sample.device in self._labelled:
            self._labelled.remove(sample.device)
            yield f"{iso(sample.time)} {sample.device}: well again"

    def summary(self) -> dict[str, object]:
        """The fleet, and the faults that have begun."""
        return {
            "devices": self._options.devices,
            "interval_s": self._options.interval,
            "end": iso(min(self._end_s, self._fleet.time)),
            "faults": [
                {"kind": fault.kind, "device": fault.device, "start": iso(fault.start), "end": iso(fault.end)}
                for fault in self._fleet.faults
                if fault.start < self._fleet.time
            ],
        }


def _faults(options: argparse.Namespace, period: Period) -> list[Fault]:
    """The faults named and the faults drawn."""
    devices = [device_name(number) for number in range(1, options.devices + 1)]
    faults = [parse_fault(text, devices=devices, start=period.start_s) for text in options.fault]
    for text, fault in zip(options.fault, faults, strict=True):
        if fault.start >= period.end_s:
            raise FaultError(f'fault "{text}": starts when the simulation of {period.duration_s:g} s is over')
    named = {fault.device for fault in faults}
    others = [device for device in devices if device not in named]
    if options.fault_rate > 0 and others:
        rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(_PLAN_STREAM,)))
        faults += plan_faults(others, period.start_s, period.duration_s or _LIVE_HORIZON_S, rng, options.fault_rate)
    return faults


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"Faults: {', '.join(KINDS)}. A seed gives the same readings on every machine."
    add_output(parser, metavar="FILE", help_='labelled history as CSV, or a recording (.jsonl, .jsonl.gz); "-" for standard output')
    fleet = add_fleet(parser, "the fleet", file_duration="7d")
    fleet.add_argument("--devices", type=count, default=20, metavar="N", help="default 20")
    fleet.add_argument("--interval", type=interval, default=60.0, metavar="TIME", help="between readings; default 60s")
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
        type=rate,
        default=0.0,
        metavar="N",
        help="faults drawn per device and day, for devices that no --fault names; default 0",
    )
    add_live(parser, topic=_TOPIC, topic_type=topic_with("device"), topic_help="{device} stands for the device's name")


def _check(options: argparse.Namespace) -> str | None:
    return "--json and -o - would both write to standard output" if options.json and options.output == "-" else None


COLD_CHAIN: Final = Scenario(
    help="a fleet of fridges with faults, one message or CSV line a reading",
    add_options=_add_options,
    check=_check,
    make=ColdStore,
    file_duration_s=_FILE_DURATION_S,
)
