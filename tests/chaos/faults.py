"""Faults of the network, of the broker and of the machine that the agent lives on, while a fleet publishes.

Rules this module keeps: each fault is one of a kind, begins and ends at a known moment, and is followed by quiet; that it is noticed and
that the agent is back is seen from outside, by what it does on the wire; the comparison at the end is the same as after kills.
"""

import random
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import machine
from bench.figures import Row
from chaos.progress import Progress
from chaos.proxy import End, Way
from chaos.scenario import Expected, Scenario
from chaos.sites import KEEPALIVE_S, PROTOCOLS, MqttVersion, Site
from chaos.verdict import Verdict

LIMIT_S = 2 * KEEPALIVE_S
"""Two keepalives: to notice, and to be back."""

SUSPENDED_S = 1.7 * KEEPALIVE_S
"""Longer than a broker waits for a client that says nothing, which is 1.5 keepalives."""

_GRACE_S = 8.0
"""How long beyond the limit is waited, for a figure rather than a mere miss."""


class Fault(NamedTuple):
    """A kind of fault.

    Attributes:
        act: Context manager: the fault lasts as long as its block.
        lasts_s: How long.
        breaks: Whether the connection is lost and has to be made anew.
        may_break: It depends on the broker's patience: the agent is back when it acknowledges readings or subscribes anew.
        is_noticed: Whether the agent can see from within that something is wrong before the fault ends.
    """

    act: Callable[[Site], AbstractContextManager[None]]
    lasts_s: float
    breaks: bool = True
    may_break: bool = False
    is_noticed: bool = False


@contextmanager
def _cut(site: Site, end: End) -> Iterator[None]:
    site.proxy.cut(end)
    yield


@contextmanager
def _stall(site: Site, way: Way) -> Iterator[None]:
    site.proxy.stall(way)
    yield
    site.proxy.flow()


@contextmanager
def _swallow(site: Site) -> Iterator[None]:
    site.proxy.swallow()
    yield
    site.proxy.flow()


@contextmanager
def _delay(site: Site) -> Iterator[None]:
    site.proxy.delay(0.2, 0.4)
    yield
    site.proxy.flow()


@contextmanager
def _by_bytes(site: Site) -> Iterator[None]:
    site.proxy.by_bytes()
    yield
    site.proxy.flow()


@contextmanager
def _suspend(site: Site) -> Iterator[None]:
    site.signal_agent(signal.SIGSTOP)
    yield
    site.signal_agent(signal.SIGCONT)


@contextmanager
def _freeze_broker(site: Site) -> Iterator[None]:
    site.broker.freeze()
    yield
    site.broker.thaw()


FAULTS: Mapping[str, Fault] = {
    "cut with RST": Fault(lambda site: _cut(site, End.RESET), 0.0),
    "cut with FIN": Fault(lambda site: _cut(site, End.FINISH), 0.0),
    "stalled towards the broker": Fault(lambda site: _stall(site, "up"), 2.5 * KEEPALIVE_S, is_noticed=True),
    "stalled towards the agent": Fault(lambda site: _stall(site, "down"), 2.5 * KEEPALIVE_S, is_noticed=True),
    "stalled for a moment": Fault(lambda site: _stall(site, "both"), 0.4 * KEEPALIVE_S, breaks=False),
    "half-open": Fault(_swallow, 2.5 * KEEPALIVE_S, is_noticed=True),
    "delay and jitter": Fault(_delay, KEEPALIVE_S, breaks=False),
    "byte by byte": Fault(_by_bytes, KEEPALIVE_S, breaks=False),
    "suspended agent": Fault(_suspend, SUSPENDED_S, breaks=False, may_break=True),
    "frozen broker": Fault(_freeze_broker, 2.5 * KEEPALIVE_S, is_noticed=True),
}


class Suffered(NamedTuple):
    """What a fault came to: seconds until it was noticed, and until the agent was back after its end; infinite for never, None where it
    was of no concern.
    """

    noticed_s: float | None
    back_s: float | None


