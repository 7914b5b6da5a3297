"""What every part of `make bench` measures with: one broker, one publisher, subjects one at a time, and the samples that come of it.

Rules this module keeps: start-up and warm-up are left out; a message that went astray makes the run unclean.
"""

import itertools
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench.figures import Row
from bench.models import STEPS
from bench.publisher import Order, Publisher
from bench.subjects import QOS, Account, Agent, Baseline, Monitor, Process
from brokers import Mosquitto

GATEWAY = "bench"
DEVICES = 100


class Figure(NamedTuple):
    """A figure to be measured; `bar` is what it has to reach, on the side that `better` names."""

    name: str
    unit: str
    bar: float | None = None
    better: Literal["lower", "higher"] = "lower"


class Plan(NamedTuple):
    """How long and how often. `rate` is in messages a second; `quick` is to see whether it works."""

    runs: int
    rate: float
    seconds: float
    warm_up_s: float
    quick: bool = False

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


class Flood(NamedTuple):
    """So many messages, and seconds until the broker had them all, and until all were worked off."""

    messages: int
    published_s: float
    worked_off_s: float

    @property
    def rate(self) -> float:
        """Messages worked off a second."""
        return self.messages / self.worked_off_s

    @property
    def was_too_much(self) -> bool:
        """Whether more arrived than was worked off: only then does the rate say what the subject can do."""
        return self.worked_off_s > 1.15 * self.published_s


class Laggard(NamedTuple):
    """A measurement that did not keep up with the rate, and by how much."""

    behind_s: float
    who: str


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


class Rig:
    """Subjects under load, one at a time, over one broker.

    Args:
        python: The gateway's.
        folder: For models, configurations and logs.
        broker: Running.
        publisher: Running.
        monitor: Connected.
        step: Told what is measured next.

    Attributes:
        samples: Measurements by figure.
        faults: What makes the run unclean.
        laggards: Measurements that did not keep up with the rate.
        notes: What else a reader of the figures has to know.
    """

    def __init__(
        self, python: str, folder: Path, broker: Mosquitto, publisher: Publisher, monitor: Monitor, step: Callable[[str], None]
    ) -> None:
        self.python, self.folder, self.broker, self.publisher, self.monitor, self.step = python, folder, broker, publisher, monitor, step
        self.samples: dict[str, list[float]] = defaultdict(list)
        self.faults: list[str] = []
        self.laggards: list[Laggard] = []
        self.notes: list[str] = []

    def agent(self, models: Sequence[str], qos: QOS = 1, *, keep: bool = False, **settings: Any) -> Agent:
        """The agent with a stream for each model; defaults wherever there are any, as an operator runs it, but for `settings`, and for
        what one device may send: a few devices stand for a fleet here.

        It knows nothing of those before it, unless it is to `keep` what they left; the broker never does.
        """
        if not keep:
            for left in self.folder.glob("spool.db*"):
                left.unlink()
        streams = [
            {"name": model, "topic": topic(model), "model": model, "qos": qos, "payload": {"time": {"field": "ts"}, "repeats": "keep"}}
            for model in models
        ]
        whole = {
            "gateway": GATEWAY,
            "broker": {"url": self.broker.url, "session_expiry": 0},
            "state_dir": str(self.folder),
            "streams": streams,
            "limits": {"rate": None},
            **settings,
        }
        path = self.folder / f"agent-{'-'.join(models)}-qos{qos}.yaml"
        # JSON is YAML.
        path.write_text(json.dumps(whole), encoding="utf-8")
        return Agent(self.python, path, self.monitor)

    def baseline(self, model: str) -> Baseline:
        """The baseline program with a model's own file."""
        return Baseline(self.python, self.folder, self.broker.port, topic(model).replace("{device}", "+"), model, STEPS[model])

    def load(self, subject: Process, plan: Plan, order: Order) -> Cost:
        """Publish at the plan's rate, after the warm-up, and see what a subject spends on it."""
        self.publisher.publish(order._replace(rate=plan.rate, messages=plan.warm_up))
        subject.wait_until_quiet()
        before = subject.cpu_s()
        published = self.publisher.publish(order._replace(rate=plan.rate, messages=plan.messages))
        lag_s = subject.wait_until_quiet()
        behind_s = published.seconds - plan.seconds + lag_s
        if behind_s > 0.1 * plan.seconds:
            self.laggards.append(Laggard(behind_s, f"{type(subject).__name__}, qos{order.qos}"))
        return Cost((subject.cpu_s() - before) / plan.messages * 1e6, subject.resident_bytes(), behind_s)

    def flood(self, subject: Process, order: Order, timeout_s: float = 60.0) -> "Flood":
        """Publish, and wait until a subject has worked off everything."""
        published = self.publisher.publish(order)
        return Flood(order.messages, published.seconds, published.seconds + subject.wait_until_quiet(timeout_s))

    def account(self, who: str, sent: int, account: Account, waiting: int = 0) -> None:
        """Note what became of the messages, of which `waiting` completed no window yet."""
        if fault := account.fault(sent, waiting):
            self.faults.append(f"{who}: {fault}")

    def rows(self, figures: Sequence[Figure]) -> tuple[Row, ...]:
        """Median and spread of every figure that was measured."""
        return rows(figures, self.samples)


def rows(figures: Sequence[Figure], samples: Mapping[str, Sequence[float]]) -> tuple[Row, ...]:
    """Median and spread of every figure of which there are samples."""
    return tuple(
        Row(
            name=figure.name,
            value=statistics.median(values),
            unit=figure.unit,
            bar=figure.bar,
            better=figure.better,
            runs=len(values),
            spread=(min(values), max(values)),
        )
        for figure in figures
        if (values := samples.get(figure.name))
    )


def topic(model: str) -> str:
    """The topic of a model's devices."""
    return f"plant/{model}/{{device}}/telemetry"


def order(*models: str, qos: int = 1, devices: int = DEVICES, rate: float = 1.0, messages: int = 0, odd: int = 0) -> Order:
    """What to publish for models: `devices` are all of theirs together."""
    return Order(tuple(map(topic, models)), devices // len(models), qos, rate, messages, odd)
