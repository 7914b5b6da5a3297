"""The agent: what it is made of, and the order in which it starts and stops. Nothing else."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.config import Config
from vedette.contract.readings import Message
from vedette.database import Database
from vedette.engine import MAX_BATCH, Engine, ScoreSink
from vedette.following import Follower
from vedette.health import ServiceManager
from vedette.inbox import Inbox
from vedette.intake import Intake
from vedette.journal import Journal
from vedette.mqtt import Connection
from vedette.outbox import Outbox
from vedette.pipeline import Outcome
from vedette.retained import Retained
from vedette.rollout import Rollout
from vedette.spool import Spool
from vedette.standing import Standing
from vedette.state import StateBoard
from vedette.store import Store
from vedette.topics import AgentTopics

if TYPE_CHECKING:
    from vedette.homeassistant import Discovery

log = logging.getLogger(__name__)

LINGER_S = 0.005
IDLE_S = 0.2
ARRIVING_S = 1.0
"""No message takes longer from its time of arrival into the inbox."""

FLUSH_S = 0.1
"""What the broker does not wait for is on disk within this time."""

SURELY_KEEPALIVES = 3
"""What was published so many keepalives ago has arrived, if the connection still stands: the broker has answered since."""

MAX_FAULTS = 10
"""So many turns in a row that fail, and the service manager has to begin everything anew."""

Tell = Callable[[dict[str, Any], Sequence[str]], None]
"""Is told the stats, and what is degraded and what to do, the worst first."""


class Service:
    """One agent, with one configuration.

    Args:
        config: Valid.
        config_file: Where it was read from, for updates that the agent starts.
        manager: systemd, or nobody.
        tell: Is told how the agent stands, every so often and when that changes.
        again: An agent runs already, and this one is to take its place.
        on_scores: Is given every score, in order: `--scores` writes them to a file.

    Raises:
        ConfigError: a model or the state folder is not there.
    """

    def __init__(
        self, config: Config, config_file: Path, manager: ServiceManager, tell: Tell, on_scores: ScoreSink | None, *, again: bool = False
    ) -> None:
        self._config, self._manager, self._tell = config, manager, tell
        self._topics = AgentTopics(config.prefix, config.gateway)
        self._inbox = Inbox(config.limits.queue, patience_s=config.broker.keepalive / 2)
        store = Store(Path(config.state_dir), signed_only=config.updates is not None)
        self._announced = config.announcements
        self._follower = None
        if config.updates and self._announced:
            rng = random.Random()  # noqa: S311 because a fleet that is spread need not be unpredictable
            self._follower = Follower(config.updates, config_file, store, rng)
        self._rollout = Rollout(config, store, self._follower, wake=self._inbox.wake, again=again)
        self._database = Database(Path(config.state_dir) / "spool.db", Spool.SCHEMA, Journal.SCHEMA, Retained.SCHEMA)
        self._spool = Spool(self._database, config.spool)
        self._journal = Journal(self._database, config.durability)
        self._retained = Retained(self._database)
        holds = config.durability == "full" and config.spool.failing == "hold"
        listens = self._follower is not None or config.home_assistant is not None
        self._intake = Intake(self._database, self._journal, self._inbox, self._hear if listens else None, holds=holds)
        self._stop = threading.Event()
        client_id = f"vedette-{config.gateway}"
        self._connection = Connection(
            config.broker,
            client_id,
            self._topics.status,
            config.subscriptions,
            config.limits.payload,
            on_burst=self._intake.take,
            on_progress=self._inbox.wake,
            session=self._journal if config.broker.session_expiry else None,
        )
        surely_s = SURELY_KEEPALIVES * config.broker.keepalive
        self._board = StateBoard(config.state_every, config.limits.devices, self._topics, self._retained, self._connection, surely_s)
        self._discovery: Discovery | None = None
        self._outbox = Outbox(self._database, self._spool, self._connection, self._topics)
        self._engine = Engine(self._rollout, self._journal, self._outbox, config.durability, on_scores)
        self._standing = Standing(
            config, self._connection, self._intake, self._inbox, self._engine, self._rollout, self._spool, self._database
        )
        self._faults = 0
        self._flush_due = time.monotonic()
        self._stats_due = self._flush_due + config.stats_every

    def run(self, find_successor: Callable[[], "Service | None"]) -> "Service | None":
        """Run until `stop` is called or a successor is found; stops in the order of the flow: network, worker, models, alerts, database.

        Args:
            find_successor: Asked after every turn, so it has to be quick where there is none.

        Returns:
            The successor, which is to run now; None after `stop`.
        """
        successor = None
        with ExitStack() as stack:
            self._database.open()
            stack.callback(self._database.close)
            self._outbox.deliver(math.inf)
            self._engine.resume()
            self._retained.load()
            self._board.resume(self._outbox.open_alerts(), {stream.name for stream in self._config.streams})
            self._discovery = self._make_discovery()
            self._intake.received = self._engine.number  # all counters go on
            self._rollout.start()
            stack.callback(self._rollout.stop)
            self._connection.start()
            stack.callback(self._connection.stop)
            self._manager.notify("READY=1", "STATUS=scoring")
            log.info("ready: gateway %s, streams %s", self._config.gateway, ", ".join(stream.name for stream in self._config.streams))
            while not self._stop.is_set() and successor is None:
                self._guarded_turn()
                successor = find_successor()
            if successor is None:
                log.info("stopping")
                self._manager.notify("STOPPING=1")
            self._finish()
        return successor

    @property
    def failing(self) -> str | None:
        """Why the disk cannot be used: what only memory holds would end with this service."""
        return self._database.failing

    def stop(self) -> None:
        """Let `run` return soon. May be called by a signal handler or another thread."""
        self._stop.set()
        self._inbox.wake()

    def _guarded_turn(self) -> None:
        """One turn, and word to the service manager that all parts are at work."""
        try:
            self._turn(IDLE_S)
            if self._faults:
                log.info("the agent is at work again after %d faults", self._faults)
            self._faults = 0
        except Exception:  # because what one turn could not do, the next may; one fault after the other is for the service manager
            self._faults += 1
            if self._faults == MAX_FAULTS:
                raise
            if self._faults == 1:
                log.exception("a fault in the agent itself; going on")
            self._stop.wait(IDLE_S)
        if self._connection.lives():
            self._manager.alive(time.monotonic())

    def _turn(self, timeout_s: float) -> None:
        began = time.time()
        messages = self._inbox.take(MAX_BATCH, timeout_s, LINGER_S)
        if self._rollout.advance():
            self._engine.keep(at_once=self._config.durability != "memory")
        for since, until in self._connection.take_outages():
            self._engine.pause(since, until)
            self._board.reconnected()
            if self._discovery:
                self._discovery.reconnected()
        if messages:
            outcome = self._engine.process(messages)
            if outcome.alerts:
                self._outbox.deliver(0.0)  # at once: all else can wait
            self._show(outcome)
        if self._connection.connected and not len(self._inbox):
            # What arrived before this turn began was in the inbox by then, give or take the moment it takes to get there.
            self._board.hear(self._engine.tick(began - ARRIVING_S))
        self._outbox.deliver(time.monotonic())
        self._retain(time.monotonic())
        self._keep(time.monotonic())
        self._publish_reports()
        has_changed = self._standing.look()
        if time.monotonic() >= self._stats_due:
            self._stats_due += self._config.stats_every
            self._standing.count()
            self._publish_stats()
        elif has_changed:
            self._report()

    def _keep(self, now: float) -> None:
        """See to it that what is known is on disk, and say where that cannot be."""
        if now >= self._flush_due:
            self._flush_due = now + (self._config.flush_every if self._config.durability == "periodic" else FLUSH_S)
            self._journal.flush()
        self._engine.keep()
        degraded = self._database.failing or self._connection.refusing
        self._connection.say(f"degraded: {degraded}" if degraded else "online")

    def _finish(self, timeout_s: float = 5.0) -> None:
        """Score what has arrived, give the broker a moment to take the last alerts, and save what is known."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and (len(self._inbox) or (self._connection.connected and self._outbox.busy)):
            self._turn(0.01)
        self._publish_stats()
        self._connection.stop()
        while len(self._inbox):
            self._turn(0.0)
        self._outbox.deliver(math.inf)
        if self._discovery:
            self._discovery.stop()
        self._engine.keep(at_once=True)

    def _hear(self, message: Message) -> bool:
        """Take an announcement of models; called by the network's thread."""
        if self._config.home_assistant and message.topic == self._config.home_assistant.birth:
            if message.payload == b"online" and self._discovery:
                self._discovery.born()
            return True
        name = self._announced.get(message.topic)
        if name is not None and self._follower:
            self._follower.hear(name, message.payload)
        return name is not None

    def _make_discovery(self) -> "Discovery | None":
        """What tells Home Assistant of devices, if it is to be told, or was."""
        settings = self._config.home_assistant
        if settings is None and not self._retained.of("discovery"):
            return None
        from vedette.homeassistant import Announcements, Discovery

        return Discovery(
            Announcements(settings, self._config.gateway, self._topics) if settings else None,
            settings.gone_after if settings else None,
            [stream.name for stream in self._config.streams],
            self._topics,
            self._retained,
            self._connection,
            SURELY_KEEPALIVES * self._config.broker.keepalive,
        )

    def _show(self, outcome: Outcome) -> None:
        """Publish the states that a batch calls for."""
        self._board.hear(outcome.alerts)
        changed = ((alert.stream, alert.device) for alert in outcome.alerts if alert.type != "update")
        devices = self._board.publish_scored(outcome.scored, changed, self._rollout.pipeline, time.monotonic())
        if self._discovery:
            self._discovery.hear(devices)

    def _retain(self, now: float) -> None:
        """Keep right what the broker retains."""
        if self._connection.connected:
            self._board.look(self._rollout.pipeline, now)
        if self._discovery:
            self._discovery.turn(now, self._board, self._rollout.pipeline, connected=self._connection.connected)

    def _publish_reports(self) -> None:
        for report in self._rollout.due_reports():
            if self._connection.publish(self._topics.model(report.name), msgspec.json.encode(report), qos=1, retain=True) is None:
                return
            self._rollout.told(report)

    def _publish_stats(self) -> None:
        self._rollout.refresh_reports()
        self._spool.expire(time.time())
        self._connection.publish(self._topics.stats, msgspec.json.encode(self._report()))

    def _report(self) -> dict[str, Any]:
        stats, degraded = self._standing.stats(), list(self._standing.degraded())
        self._tell(stats, degraded)
        return stats