def suffer(site: Site, fault: Fault) -> Suffered:
    """Let a fault happen, and wait until it is over and the agent is back."""
    began_s = time.monotonic()
    with fault.act(site):
        time.sleep(fault.lasts_s)
        ended_s = time.monotonic()  # before it ends: the agent may be back before this thread goes on
    noticed_s = back_s = None
    if fault.breaks:
        # It may have been back before the fault was over: after a cut, at once.
        back = _moment(lambda: site.tap.subscribed_since(began_s if fault.lasts_s == 0 else ended_s), LIMIT_S + _GRACE_S)
        back_s = back - ended_s
    elif fault.may_break:
        back_s = _moment(lambda: site.tap.acknowledged_since(ended_s) or site.tap.subscribed_since(ended_s), LIMIT_S + _GRACE_S) - ended_s
    if fault.is_noticed:
        noticed = _moment(lambda: site.tap.noticed_since(began_s), 0.0)
        noticed_s = noticed - began_s
    return Suffered(noticed_s, back_s)


def _moment(find: Callable[[], float | None], patience_s: float) -> float:
    deadline = time.monotonic() + patience_s
    while (found := find()) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return float("inf") if found is None else found


class Endured(NamedTuple):
    """A run with faults: what each came to, and what came of all."""

    suffered: Mapping[str, list[Suffered]]
    verdict: Verdict


def endure(
    folder: Path,
    scenario: Scenario,
    expected: Expected,
    python: str,
    protocol: MqttVersion,
    kinds: list[str],
    seed: int,
    rate: float,
    progress: Callable[[], None] | None = None,
) -> Endured:
    """One agent, and faults one after another, in the order given."""
    rng = random.Random(seed)
    suffered: defaultdict[str, list[Suffered]] = defaultdict(list)
    with Site(folder, scenario, expected, python, protocol, rate, seed) as site:
        for kind in kinds:
            time.sleep(rng.uniform(0.2, 2.0))
            suffered[kind].append(suffer(site, FAULTS[kind]))
            if progress:
                progress()
        return Endured(suffered, site.finish())


def run(progress: Progress, times: int, seed: int) -> tuple[Row, ...]:
    """Every kind of fault so many times over each protocol, in an order drawn from the seed."""
    python = machine.gateway_python()
    progress.begin("faults", times * len(FAULTS) * len(PROTOCOLS))
    verdict = Verdict()
    suffered: defaultdict[str, list[Suffered]] = defaultdict(list)
    for number in range(times * len(PROTOCOLS)):
        own_seed, protocol = seed + number, PROTOCOLS[number % 2]
        kinds = random.Random(own_seed).sample(list(FAULTS), len(FAULTS))
        length_s = sum(each.lasts_s + 4.0 for each in FAULTS.values())
        with tempfile.TemporaryDirectory(prefix="vedette-chaos-") as name:
            folder = Path(name)
            scenario = Scenario(240, own_seed)
            expected = scenario.expect(folder / "undisturbed", python)
            rate = len(scenario.readings) / length_s
            found = endure(folder / "site", scenario, expected, python, protocol, kinds, own_seed, rate, progress)
        verdict = verdict.joined(found.verdict)
        for kind, each in found.suffered.items():
            suffered[kind] += each
        if found.verdict.words:
            progress.say(f"faults, MQTT {protocol}, seed {own_seed}:", *found.verdict.words)
    return (*verdict.rows("faults", times * len(PROTOCOLS)), *_rows(suffered))


def _rows(suffered: Mapping[str, list[Suffered]]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for kind, all_ in suffered.items():
        for what, values in {
            "noticed after": [each.noticed_s for each in all_ if each.noticed_s is not None],
            "back after its end": [each.back_s for each in all_ if each.back_s is not None],
        }.items():
            if values:
                spread = (min(values), max(values))
                # The worst counts, not the median.
                rows.append(
                    Row(
                        name=f"{kind}: {what}",
                        value=max(0.0, spread[1]),
                        unit="s",
                        bar=LIMIT_S,
                        better="lower",
                        runs=len(values),
                        spread=spread,
                    )
                )
    return tuple(rows)
