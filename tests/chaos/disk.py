"""An agent whose disk is full, read-only or failing under load: it stays up, tells why, delivers every alert, and recovers soon after.

Rules this module keeps: every fault begins and ends while readings arrive, but those that are there from the start; the alerts that the
readings call for are known.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from agents import Agent, Watcher, episode, write_config
from bench import machine
from bench.figures import Row
from brokers import Mosquitto
from bundles import install, make_bundle
from chaos.disk_faults import FAULTS, DiskFault, Unavailable, environment, failing
from chaos.progress import Progress

RECOVERED_S = 5.0
"""The issue's bar."""

_WARM = [4.0] * 5 + [10.0] * 4 + [4.0] * 6
_DEVICES = 20
_RETRY_S = 0.1


class Found(NamedTuple):
    """What came of one fault.

    Attributes:
        faults: What should not have been, in words.
        recovered_s: From the fault's end until the agent said that its disk works.
        alerts: That were delivered.
    """

    faults: list[str]
    recovered_s: float
    alerts: int


def weather(fault: DiskFault, folder: Path, python: str, comes_first: str = "memory") -> Found:
    """Take an agent through a fault of the disk that its state folder is on, with `spool.failing` as it says."""
    faults: list[str] = []
    with Mosquitto(folder) as broker, Watcher(broker) as watcher:
        config = write_config(folder, broker.url, stats_every="100ms", trial=False, spool={"failing": comes_first})
        with Agent(config, python=python, prefix=fault.prefix, env=environment(fault)) as agent:
            watcher.wait_online()
            if not fault.from_start:
                _publish(watcher, "before")
            with failing(fault, agent.process.pid):
                _publish(watcher, "during")
                said = watcher.wait(lambda: _disk(watcher))
                if not said.startswith(fault.words):
                    faults.append(f'"{said}" does not begin with "{fault.words}"')
                watcher.wait(lambda: _status(watcher).startswith(f"degraded: {fault.words}"))
            ended = time.monotonic()
            while _disk(watcher) is not None and time.monotonic() < ended + 4 * RECOVERED_S:
                time.sleep(_RETRY_S)
            recovered_s = time.monotonic() - ended
            watcher.wait(lambda: _status(watcher) == "online")
            _publish(watcher, "after")
            expected = {
                (f"{part}-{number}", type_)
                for part in ("before", "during", "after")
                if part != "before" or not fault.from_start
                for number in range(_DEVICES)
                for type_ in ("new", "end")
            }
            if missing := expected - _alerts(watcher):
                faults.append(f"{len(missing)} alerts are missing, such as {min(missing)}")
            if agent.process.poll() is not None:
                faults.append("the agent has ended")
            code = agent.stop()
            if code:
                faults.append(f"it ended with {code}: {agent.said[-500:]}")
    return Found(faults, recovered_s, len(_alerts(watcher)))


def _publish(watcher: Watcher, part: str) -> None:
    """Devices that get too warm and cool down again, and what the agent says of them."""
    for number in range(_DEVICES):
        watcher.publish(f"plant/north/fridge/{part}-{number}/telemetry", *episode(_WARM))
    deadline = time.monotonic() + 20
    # Those that do not come are told as missing in the end.
    while sum(device.startswith(part) for device, _ in _alerts(watcher)) < 2 * _DEVICES and time.monotonic() < deadline:
        time.sleep(_RETRY_S)


def _alerts(watcher: Watcher) -> set[tuple[str, str]]:
    return {(alert["payload"]["device"], alert["payload"]["type"]) for alert in watcher.alerts()}


def _status(watcher: Watcher) -> str:
    return (watcher.last("vedette/gw-1/status") or b"").decode()


def _disk(watcher: Watcher) -> str | None:
    stats = watcher.last("vedette/gw-1/stats")
    said: str | None = json.loads(stats)["disk"] if stats else None
    return said


def run(progress: Progress, times: int, seed: int) -> tuple[Row, ...]:
    """Take agents through every fault so many times. Nothing is drawn, so the seed changes nothing."""
    rows: list[Row] = []
    python = machine.gateway_python()
    progress.begin("disks that fail", len(FAULTS) * times)
    for name, make in FAULTS.items():
        found: list[Found] = []
        for _ in range(times):
            with tempfile.TemporaryDirectory(prefix="vedette-disk-") as folder:
                install(Path(folder) / "state", make_bundle())
                try:
                    fault = make(Path(folder) / "state")
                except Unavailable as error:
                    progress.say(f"disk, {name}: {error}")
                    break
                found.append(weather(fault, Path(folder), python))
            progress()
        faults = [fault for each in found for fault in each.faults]
        progress.say(*(f"disk, {name}: {fault}" for fault in faults))
        if not found:
            rows.append(Row(name=f"disk, {name}: cannot be made here", value=0, unit="times", runs=0))
            continue
        took = sorted(each.recovered_s for each in found)
        rows += [
            Row(name=f"disk, {name}: lost alerts or ended", value=len(faults), unit="times", bar=0, better="lower", runs=len(found)),
            Row(
                name=f"disk, {name}: recovered after its end",
                value=statistics.median(took),
                unit="s",
                bar=RECOVERED_S,
                better="lower",
                runs=len(took),
                spread=(took[0], took[-1]),
            ),
        ]
    return tuple(rows)
