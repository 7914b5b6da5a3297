"""The agent: what it is made of, and the order in which it starts and stops. Nothing else."""

import logging
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from vedette.config import Config
from vedette.contract.readings import Message
from vedette.database import Database
from vedette.following import Follower
from vedette.health import ServiceManager, resident_bytes
from vedette.inbox import Inbox
from vedette.mqtt import Connection
from vedette.outbox import Outbox
from vedette.pipeline import Outcome, Scored
from vedette.rollout import Rollout
from vedette.spool import Spool
from vedette.state import DeviceState, StateBoard
from vedette.store import Store
from vedette.topics import AgentTopics

log = logging.getLogger(__name__)

MAX_BATCH = 1024
LINGER_S = 0.005
IDLE_S = 0.2
ARRIVING_S = 1.0
"""No message takes longer from its time of arrival into the inbox."""

ScoreSink = Callable[[Sequence[Scored]], None]


class Service:
    """One agent.

    Args:
        config: Valid.
        config_file: Where it was read from, for updates that the agent starts.
        on_scores: Is given every score, in order: `--scores` writes them to a file.

    Raises:
        ConfigError: a model or the state folder is not there.
    """

    def __init__(self, config: Config, config_file: Path, on_scores: ScoreSink | None = None) -> None:
        self._config = config
        self._on_scores = on_scores
        self._topics = AgentTopics(config.prefix, config.gateway)
        self._inbox = Inbox(config.limits.queue, patience_s=config.broker.keepalive / 2)
        store = Store(Path(config.state_dir), signed_only=config.updates is not None)
        self._announced = config.announcements
        self._follower = None
        if config.updates and self._announced:
            rng = random.Random()  # noqa: S311 because a fleet that is spread need not be unpredictable
            self._follower = Follower(config.updates, config_file, store, rng)
        self._rollout = Rollout(config, store, self._follower, wake=self._inbox.wake)
        self._judges = {stream.name: stream.judge for stream in self._rollout.pipeline.streams}
        self._database = Database(Path(config.state_dir) / "spool.db", Spool.SCHEMA)
        self._spool = Spool(self._database, config.spool)
        self._board = StateBoard(config.state_every, config.limits.devices)
        self._manager = ServiceManager(os.environ.get("NOTIFY_SOCKET"))
        self._stop = threading.Event()
        client_id = f"vedette-{config.gateway}"
        self._connection = Connection(
            config.broker,
            client_id,
            self._topics.status,
            config.subscriptions,
            on_message=self._receive,
            on_progress=self._inbox.wake,
        )
        self._outbox = Outbox(self._database, self._spool, self._connection, self._topics)
        self._received = 0
        self._started = time.monotonic()
        self._stats_due = self._started + config.stats_every

    def run(self) -> None:
        """Run until `stop` is called; stops in the order of the flow: network, worker, models, alerts, database."""
        with ExitStack() as stack:
            self._database.open()
            stack.callback(self._database.close)
            self._outbox.deliver(math.inf)
            self._rollout.start()
            stack.callback(self._rollout.stop)
            self._connection.start()
            stack.callback(self._connection.stop)
            self._manager.notify("READY=1", "STATUS=scoring")
            while not self._stop.is_set():
                self._turn(IDLE_S)
            self._manager.notify("STOPPING=1")
            self._finish()

    def stop(self) -> None:
        """Let `run` return soon. May be called by a signal handler or another thread."""
        self._stop.set()
        self._inbox.wake()

    def _turn(self, timeout_s: float) -> None:
        began = time.time()
        messages = self._inbox.take(MAX_BATCH, timeout_s, LINGER_S)
        self._rollout.advance()
        if messages:
            outcome = self._rollout.process(messages)
            if self._on_scores:
                self._on_scores(outcome.scored)
            self._outbox.add(outcome.alerts, time.time())
            if outcome.alerts:
                self._outbox.deliver(0.0)  # at once: all else can wait
            self._publish_states(outcome)
        if not len(self._inbox):
            # What arrived before this turn began was in the inbox by then, give or take the moment it takes to get there.
            self._outbox.add(self._rollout.pipeline.tick(began - ARRIVING_S), time.time())
        self._outbox.deliver(time.monotonic())
        self._publish_reports()
        if time.monotonic() >= self._stats_due:
            self._stats_due += self._config.stats_every
            self._publish_stats()

    def _finish(self, timeout_s: float = 5.0) -> None:
        """Score what has arrived, and give the broker a moment to take the last alerts; the spool keeps what it does not take."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and (len(self._inbox) or (self._connection.connected and len(self._outbox))):
            self._turn(0.01)
        self._outbox.deliver(math.inf)
        self._publish_stats()

    def _receive(self, message: Message, acknowledged: bool) -> None:
        if self._follower and message.topic in self._announced:
            self._follower.hear(self._announced[message.topic], message.payload)
            return
        self._received += 1
        self._inbox.put(message, may_wait=acknowledged)

    def _publish_states(self, outcome: Outcome) -> None:
        for stream, device, at, score in self._board.due(outcome, time.monotonic()):
            state = DeviceState(score=round(score, 4), time=at, alert=self._judges[stream].open_alert(device))
            self._connection.publish(self._topics.state(stream, device), msgspec.json.encode(state), retain=True)

    def _publish_reports(self) -> None:
        for report in self._rollout.due_reports():
            if self._connection.publish(self._topics.model(report.name), msgspec.json.encode(report), qos=1, retain=True) is None:
                return
            self._rollout.told(report)

    def _publish_stats(self) -> None:
        self._rollout.refresh_reports()
        self._spool.expire(time.time())
        self._connection.publish(self._topics.stats, msgspec.json.encode(self.stats()))

    def stats(self) -> dict[str, object]:
        """What goes to the stats topic. `received` = all that streams received + `unmatched` + `dropped` + `queued`."""
        return {
            "uptime_s": round(time.monotonic() - self._started, 1),
            "rss_bytes": resident_bytes(),
            "received": self._received,
            "queued": len(self._inbox),
            "dropped": self._inbox.dropped,
            "spooled": len(self._outbox),
            "spool": self._spool.stats(),
            "disk": self._database.failing,
            **self._rollout.pipeline.stats(),
        }


def run_until_signalled(service: Service) -> None:
    """Run a service until SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    service.run()
