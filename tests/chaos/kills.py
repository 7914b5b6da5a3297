"""SIGKILLs of agent and broker at random instants while a fleet publishes: nothing is lost, whatever dies.

Rules this module keeps: instants, victims and bursts are drawn from a seed, which is printed; every kill is a SIGKILL of a process that
runs; a run goes on until its kills are done and all is delivered.
"""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench import machine
from bench.figures import Row
from chaos.progress import Progress
from chaos.scenario import Expected, Scenario
from chaos.sites import PROTOCOLS, MqttVersion, Site
from chaos.verdict import Verdict

Act = Callable[[Site, random.Random], int]

_A_ROUND = 50


class Length(NamedTuple):
    """How hard a round is: seconds between acts, on average, and what is published."""

    every_s: float = 2.0
    rate: float = 90.0
    readings_each: int = 240


def _kill_agent(site: Site, rng: random.Random) -> int:
    site.kill_agent()
    time.sleep(rng.choice([0.0, rng.uniform(0.0, 1.0)]))
    site.start_agent()
    return 1


def _kill_agent_as_it_starts(site: Site, rng: random.Random) -> int:
    times = rng.randint(1, 3)
    site.kill_agent()
    for _ in range(times):
        site.start_agent()
        time.sleep(rng.uniform(0.0, 1.5))
        site.kill_agent()
    site.start_agent()
    return 1 + times


def _kill_broker(site: Site, rng: random.Random) -> int:
    site.broker.kill()
    time.sleep(rng.choice([0.0, rng.uniform(0.0, 1.0)]))
    site.start_broker()
    return 1


def _kill_broker_twice(site: Site, rng: random.Random) -> int:
    kills = _kill_broker(site, rng)
    time.sleep(rng.uniform(0.0, 0.3))
    return kills + _kill_broker(site, rng)


def _kill_both(site: Site, rng: random.Random) -> int:
    first, second = rng.sample([site.kill_agent, site.broker.kill], 2)
    first()
    time.sleep(rng.choice([0.0, rng.uniform(0.0, 0.5)]))
    second()
    starts = rng.sample([site.start_agent, site.start_broker], 2)
    for start in starts:
        start()
        time.sleep(rng.uniform(0.0, 0.3))
    return 2


ACTS: tuple[tuple[Act, int], ...] = (
    (_kill_agent, 5),
    (_kill_agent_as_it_starts, 2),
    (_kill_broker, 4),
    (_kill_broker_twice, 1),
    (_kill_both, 2),
)
"""What is done, and how often in proportion."""


class Kills(NamedTuple):
    """A round: how many processes were killed, in how many acts of each kind, and what came of it."""

    killed: int
    acts: Counter[str]
    verdict: Verdict


def round_of_kills(
    folder: Path,
    scenario: Scenario,
    expected: Expected,
    python: str,
    protocol: MqttVersion,
    kills: int,
    seed: int,
    length: Length,
    progress: Progress | None = None,
) -> Kills:
    """One agent, one broker, and so many kills."""
    rng, acts, done = random.Random(seed), Counter[str](), 0
    with Site(folder, scenario, expected, python, protocol, length.rate, seed) as site:
        while done < kills:
            time.sleep(rng.expovariate(1.0 / length.every_s))
            (act,) = rng.choices([act for act, _ in ACTS], [weight for _, weight in ACTS])
            count = act(site, rng)
            acts[act.__name__.removeprefix("_").replace("_", " ")] += 1
            done += count
            if progress:
                progress(count)
        return Kills(done, acts, site.finish())


def run(progress: Progress, kills: int, seed: int) -> tuple[Row, ...]:
    """Rounds until there were so many kills, over MQTT 5 and 3.1.1 in turn."""
    python = machine.gateway_python()
    progress.begin("kills", kills)
    rounds, done, acts, verdict = 0, 0, Counter[str](), Verdict()
    by_protocol: Counter[MqttVersion] = Counter()
    length = Length()
    while done < kills:
        own_seed, protocol = seed + rounds, PROTOCOLS[rounds % 2]
        with tempfile.TemporaryDirectory(prefix="vedette-chaos-") as name:
            folder = Path(name)
            scenario = Scenario(length.readings_each, own_seed)
            expected = scenario.expect(folder / "undisturbed", python)
            most = min(_A_ROUND, kills - done)
            found = round_of_kills(folder / "site", scenario, expected, python, protocol, most, own_seed, length, progress)
        rounds += 1
        done += found.killed
        acts += found.acts
        verdict = verdict.joined(found.verdict)
        by_protocol[protocol] += found.killed
        if found.verdict.words:
            progress.say(f"kills, round {rounds}, MQTT {protocol}, seed {own_seed}:", *found.verdict.words)
    return (
        *verdict.rows("kills", rounds),
        Row(name="kills: processes killed", value=done, unit="times", bar=kills, better="higher", runs=rounds),
        *(Row(name=f"kills: over MQTT {each}", value=count, unit="times", runs=rounds) for each, count in by_protocol.items()),
        *(Row(name=f"kills: {act}", value=count, unit="times", runs=rounds) for act, count in sorted(acts.items())),
    )
