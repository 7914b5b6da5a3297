"""`make bench`: what a reading costs, beside a bare subscriber; memory; start.

Rules this module keeps: whatever is compared is measured in one run, in turn (A B A B …); start-up and warm-up are left out; a message
that went astray makes the run unclean, and an unclean run leaves no figures; nothing leaves this machine.
"""

import argparse
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import figures, machine
from bench.figures import Figures, Line, Row
from bench.models import DEVIATION, LSTM, install_one_step
from bench.publisher import Order, Publisher
from bench.subjects import QOS, Account, Agent, BareSubscriber, Monitor, SubjectError
from brokers import MOSQUITTO, Mosquitto

GATEWAY = "bench"
DEVICES = 100
BOTH_QOS: tuple[QOS, ...] = (0, 1)
DISTRIBUTIONS = ("vedette", "paho-mqtt", "ai-edge-litert", "onnxruntime", "numpy", "msgspec")
TIME_LIMIT_S = 225.0
"""Not begun after it: another round. `make bench` ends within four minutes."""


class Figure(NamedTuple):
    """A figure to be measured; `bar` is issue 5's."""

    name: str
    unit: str
    bar: float | None = None


def _ratio(model: str, qos: int) -> str:
    return f"agent/bare-subscriber cpu, {model}, qos{qos}"


def _agent_cpu(model: str, qos: int) -> str:
    return f"agent cpu, {model}, qos{qos}"


def _bare_cpu(qos: int) -> str:
    return f"bare-subscriber cpu, qos{qos}"


MEMORY_LSTM, MEMORY_BOTH = f"agent rss, {LSTM}, LiteRT only, {DEVICES} devices", f"agent rss, both runtimes, {DEVICES} devices"
START_LSTM, START_BOTH = f"agent start to subscribed, {LSTM}", "agent start to subscribed, both runtimes"

FIGURES = (
    Figure(_ratio(LSTM, 0), "ratio", 1.0),
    Figure(_ratio(LSTM, 1), "ratio", 1.2),
    Figure(MEMORY_LSTM, "MB", 60.0),
    Figure(MEMORY_BOTH, "MB", 95.0),
    Figure(START_LSTM, "s", 0.6),
    Figure(START_BOTH, "s", 0.6),
    *(Figure(_ratio(DEVIATION, qos), "ratio") for qos in BOTH_QOS),
    *(Figure(_agent_cpu(model, qos), "us/reading") for model in (LSTM, DEVIATION) for qos in BOTH_QOS),
    *(Figure(_bare_cpu(qos), "us/message") for qos in BOTH_QOS),
)


class Plan(NamedTuple):
    """How long and how often. `rate` is in messages a second."""

    runs: int
    rate: float
    seconds: float
    warm_up_s: float

    @property
    def warm_up(self) -> int:
        """Messages before each measurement."""
        return round(self.rate * self.warm_up_s)

    @property
    def messages(self) -> int:
        """Messages of each measurement."""
        return round(self.rate * self.seconds)


class Cost(NamedTuple):
    """What one run of a subject took: microseconds of CPU a message, bytes held at the end, and seconds that it and the publisher
    were behind the plan when the last message should have been dealt with.
    """

    cpu_us: float
    resident_bytes: int
    behind_s: float


class Laggard(NamedTuple):
    """A measurement that did not keep up with the rate, and by how much."""

    behind_s: float
    who: str


