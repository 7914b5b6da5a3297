"""`make soak`: an agent at its defaults for an hour at half of the load that the machine sustains: does it grow, does it lose anything?

Rules this module keeps: memory, threads and descriptors are looked at from outside, every few seconds; the trend is a straight line
through what comes after the warm-up; every reading that was sent is in the agent's own counters, or the figures say how many are not.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from bench import figures, machine, models
from bench.engine import DISTRIBUTIONS
from bench.figures import Figures, Line, Row
from bench.models import DEVIATION, LSTM_30, STEPS
from bench.publisher import Order, Published, Publisher
from bench.rig import DEVICES, GATEWAY, Plan, Progress, Rig, order
from bench.soak_faults import KEEPALIVE_S, Faults, NobodyLooks
from bench.subjects import Account, Agent, Monitor, SubjectError
from bench.throughput import sustain
from brokers import MOSQUITTO, Mosquitto
from chaos.proxy import Proxy

MODELS = (LSTM_30, DEVIATION)
"""A stream for each runtime, one of them with windows."""

LOOK_EVERY_S = 5.0
MAX_DRIFT_MB = 2.0
_A_PIECE_S, _BACK_WITHIN_S = 5.0, 45.0
_WARM_UP_SHARE, _LONGEST_WARM_UP_S = 0.2, 300.0


class Look(NamedTuple):
    """What the agent held, so many seconds into the soak."""

    time_s: float
    resident_bytes: int
    threads: int
    descriptors: int


class Soaked(NamedTuple):
    """A soak: what was seen, what was published, and what the agent says became of it."""

    looks: list[Look]
    rate: float
    published: Published
    account: Account
    cpu_us: float


class _Publishing(threading.Thread):
    """Publishes while others look."""

    def __init__(self, publisher: Publisher, ordered: Order) -> None:
        super().__init__(name="publishing", daemon=True)
        self._publisher, self._order = publisher, ordered
        self.published: Published | None = None

    def run(self) -> None:
        self.published = self._publisher.publish(self._order)


def soak(rig: Rig, seconds: float, rate: float) -> Soaked:
    """Drive an agent at a rate for so long.

    Raises:
        SubjectError: the agent, or what feeds it, ended before its time.
    """
    with rig.agent(MODELS) as agent:
        agent.wait_until_subscribed()
        ordered = order(*MODELS, rate=rate, messages=round(rate * seconds))
        publishing, began = _Publishing(rig.publisher, ordered), time.monotonic()
        publishing.start()
        looks = _look(agent, publishing, seconds, began)
        if publishing.published is None:
            raise SubjectError("the publisher ended before its time")
        agent.wait_until_quiet(60.0)
        looks.append(look(agent, time.monotonic() - began))
        cpu_us = agent.cpu_s() / ordered.messages * 1e6
        return Soaked(looks, rate, publishing.published, agent.finish(), cpu_us)


class _Feeding(threading.Thread):
    """Publishes at a rate until it is told to stop, whatever becomes of the broker."""

    def __init__(self, port: int, rate: float) -> None:
        super().__init__(name="feeding", daemon=True)
        self._port, self._ordered = port, order(*MODELS, rate=rate, messages=round(_A_PIECE_S * rate))
        self.stopped = threading.Event()
        self.messages = self.restarts = 0

    def run(self) -> None:
        while not self.stopped.is_set():
            with contextlib.suppress(OSError), Publisher(self._port, expects_loss=True) as publisher:
                while not self.stopped.is_set():
                    self.messages += publisher.publish(self._ordered).messages
            self.restarts += 1
            self.stopped.wait(0.5)


class Endured(NamedTuple):
    """A soak with faults: what was seen in the quiet between them, how often each happened, and how it ended."""

    looks: list[Look]
    faults: Mapping[str, int]
    messages: int
    account: Account


def endure(rig: Rig, seconds: float, rate: float, seed: int) -> Endured:
    """Drive an agent at a rate for so long while faults happen one after another.

    Raises:
        SubjectError: the agent ended before its time, or did not come back after a fault.
    """
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(rig.broker.port, NobodyLooks(), seed))
        settings = {"url": f"mqtt://127.0.0.1:{proxy.port}", "keepalive": f"{KEEPALIVE_S:.0f}s"}
        agent = stack.enter_context(rig.agent(MODELS, broker=settings))
        agent.wait_until_subscribed()
        faults = Faults(rig.broker, proxy, MODELS, rig.folder, seed)
        faults.fill()
        feeding, began, rng = _Feeding(rig.broker.port, rate), time.monotonic(), random.Random(seed)
        feeding.start()
        looks = [look(agent, 0.0)]
        with tqdm(total=round(seconds), unit="s", desc="soak with faults", disable=None, leave=False, file=sys.stderr) as bar:
            while (now := time.monotonic() - began) < seconds:
                bar.update(min(round(now), round(seconds)) - bar.n)
                bar.set_postfix_str(f"rss {looks[-1].resident_bytes / 1e6:.1f} MB")
                time.sleep(rng.uniform(0.2, min(20.0, seconds / 10)))
                kind = faults.happen()
                _wait_until_carried(agent, proxy, kind)
                looks.append(look(agent, time.monotonic() - began))
        feeding.stopped.set()
        feeding.join(_A_PIECE_S + 15.0)
        agent.wait_until_quiet(120.0)
        looks.append(look(agent, time.monotonic() - began))
        return Endured(looks, faults.done, feeding.messages, agent.finish())


def _wait_until_carried(agent: Agent, proxy: Proxy, kind: str) -> None:
    """Wait until the agent has a connection that lasts: without one it has fewer descriptors."""
    deadline = time.monotonic() + _BACK_WITHIN_S
    while time.monotonic() < deadline:
        assert agent.child
        if agent.child.poll() is not None:
            raise agent.complain(f"the agent ended after: {kind}")
        if proxy.is_carrying:
            time.sleep(2.0)
            if proxy.is_carrying:
                return
        time.sleep(0.1)
    raise agent.complain(f"the agent did not come back within {_BACK_WITHIN_S:.0f} s after: {kind}")


def _look(agent: Agent, publishing: _Publishing, seconds: float, began: float) -> list[Look]:
    looks = [look(agent, 0.0)]
    with tqdm(total=round(seconds), unit="s", desc="soak", disable=None, leave=False, file=sys.stderr) as bar:
        while publishing.is_alive():
            publishing.join(min(LOOK_EVERY_S, seconds / 10))
            assert agent.child
            if agent.child.poll() is not None:
                raise agent.complain(f"the agent ended after {time.monotonic() - began:.0f} s")
            looks.append(look(agent, time.monotonic() - began))
            bar.set_postfix_str(f"rss {looks[-1].resident_bytes / 1e6:.1f} MB")
            bar.update(min(round(looks[-1].time_s), round(seconds)) - bar.n)
    return looks


def look(agent: Agent, time_s: float) -> Look:
    """See what it holds now."""
    assert agent.child
    process = Path(f"/proc/{agent.child.pid}")
    return Look(time_s, agent.resident_bytes(), len(list((process / "task").iterdir())), len(list((process / "fd").iterdir())))


def drift_mb(looks: Sequence[Look]) -> float:
    """How much memory grows from the end of the warm-up to the end, by the straight line of least squares, in MB."""
    after = after_warm_up(looks)
    times = np.array([each.time_s for each in after])
    slope, _ = np.polyfit(times, np.array([each.resident_bytes / 1e6 for each in after]), 1)
    return float(slope * (times[-1] - times[0]))


def after_warm_up(looks: Sequence[Look]) -> list[Look]:
    """Those behind the first fifth, or behind five minutes."""
    warm_up_s = min(_WARM_UP_SHARE * looks[-1].time_s, _LONGEST_WARM_UP_S)
    return [each for each in looks if each.time_s >= warm_up_s]


def rows_of(found: Soaked) -> tuple[Row, ...]:
    """The figures of a soak."""
    after = after_warm_up(found.looks)
    length_s = after[-1].time_s - after[0].time_s
    drift, account = drift_mb(found.looks), found.account
    resident = [each.resident_bytes / 1e6 for each in after]
    unaccounted = found.published.messages - account.done - account.waiting
    lost = sum(count for name, count in account.others.items() if not name.endswith((".alerts", ".open")))

    def row(name: str, value: float, unit: str, bar: float | None = None) -> Row:
        return Row(name=name, value=value, unit=unit, bar=bar, better=None if bar is None else "lower", runs=1)

    return (
        row("rss drift over the soak", drift, "MB", MAX_DRIFT_MB),
        row("readings unaccounted for", float(abs(unaccounted)), "readings", 0.0),
        row("readings dropped, rejected, late or failed", float(lost), "readings", 0.0),
        row("threads more at the end than after the warm-up", float(after[-1].threads - after[0].threads), "threads", 0.0),
        row("descriptors more at the end than after the warm-up", float(after[-1].descriptors - after[0].descriptors), "descriptors", 0.0),
        row("length after the warm-up", length_s, "s"),
        row("rss drift an hour", drift / length_s * 3600, "MB/h"),
        Row(name="rss", value=resident[-1], unit="MB", runs=len(resident), spread=(min(resident), max(resident))),
        row("threads", float(after[-1].threads), "threads"),
        row("descriptors", float(after[-1].descriptors), "descriptors"),
        row("readings sent", float(found.published.messages), "readings"),
        row("rate planned", found.rate, "readings/s"),
        row("rate reached", found.published.messages / found.published.seconds, "readings/s"),
        row("agent cpu, with its start", found.cpu_us, "us/reading"),
    )


def rows_of_endured(found: Endured) -> tuple[Row, ...]:
    """The figures of a soak with faults; readings that a killed broker took with it are nobody's, so these are not counted."""
    after = after_warm_up(found.looks)
    resident = [each.resident_bytes / 1e6 for each in after]

    def row(name: str, value: float, unit: str, bar: float | None = None) -> Row:
        better: Literal["lower"] | None = None if bar is None else "lower"
        return Row(name=f"with faults: {name}", value=value, unit=unit, bar=bar, better=better, runs=1)

    return (
        row("rss drift over the soak", drift_mb(found.looks), "MB", MAX_DRIFT_MB),
        row("threads more at the end than after the warm-up", float(after[-1].threads - after[0].threads), "threads", 0.0),
        row("descriptors more at the end than after the warm-up", float(after[-1].descriptors - after[0].descriptors), "descriptors", 0.0),
        row("left in the queue at the end", float(found.account.others.get("queued", 0)), "readings", 0.0),
        row("length after the warm-up", after[-1].time_s - after[0].time_s, "s"),
        Row(name="with faults: rss", value=resident[-1], unit="MB", runs=len(resident), spread=(min(resident), max(resident))),
        row("readings sent", float(found.messages), "readings"),
        row("readings scored", float(found.account.done), "readings"),
        *(row(kind, float(count), "times") for kind, count in sorted(found.faults.items())),
    )


