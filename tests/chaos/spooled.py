"""Hours of alerts with the broker gone, on a simulated clock: what waits stays within the caps, drains in order, and every drop is counted.

Rules this module keeps: alerts are drawn from a seed; the agent restarts now and then; no real time passes but the disk's.
"""

import random
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench.figures import Row
from chaos.progress import Progress
from spools import NOW, settled
from vedette.config import SpoolLimits
from vedette.contract.durations import Size
from vedette.database import Database
from vedette.outbox import MAX_IN_FLIGHT, Outbox
from vedette.spool import Outgoing, Spool
from vedette.topics import AgentTopics

STEP_S = 10.0
ALERTS_PER_S = 2.0
"""172,800 a day: more than the spool has room for."""


class GoneBroker:
    """A connection that is down until it is up again; then it acknowledges what it has had for a moment."""

    def __init__(self, rng: random.Random) -> None:
        self.connected = False
        self.payloads: list[bytes] = []
        self.most_in_flight = 0
        self._rng = rng
        self._unacknowledged: deque[int] = deque()

    def publish(
        self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False, event: Sequence[tuple[str, str]] = ()
    ) -> int | None:
        """Take a message, if connected and not full for the moment."""
        if not self.connected or self._rng.random() < 0.01:
            return None
        assert isinstance(payload, bytes)
        self.payloads.append(payload)
        self._unacknowledged.append(len(self.payloads))
        self.most_in_flight = max(self.most_in_flight, len(self._unacknowledged))
        return len(self.payloads)

    def take_answers(self) -> list[tuple[int, bool]]:
        """That it took some of the oldest."""
        return [(self._unacknowledged.popleft(), True) for _ in range(self._rng.randint(0, len(self._unacknowledged)))]


class Fleet:
    """Episodes that come, get worse and end; each payload begins with its alert's number in order of coming."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._open: list[str] = []
        self.made = 0

    def alerts(self) -> list[Outgoing]:
        """What comes within a step."""
        return [self._next() for _ in range(self._rng.randint(0, round(2 * ALERTS_PER_S * STEP_S)))]

    def _next(self) -> Outgoing:
        self.made += 1
        if not self._open or self._rng.random() < 0.35:
            self._open.append(f"{self.made:032x}")
            type_, episode = "new", self._open[-1]
        elif self._rng.random() < 0.5:
            type_, episode = "end", self._open.pop(self._rng.randrange(len(self._open)))
        else:
            type_, episode = "update", self._rng.choice(self._open)
        return Outgoing(f"vedette/gw/alerts/fridges/{episode[-6:]}", f"{self.made} {type_} ".encode().ljust(560, b"."), episode, type_)


def run(progress: Progress, hours: int, seed: int) -> tuple[Row, ...]:
    """Let alerts come for so many hours, and drain them."""
    rng = random.Random(seed)
    # As large a part of the default caps as of a day.
    limits = SpoolLimits(rows=round(100_000 * hours / 24), bytes=Size(round(64 * 1024**2 * hours / 24)))
    faults: list[str] = []
    dropped: Counter[str] = Counter()
    fleet, broker = Fleet(rng), GoneBroker(rng)
    now = NOW
    largest = 0
    progress.begin("hours without a broker", hours)
    with tempfile.TemporaryDirectory(prefix="vedette-spooled-") as folder:
        path = Path(folder) / "spool.db"
        steps = round(hours * 3600 / STEP_S)
        restarts = {rng.randrange(steps) for _ in range(4)}
        database, spool, outbox = _start(path, limits, broker)
        for step in range(steps):
            if step in restarts:
                dropped += spool.dropped
                database.close()
                database, spool, outbox = _start(path, limits, broker)
            spool.keep(fleet.alerts(), now)
            outbox.deliver(now - NOW)
            stats = spool.stats()
            largest = max(largest, sum(file.stat().st_size for file in Path(folder).iterdir()))
            if stats["waiting"] > limits.rows or stats["bytes"] > limits.bytes:
                faults.append(f"at step {step}: over the caps: {stats}")
            now += STEP_S
            progress(STEP_S / 3600)
        waited = len(spool)
        with closing(database):
            broker.connected = True
            while len(outbox):
                outbox.deliver(now - NOW)
                now += 0.05
            outbox.deliver(float("inf"))
        dropped += spool.dropped
    numbers = [int(payload.split()[0]) for payload in broker.payloads]
    if numbers != sorted(set(numbers)):
        faults.append("not in the order in which they came, each once")
    if fleet.made != len(numbers) + dropped.total():
        faults.append(f"{fleet.made} came, {len(numbers)} were delivered, {dropped.total()} counted as dropped")
    if broker.most_in_flight > MAX_IN_FLIGHT:
        faults.append(f"{broker.most_in_flight} in flight")
    if dropped["spool_episodes"] and any(b" update " in payload for payload in broker.payloads):
        faults.append("an episode was dropped while updates waited")
    progress.say(*(f"spooled, seed {seed}: {fault}" for fault in faults))
    what = f"{hours} h without a broker"
    return (
        Row(name=f"{what}: over the caps, out of order or not counted", value=len(faults), unit="times", bar=0, better="lower", runs=1),
        Row(name=f"{what}: alerts", value=fleet.made, unit="alerts", runs=1),
        Row(name=f"{what}: delivered, of {waited} that waited", value=len(numbers), unit="alerts", bar=waited, better="higher", runs=1),
        *(Row(name=f"{what}: dropped, {reason}", value=count, unit="alerts", runs=1) for reason, count in sorted(dropped.items())),
        Row(name=f"{what}: most on disk", value=largest / 1024**2, unit="MiB", runs=1),
    )


def _start(path: Path, limits: SpoolLimits, broker: GoneBroker) -> tuple[Database, Spool, Outbox]:
    database = Database(path, Spool.SCHEMA)
    assert database.open() is None
    spool = settled(Spool(database, limits), database)
    return database, spool, Outbox(database, spool, broker, AgentTopics("vedette", "gw"))
