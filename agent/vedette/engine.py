"""The engine: the pipeline as the worker drives it, so that it outlives whatever ends the process.

Rules this module keeps: an alert is on disk, together with how far the messages that called for it go, before anything else happens; after
a restart, the messages after the last checkpoint go through the pipeline once more, and alerts that are known are not told again; an
episode that nobody goes on with is ended; messages that bring the pipeline down are left out, and all others are not.
"""

import logging
import time
from collections.abc import Callable, Sequence

from vedette.alerts import Alert, ended
from vedette.contract import saved
from vedette.contract.errors import DiskError, SavedError
from vedette.contract.readings import Message
from vedette.journal import Durability, Journal, Past, Tick
from vedette.logs import Faults
from vedette.outbox import Outbox
from vedette.pipeline import Outcome
from vedette.rollout import Rollout
from vedette.stream import Scored

log = logging.getLogger(__name__)

MAX_BATCH = 1024

CHECKPOINT_S, LONGEST_S = 0.2, 0.5
"""A checkpoint is due once so much time has gone into messages since the last one, which is what a restart takes to go through them again;
after the first, only if it writes no more than the messages did.
"""

ScoreSink = Callable[[Sequence[Scored]], None]


class Engine:
    """The pipeline, its past and its future.

    Args:
        rollout: The models, and the pipeline that scores.
        journal: Open.
        outbox: Takes alerts.
        durability: As the journal has it.
        on_scores: Is given every score; those of messages that are gone through once more, once more.

    Attributes:
        number: Of the last message that was processed.
        crashed: Messages that brought the pipeline down.
    """

    def __init__(self, rollout: Rollout, journal: Journal, outbox: Outbox, durability: Durability, on_scores: ScoreSink | None) -> None:
        self._rollout, self._journal, self._outbox = rollout, journal, outbox
        self._durability, self._on_scores = durability, on_scores
        self._blank = self._state()
        self._state_bytes = 0
        self._spent_s = 0.0
        self._known, self._told = Faults(), Faults()
        self.number = self.crashed = 0

    def resume(self) -> None:
        """Go on where the last process ended."""
        began = time.monotonic()
        try:
            count = self._go_back()
        except DiskError as error:
            log.warning("what was known of devices cannot be read, and begins anew: %s", error)
            return
        if self.number:
            spent = time.monotonic() - began
            log.info("resumed after message %d, %d of them gone through once more, in %.2f s", self.number, count, spent)
        if self._durability == "memory":
            self._journal.forget_checkpoint()
        self._end_forgotten()

    def process(self, messages: Sequence[Message]) -> Outcome:
        """Score messages; their alerts are on disk when this returns, or in memory where the disk fails."""
        began = time.monotonic()
        try:
            outcome = self._rollout.process(messages)
        except Exception as error:  # because whatever it is, all other devices have to be watched on
            if self._known.is_new(error):
                log.exception("%d messages brought the pipeline down; it begins anew, and takes them one by one", len(messages))
            outcome = self._process_singly(messages)
        self.number += len(messages)
        self._spent_s += time.monotonic() - began
        if self._on_scores:
            self._on_scores(outcome.scored)
        if outcome.alerts:
            self._tell(outcome.alerts, None)
        return outcome

    def tick(self, now: float) -> list[Alert]:
        """Let time pass: everything that arrived up to `now`, epoch seconds, was processed. What that calls for is told."""
        if alerts := self._rollout.pipeline.tick(now):
            self._tell(alerts, Tick(self.number, now))
        return alerts

    def pause(self, since: float | None, until: float) -> None:
        """Nothing could be heard from `since`, or from the last message on, to `until`, epoch seconds: no device was silent then."""
        self._rollout.pipeline.pause(since, until)
        try:
            with self._journal.transaction() as connection:
                self._journal.mark_tick(connection, Tick(self.number, until, since or 0.0))
        except DiskError:
            return  # a restart before the next checkpoint may then tell silence that was none

    def keep(self, *, at_once: bool = False) -> None:
        """Write a checkpoint if one is due, or at once."""
        if not (at_once or self._journal.needs_checkpoint or self._is_due()):
            return
        state = self._state()
        try:
            self._journal.checkpoint(self.number, state)
        except DiskError:
            return  # said in the status; the journal goes on, and so do we
        self._state_bytes, self._spent_s = len(state), 0.0

    def _is_due(self) -> bool:
        if self._durability == "memory":
            return False
        return self._spent_s > LONGEST_S or (self._spent_s > CHECKPOINT_S and self._journal.bytes > self._state_bytes)

    def _state(self) -> bytes:
        return saved.encode(self._rollout.pipeline.saved())

    def _tell(self, alerts: Sequence[Alert], tick: Tick | None) -> None:
        """Put alerts on disk, and with them what called for them."""
        outgoing, now = self._outbox.outgoing(alerts), time.time()
        try:
            with self._journal.transaction() as connection:
                self._outbox.spool.add(connection, outgoing, now)
                self._journal.mark_told(connection, self.number)
                if tick:
                    self._journal.mark_tick(connection, tick)
        except DiskError:
            self._outbox.spool.hold(outgoing, now)

    def _go_back(self) -> int:
        """Bring the pipeline to where the journal says it was, and say how many messages it took."""
        past = self._journal.resume()
        try:
            alerts = self._go_through(past, MAX_BATCH, self._rollout.pipeline.process)
        except Exception:  # because a message that brought the pipeline down before is among them
            log.exception("messages of the journal bring the pipeline down; it takes them one by one")
            alerts = self._go_through(past, 1, self._process_one)
        self.number = past.number + len(past.messages)
        if alerts:
            self._tell(alerts, None)
        return len(past.messages)

    def _go_through(self, past: Past, most: int, process: Callable[[Sequence[Message]], Outcome]) -> list[Alert]:
        """Take the journal's messages through the pipeline, at most so many at once.

        Returns:
            Alerts that were not told before.
        """
        self._restore(past.state)
        number, count, ticks = past.number, len(past.messages), list(past.ticks)
        stops = sorted({past.told - number, *(tick.after - number for tick in ticks), count} & set(range(1, count + 1)))
        at, alerts = 0, list[Alert]()
        for stop in [0, *stops]:
            while at < stop:
                batch = past.messages[at : min(stop, at + most)]
                outcome = process(batch)
                if self._on_scores:
                    self._on_scores(outcome.scored)
                if number + at >= past.told:
                    alerts += outcome.alerts
                at += len(batch)
            while ticks and ticks[0].after <= number + at:
                self._pass(ticks.pop(0))
        return alerts

    def _pass(self, tick: Tick) -> None:
        """Let time pass as it did; alerts that this called for were told, with the tick."""
        if tick.unheard_since is None:
            self._rollout.pipeline.tick(tick.now)
        else:
            self._rollout.pipeline.pause(tick.unheard_since or None, tick.now)

    def _process_one(self, messages: Sequence[Message]) -> Outcome:
        """Score one message, or leave it out if that brings the pipeline down."""
        try:
            return self._rollout.pipeline.process(messages)
        except Exception as error:  # because all others have to be watched on
            self.crashed += 1
            if self._told.is_new(error):
                what = "a message on %.200r brought the pipeline down; it is left out, as all like it will be (crashed in the stats)"
                log.exception(what, messages[0].topic)
            return Outcome([], [])

    def _process_singly(self, messages: Sequence[Message]) -> Outcome:
        """After a fault halfway through a batch: from where the pipeline was before it."""
        scores, self._on_scores = self._on_scores, None  # they were given
        crashed = self.crashed
        try:
            past = self._journal.past()
            before = past._replace(messages=past.messages[: max(0, self.number - past.number)])
            self._go_through(before, 1, self._process_one)
        except DiskError:
            self._restore(None)
        self._on_scores, self.crashed = scores, crashed
        outcomes = [self._process_one([message]) for message in messages]
        return Outcome([s for o in outcomes for s in o.scored], [a for o in outcomes for a in o.alerts])

    def _restore(self, state: bytes | None) -> None:
        pipeline = self._rollout.pipeline
        pipeline.restore(saved.decode(self._blank))
        if state is None:
            return
        try:
            anew = pipeline.restore(saved.decode(state))
        except SavedError as error:
            anew = [f"what was known of devices begins anew: {error}"]
        except Exception:  # because an agent that another version's state keeps from starting would stay so
            log.exception("what was known of devices does not fit this version")
            pipeline.restore(saved.decode(self._blank))
            anew = ["what was known of devices begins anew"]
        for line in anew:
            log.warning("%s", line)

    def _end_forgotten(self) -> None:
        """End the episodes that were told and that the pipeline, with other models or rules or after a loss, knows nothing of."""
        known = self._rollout.pipeline.open_alerts()
        told = self._outbox.open_alerts()
        if forgotten := [ended(alert, alert.time.timestamp()) for alert in told if alert.id not in known]:
            log.info("%d alerts that nothing is known of any more are ended", len(forgotten))
            self._tell(forgotten, None)