def waiting() -> int:
    """Readings that complete no window yet."""
    return sum(DEVICES // len(MODELS) * (STEPS[model] - 1) for model in MODELS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print the table and write the figures.

    Returns:
        0 where the agent neither grew nor lost anything; 1 otherwise.
    """
    options = argparse.ArgumentParser(description="An agent at half load for an hour: memory, threads, descriptors, and every reading.")
    options.add_argument("--seconds", type=float, default=3600.0, help="length (default: %(default).0f)")
    options.add_argument("--rate", type=float, help="readings a second (default: half of what the machine sustains)")
    options.add_argument(
        "--figures", type=Path, metavar="FILE", default=figures.FOLDER / "soak.json", help="(default: build/figures/soak.json)"
    )
    options.add_argument("--faults", action="store_true", help="with lost brokers, cuts, stalls, hostile payloads, newcomers and swaps")
    options.add_argument("--seed", type=int, default=1, help="of the faults (default: %(default)s)")
    given = options.parse_args(arguments)
    if given.seconds < 5 or (given.rate is not None and given.rate < 10):
        options.error("expected at least 5 s and 10 readings/s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    progress = Progress()
    try:
        python = machine.gateway_python()
        versions = {**machine.versions(python, DISTRIBUTIONS), "mosquitto": machine.mosquitto_version(MOSQUITTO)}
        found = _run(python, given.seconds, given.rate, given.seed if given.faults else None, progress)
    except KeyboardInterrupt:
        return 130
    except (OSError, RuntimeError, SubjectError, subprocess.SubprocessError, AssertionError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    finally:
        progress.clear()
    result = Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=found.rows)
    figures.write(result, given.figures)
    print(f"vedette soak, commit {result.commit}\n{result.machine}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{given.seconds:.0f} s at {found.rate:.0f} readings/s, {DEVICES} devices, {' and '.join(MODELS)}, QoS 1", end="")
    print(f", faults of seed {given.seed}\n" if given.faults else "\n")
    print(figures.table(figures.in_order(Line("soak", row) for row in result.rows)))
    if found.fault:
        print(f"\n{found.fault}")
    print(f"\nfigures in {os.path.relpath(given.figures)}")
    return 1 if found.fault or any(row.missed for row in result.rows) else 0


class _Result(NamedTuple):
    """What a soak of either kind leaves; `fault` is what became of readings, where it matters."""

    rate: float
    rows: tuple[Row, ...]
    fault: str | None


def _run(python: str, seconds: float, rate: float | None, seed: int | None, progress: Progress) -> _Result:
    """Soak, with the faults of a seed if there is one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vedette-soak-")))
        progress("making the models")
        models.install(folder, MODELS)
        broker = stack.enter_context(Mosquitto(folder))
        publisher = stack.enter_context(Publisher(broker.port))
        monitor = stack.enter_context(Monitor(broker.port, f"vedette/{GATEWAY}"))
        rig = Rig(python, folder, broker, publisher, monitor, progress)
        if rate is None:
            progress("full load")
            with rig.agent(MODELS) as agent:
                rate = sustain(rig, Plan(1, 1.0, 3.0, 0.0), agent, MODELS, {}).rate / 2
        progress.clear()
        if seed is not None:
            return _Result(rate, rows_of_endured(endure(rig, seconds, rate, seed)), None)
        found = soak(rig, seconds, rate)
        return _Result(rate, rows_of(found), found.account.fault(found.published.messages, waiting()))


if __name__ == "__main__":
    sys.exit(main())
