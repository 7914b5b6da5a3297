"""How a running agent stands: its counters, and what is not as it should be.

Rules this module keeps: one source for the stats topic, `vedette status` and metrics; what is wrong is said with what to do; counting looks
at every device, so it is for every so often, `look` is for every turn and does nothing in most.
"""

import logging
import time
from collections.abc import Iterator

from vedette import __version__
from vedette.config import Config
from vedette.database import Database
from vedette.engine import Engine
from vedette.health import resident_bytes
from vedette.inbox import Inbox
from vedette.intake import Intake
from vedette.logs import say_change
from vedette.mqtt import Connection
from vedette.rollout import Rollout
from vedette.spool import Spool

log = logging.getLogger(__name__)

_LOOK_S = 0.2
"""Turns under load are more frequent than anybody looks."""

_FIRST_ANSWER_S = 5.0
"""A broker that has neither answered nor refused for so long is away; before, the agent has only just begun."""


class Standing:
    """Looks at an agent's parts.

    Args:
        config: The agent's.
        connection: To the broker.
        intake: Counts what arrives.
        inbox: Counts what found no room.
        engine: Counts what brought the pipeline down.
        rollout: The models and the pipeline.
        spool: The alerts that wait.
        database: The disk.
    """

    def __init__(
        self,
        config: Config,
        connection: Connection,
        intake: Intake,
        inbox: Inbox,
        engine: Engine,
        rollout: Rollout,
        spool: Spool,
        database: Database,
    ) -> None:
        self._config, self._connection, self._intake, self._inbox = config, connection, intake, inbox
        self._engine, self._rollout, self._spool, self._database = engine, rollout, spool, database
        self._began = self._counted = time.monotonic()
        self._broker_since = time.time()
        self._is_connected = False
        self._seen: object = None
        self._look_due = 0.0
        self._received: dict[str, int] = {}
        self._rates: dict[str, float] = {}
        self._lost = (0, 0)
        self._is_flooded = self._is_overfull = False

    def look(self) -> bool:
        """Whether something has changed that whoever looks at the agent wants to know at once: broker, disk or models."""
        if (now := time.monotonic()) < self._look_due:
            return False
        self._look_due = now + _LOOK_S
        if self._connection.connected != self._is_connected:
            self._is_connected, self._broker_since = not self._is_connected, time.time()
        models = tuple((report.live, report.trial is None) for report in self._rollout.reports)
        faults = tuple(stream.unscored is None for stream in self._rollout.pipeline.streams)
        found = (
            self._is_connected,
            self._connection.trouble,
            self._connection.refusing,
            self._database.failing,
            self._rollout.trouble,
            models,
            faults,
        )
        before, self._seen = self._seen, found
        return before != found

    def count(self) -> None:
        """Begin another interval: rates are those of the last one, and so is whether readings or alerts are being dropped."""
        now = time.monotonic()
        received = {stream.name: stream.counts["received"] for stream in self._rollout.pipeline.streams}
        if (passed := now - self._counted) > 0:
            self._rates = {name: round(max(0, count - self._received.get(name, count)) / passed, 3) for name, count in received.items()}
        self._counted, self._received = now, received
        lost = self._inbox.dropped, self._spool.dropped.total()
        was_flooded, was_overfull = self._is_flooded, self._is_overfull
        self._is_flooded, self._is_overfull = lost[0] > self._lost[0], lost[1] > self._lost[1]
        say_change(log, self._FLOODED, "readings are no longer dropped", before=was_flooded, now=self._is_flooded)
        say_change(log, self._OVERFULL, "alerts are no longer dropped", before=was_overfull, now=self._is_overfull)
        self._lost = lost

    def degraded(self) -> Iterator[str]:
        """What is not as it should be and what to do, the worst first."""
        if self._database.failing:
            yield self._database.failing
        if not self._is_connected and (self._connection.trouble or time.time() - self._broker_since > _FIRST_ANSWER_S):
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self._broker_since))
            why = self._connection.trouble or f"{self._config.broker.url} has not answered yet"
            yield f"no broker since {since}: {why}; nothing is scored meanwhile, and alerts wait in the spool (vedette check says why)"
        elif self._is_connected and self._connection.trouble:
            yield f"broker: {self._connection.trouble}"
        if self._connection.refusing:
            yield f"{self._connection.refusing}: allow it in the broker's access list; alerts wait in the spool meanwhile (docs/broker.md)"
        for stream in self._rollout.pipeline.streams:
            if stream.unscored:
                model = stream.judge.model.name
                yield (
                    f"stream {stream.name}: windows cannot be scored: {stream.unscored}; "
                    f"the version before comes back with: vedette model rollback {model}"
                )
        if self._is_flooded:
            yield self._FLOODED
        if self._is_overfull:
            yield self._OVERFULL
        if self._rollout.trouble:
            yield f"models: {self._rollout.trouble}"

    def stats(self) -> dict[str, object]:
        """What goes to the stats topic. `received` = all that streams received + `unmatched` + `crashed` + `repeated` + `dropped` +
        `queued`. Times are epoch seconds; `rates` are messages a second in the last interval.
        """
        return {
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._began, 1),
            "rss_bytes": resident_bytes(),
            "received": self._intake.received,
            "repeated": self._intake.repeated,
            "crashed": self._engine.crashed,
            "queued": len(self._inbox),
            "dropped": self._inbox.dropped,
            "spooled": len(self._spool),
            "spool": self._spool.stats(),
            "disk": self._database.failing,
            "broker": {"connected": self._is_connected, "since": round(self._broker_since), "trouble": self._connection.trouble},
            "models": {
                report.name: {
                    "version": report.live,
                    "since": report.since or None,
                    "trial": report.trial.candidate.version if report.trial else None,
                }
                for report in self._rollout.reports
            },
            "rates": self._rates,
            **self._rollout.pipeline.stats(),
        }

    _FLOODED = (
        "readings are dropped: more arrive than can be scored (dropped in the stats); let devices send less often, or watch fewer streams"
    )
    _OVERFULL = "alerts are dropped: the spool is full (spool in the stats); bring the broker back, or raise the caps under spool"