class Bench:
    """Subjects under load, one at a time, over one broker.

    Args:
        python: The gateway's.
        folder: For models, configurations and logs.
        broker: Running.
        publisher: Running.
        monitor: Connected.

    Attributes:
        samples: Measurements by figure.
        faults: What makes the run unclean.
        laggards: Measurements that did not keep up with the rate.
    """

    def __init__(self, python: str, folder: Path, broker: Mosquitto, publisher: Publisher, monitor: Monitor) -> None:
        self._python, self._folder, self._broker, self._publisher, self._monitor = python, folder, broker, publisher, monitor
        self.samples: dict[str, list[float]] = defaultdict(list)
        self.faults: list[str] = []
        self.laggards: list[Laggard] = []

    def measure_bare(self, plan: Plan, qos: QOS) -> Cost:
        """The bare subscriber's part of a pair."""
        with BareSubscriber(self._python, self._folder, self._broker.port, _topic(LSTM).replace("{device}", "+"), qos) as subject:
            subject.wait_until_subscribed()
            cost = self._load(subject, plan, qos, (LSTM,))
            self._account("bare subscriber", plan, subject.finish())
        self.samples[_bare_cpu(qos)].append(cost.cpu_us)
        return cost

    def measure_agent(self, plan: Plan, qos: QOS, models: Sequence[str]) -> tuple[Cost, float]:
        """The agent with a stream for each model, and how many seconds it took to start."""
        with Agent(self._python, self._config(models, qos), self._monitor) as subject:
            start_s = subject.wait_until_subscribed()
            cost = self._load(subject, plan, qos, models)
            self._account(f"agent, {' and '.join(models)}, qos{qos}", plan, subject.finish())
        return cost, start_s

    def measure_pairs(self, plan: Plan, qos: QOS, step: Callable[[str], None]) -> None:
        """The bare subscriber, then the agent with each model, at the same rate."""
        step(f"bare subscriber, qos{qos}")
        bare = self.measure_bare(plan, qos)
        for model in (LSTM, DEVIATION):
            step(f"agent, {model}, qos{qos}")
            cost, start_s = self.measure_agent(plan, qos, (model,))
            self.samples[_agent_cpu(model, qos)].append(cost.cpu_us)
            self.samples[_ratio(model, qos)].append(cost.cpu_us / bare.cpu_us)
            if model == LSTM:
                self.samples[MEMORY_LSTM].append(cost.resident_bytes / 1e6)
                self.samples[START_LSTM].append(start_s)

    def measure_both_runtimes(self, plan: Plan, step: Callable[[str], None]) -> None:
        """Two streams, one for each runtime."""
        step("agent, both runtimes")
        cost, start_s = self.measure_agent(plan, 1, (LSTM, DEVIATION))
        self.samples[MEMORY_BOTH].append(cost.resident_bytes / 1e6)
        self.samples[START_BOTH].append(start_s)

    def find_rate(self, plan: Plan, step: Callable[[str], None]) -> float:
        """The highest of some rates, the plan's first, that agent, broker and publisher sustain together: the common rate of all that
        follows. The heaviest combination decides.
        """
        for part in (1.0, 0.75, 0.5, 0.35, 0.25, 0.1):
            rate = plan.rate * part
            step(f"can this machine do {rate:.0f} messages/s?")
            cost, _ = self.measure_agent(plan._replace(rate=rate), 1, (LSTM,))
            if cost.behind_s < 0.1 * plan.seconds:
                return rate
        return rate

    def _load(self, subject: BareSubscriber | Agent, plan: Plan, qos: QOS, models: Sequence[str]) -> Cost:
        order = Order(tuple(map(_topic, models)), DEVICES // len(models), qos, plan.rate, plan.warm_up)
        self._publisher.publish(order)
        subject.wait_until_quiet()
        before = subject.cpu_s()
        published = self._publisher.publish(order._replace(messages=plan.messages))
        lag_s = subject.wait_until_quiet()
        behind_s = published.seconds - plan.seconds + lag_s
        if behind_s > 0.1 * plan.seconds:
            self.laggards.append(Laggard(behind_s, f"{type(subject).__name__}, qos{qos}"))
        return Cost((subject.cpu_s() - before) / plan.messages * 1e6, subject.resident_bytes(), behind_s)

    def _account(self, who: str, plan: Plan, account: Account) -> None:
        if fault := account.fault(plan.warm_up + plan.messages):
            self.faults.append(f"{who}: {fault}")

    def _config(self, models: Sequence[str], qos: QOS) -> Path:
        """Defaults wherever there are any: that is how an operator runs it."""
        lines = [f"gateway: {GATEWAY}", f"broker: {{url: '{self._broker.url}'}}", f"state_dir: {self._folder}", "streams:"]
        for model in models:
            stream = f"name: {model}, topic: '{_topic(model)}', model: {model}, qos: {qos}, payload: {{time: {{field: ts}}}}"
            lines.append(f"  - {{{stream}}}")
        path = self._folder / f"agent-{'-'.join(models)}-qos{qos}.yaml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


class Progress:
    """One line on a terminal that says what is going on; nothing in a pipe."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._steps = itertools.count(1)
        self._began = time.monotonic()

    def __call__(self, what: str) -> None:
        """Say what comes next."""
        if self._shown:
            print(f"\r\033[K{time.monotonic() - self._began:4.0f} s  step {next(self._steps)}: {what}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the figures.

    Returns:
        0 where every message was accounted for, whatever the figures say; 1 otherwise.
    """
    given = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    progress = Progress()
    try:
        python = machine.gateway_python()
        versions = {**machine.versions(python, DISTRIBUTIONS), "mosquitto": machine.mosquitto_version(MOSQUITTO)}
        bench, plan = _measure(given, python, progress)
    except KeyboardInterrupt:
        return 130
    except (OSError, RuntimeError, SubjectError, subprocess.SubprocessError, AssertionError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        progress.clear()
    found = Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=_rows(bench.samples))
    print(_report(found, plan, bench.laggards))
    if bench.faults:
        print("\nNOT CLEAN, so no figures were written:", *bench.faults, sep="\n  ")
        return 1
    if path := given.figures or (None if given.quick else figures.FOLDER / "engine.json"):
        figures.write(found, path)
        print(f"\nevery message accounted for; figures in {os.path.relpath(path)}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description="Speed, memory and start of the agent, beside a bare subscriber.")
    options.add_argument("--runs", type=int, default=5, help="rounds of bare subscriber and agent in turn (default: %(default)s)")
    options.add_argument("--rate", type=float, default=10_000.0, help="messages a second, if the machine can (default: %(default).0f)")
    options.add_argument("--seconds", type=float, default=3.5, help="length of one measurement (default: %(default)s)")
    options.add_argument("--quick", action="store_true", help="see whether it works: one short round; figures only where --figures says")
    options.add_argument("--figures", type=Path, metavar="FILE", help="where the figures go (default: build/figures/engine.json)")
    given = options.parse_args(arguments)
    if given.runs < 1 or given.rate < 100 or given.seconds < 0.5:
        options.error("expected at least 1 run, 100 messages/s and 0.5 s")
    return given


def _measure(given: argparse.Namespace, python: str, progress: Progress) -> tuple[Bench, Plan]:
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vedette-bench-")))
        progress("making the models")
        install_one_step(folder)
        broker = stack.enter_context(Mosquitto(folder))
        publisher = stack.enter_context(Publisher(broker.port))
        monitor = stack.enter_context(Monitor(broker.port, f"vedette/{GATEWAY}"))
        bench = Bench(python, folder, broker, publisher, monitor)
        plan = Plan(given.runs, given.rate, given.seconds, warm_up_s=0.7)
        if given.quick:
            plan = Plan(1, min(given.rate, 2_000.0), 0.5, warm_up_s=0.2)
        else:
            rate = bench.find_rate(plan._replace(seconds=2.0), progress)
            bench.laggards.clear()
            plan = plan._replace(rate=rate)
        longest_s = 0.0
        for _ in range(plan.runs):
            round_began = time.monotonic()
            if round_began - began + longest_s > TIME_LIMIT_S:
                break
            for qos in BOTH_QOS:
                bench.measure_pairs(plan, qos, progress)
            bench.measure_both_runtimes(plan._replace(seconds=min(1.0, plan.seconds)), progress)
            longest_s = max(longest_s, time.monotonic() - round_began)
    return bench, plan


def _rows(samples: dict[str, list[float]]) -> tuple[Row, ...]:
    return tuple(
        Row(
            name=figure.name,
            value=statistics.median(values),
            unit=figure.unit,
            bar=figure.bar,
            better="lower",
            runs=len(values),
            spread=(min(values), max(values)),
        )
        for figure in FIGURES
        if (values := samples[figure.name])
    )


def _report(found: Figures, plan: Plan, laggards: Sequence[Laggard]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    what = f"{plan.rate:.0f} messages/s, {plan.seconds:g} s each after {plan.warm_up_s:g} s of warm-up, {DEVICES} devices"
    header = [
        f"vedette bench, commit {found.commit}",
        found.machine,
        versions,
        f"{what}, 1 reading of about 80 bytes a message; median, and smallest … largest",
    ]
    if laggards:
        worst = max(laggards)
        header.append(f"behind the rate in {len(laggards)} measurements, at worst by {worst.behind_s:.1f} s ({worst.who})")
    return "\n".join([*header, "", figures.table([Line("engine", row) for row in found.rows])])


def _topic(model: str) -> str:
    return f"plant/{model}/{{device}}/telemetry"


if __name__ == "__main__":
    sys.exit(main())
