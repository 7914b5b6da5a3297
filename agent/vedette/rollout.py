"""The rollout: how a model that somebody installs goes live in a running agent, with no restart and no reading lost.

A thread of its own watches the store and loads what is new; the worker takes what is ready between two batches. Rules this module keeps:
the worker never waits for a disk or for a model to load; what cannot be loaded, or does not fit the streams, gives way to what was live
before; before a model is loaded it is written down that it is, so that one which brings the agent down is known when the agent is back.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from vedette.config import Config
from vedette.contract.errors import BundleError, VedetteError
from vedette.contract.readings import Message
from vedette.following import Follower
from vedette.pipeline import Outcome, Pipeline
from vedette.records import Entry
from vedette.store import MAX_STARTS, Loaded, Store
from vedette.trial import Comparison, Trial, Verdict

log = logging.getLogger(__name__)

SETTLE_S = 60.0
"""A model that has run for so long without bringing the agent down is trusted to."""

_LOOK_S = 0.25
_RETRY_S = 10.0


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON on a model's topic below the gateway.

    Attributes:
        live: Version.
        since: When it went live here, epoch seconds; 0 where that is not known.
        trial: How the candidate does so far, while there is one.
        last: How the last trial ended.
    """

    name: str
    live: str
    since: int = 0
    trial: Comparison | None = None
    last: Verdict | None = None


class _Swap(NamedTuple):
    """Go on with this pipeline's model."""

    name: str
    version: str
    since: int
    pipeline: Pipeline


class _Try(NamedTuple):
    """Begin, or with None end, the trial of a candidate."""

    name: str
    sha256: str
    pipeline: Pipeline | None


_Step = _Swap | _Try


class Rollout:
    """The worker's side: trials, and the change from one model to the next.

    Args:
        config: The agent's.
        store: The models.
        follower: Fetches what is announced; None where announcements are not followed.
        wake: Called by the watching thread when something is ready for the worker.
        again: The agent runs already, with another configuration.
    """

    def __init__(self, config: Config, store: Store, follower: Follower | None, wake: Callable[[], None], *, again: bool = False) -> None:
        self._config = config
        self._watch = _Watch(config, store, follower, wake)
        try:
            self.pipeline = Pipeline(config, lambda name: self._watch.open(name, again=again))
        except BaseException:
            self._watch.stop()  # what was begun for it has not brought the agent down
            raise
        self._trials: dict[str, tuple[str, Trial]] = {}
        self._reports = {name: ModelReport(name=name, live=entry.version, since=entry.since) for name, entry in self._watch.live.items()}
        self._untold = set(self._reports)

    @property
    def reports(self) -> list[ModelReport]:
        """Of all models, as they were told last."""
        return [self._reports[name] for name in sorted(self._reports)]

    @property
    def trouble(self) -> str | None:
        """Why the models cannot be looked after just now; None where they can."""
        return self._watch.trouble

    def start(self) -> None:
        """Begin to watch the store."""
        self._watch.start()

    def stop(self) -> None:
        """End the thread; models that have not settled have not brought the agent down."""
        self._watch.stop()

    def advance(self) -> bool:
        """Take what is ready: between two batches. Says whether another model is live now."""
        has_swapped = False
        for step in self._watch.take():
            if isinstance(step, _Swap):
                self.pipeline.adopt(step.pipeline)
                has_swapped = True
                self._trials.pop(step.name, None)
                self._tell(step.name, live=step.version, since=step.since, trial=None)
                log.info("model %s: %s is live", step.name, step.version)
            elif step.pipeline is None:
                self._trials.pop(step.name, None)
                self._tell(step.name, trial=None)
            else:
                trial = Trial(step.pipeline, self.pipeline, self._config.trial, time.monotonic())
                self._trials[step.name] = (step.sha256, trial)
                self._tell(step.name, trial=trial.numbers())
                log.info("model %s: %s is on trial for %s", step.name, trial.numbers().candidate.version, self._config.trial)
        return has_swapped

    def process(self, messages: Sequence[Message]) -> Outcome:
        """Take a batch through what is live, and then through what is on trial."""
        outcome = self.pipeline.process(messages)
        for name, (sha256, trial) in list(self._trials.items()):
            # It goes on scoring until the store has the verdict, so that no reading is missing in its windows.
            if verdict := self._try(name, trial, messages, outcome):
                self._watch.conclude(name, sha256, verdict)
                self._tell(name, last=verdict)
                version = verdict.numbers.candidate.version
                log.log(
                    logging.INFO if verdict.good else logging.WARNING,
                    "model %s: %s %s: %s", name, version, "did well on trial" if verdict.good else "is rejected", verdict.reason,
                )  # fmt: skip
        return outcome

    def _try(self, name: str, trial: Trial, messages: Sequence[Message], live: Outcome) -> Verdict | None:
        """Take a batch through what is on trial, and say what the trial has come to, if it has."""
        try:
            trial.process(messages, live)
        except Exception as error:  # because a candidate must not cost what is live a single score
            log.exception("model %s: what is on trial brought its pipeline down", name)
            del self._trials[name]
            return Verdict(good=False, reason=f"it brought its pipeline down: {error!r}", numbers=trial.numbers())
        return trial.verdict(time.monotonic())

    def due_reports(self) -> list[ModelReport]:
        """What subscribers should be told: all that has changed since it was `told`."""
        return [self._reports[name] for name in sorted(self._untold)]

    def told(self, report: ModelReport) -> None:
        """A report has been published."""
        self._untold.discard(report.name)

    def refresh_reports(self) -> None:
        """Let all models be reported again: how a trial does, and to a broker that has lost what it retained."""
        self._untold.update(self._reports)
        for name, (_, trial) in self._trials.items():
            self._tell(name, trial=trial.numbers())

    def _tell(self, name: str, **changes: object) -> None:
        self._reports[name] = msgspec.structs.replace(self._reports[name], **changes)
        self._untold.add(name)


class _Watch:
    """The thread that watches the store, loads what is new, and writes verdicts down.

    Attributes:
        live: What the agent scores with, by name.
        trouble: Why the store cannot be used just now; None where it can.
    """

    def __init__(self, config: Config, store: Store, follower: Follower | None, wake: Callable[[], None]) -> None:
        self._config, self._store, self._follower, self._wake = config, store, follower, wake
        self._thread = threading.Thread(target=self._run, name="vedette-models", daemon=True)
        self._stop = threading.Event()
        self._steps: deque[_Step] = deque()
        self._verdicts: deque[tuple[str, str, Verdict]] = deque()
        self.live: dict[str, Entry] = {}
        self.trouble: str | None = None
        self._loaded: dict[str, Loaded] = {}
        self._trials: dict[str, tuple[Entry, Pipeline]] = {}
        self._settles: dict[str, float] = {}
        self._seen: dict[str, tuple[int, int]] = {}

    def open(self, name: str, *, again: bool) -> Loaded:
        """The live model for the agent's start; streams that share a model share what was loaded."""
        if name not in self._loaded:
            self.live[name], self._loaded[name] = self._store.start_live(name, again=again)
            self._settles[name] = time.monotonic() + SETTLE_S
        return self._loaded[name]

    def start(self) -> None:
        self._loaded.clear()  # the pipeline has them
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)
        if self._follower:
            self._follower.stop()
        for name, entry in self.live.items():
            self._store.end(name, entry.sha256)
        for name, (entry, _) in self._trials.items():
            self._store.end(name, entry.sha256)

    def take(self) -> list[_Step]:
        """What is ready, in order. Called by the worker."""
        return [self._steps.popleft() for _ in range(len(self._steps))] if self._steps else []

    def conclude(self, name: str, sha256: str, verdict: Verdict) -> None:
        """Write down, soon, how a trial ended. Called by the worker."""
        self._verdicts.append((name, sha256, verdict))

    def _run(self) -> None:
        pause_s = _LOOK_S
        while not self._stop.wait(pause_s):
            try:
                self._look()
                if self.trouble:
                    log.info("models: the store can be used again")
                pause_s, self.trouble = _LOOK_S, None
            except VedetteError as error:
                # The store cannot be read or written just now. Scoring goes on, and so do trials.
                before, self.trouble = self.trouble, str(error)
                if self.trouble != before:
                    log.warning("models: %s; trying again every %.0f s", error, _RETRY_S)
                pause_s = _RETRY_S

    def _look(self) -> None:
        while self._verdicts:
            name, sha256, verdict = self._verdicts[0]
            if verdict.good:
                self._store.promote(name, sha256)
            else:
                self._store.reject(name, sha256, verdict.reason)
            self._verdicts.popleft()
        for name in self.live:
            if (changed := self._state(name)) != self._seen.get(name):
                self._reconcile(name)
                self._seen[name] = changed
            if time.monotonic() >= self._settles.get(name, float("inf")):
                del self._settles[name]
                self._store.settle(name, self.live[name].sha256)
        if self._follower:
            self._follower.tick(time.monotonic())

    def _state(self, name: str) -> tuple[int, int]:
        """Differs after every change of a model's record."""
        try:
            found = self._store.record_file(name).stat()
        except OSError as error:
            raise BundleError(f"model {name}: its record cannot be read: {error.strerror}") from error
        return found.st_ino, found.st_mtime_ns

    def _reconcile(self, name: str) -> None:
        """Bring the agent to where the record is."""
        record = self._store.record(name)
        if record.live and record.live.sha256 != self.live[name].sha256:
            self._go_live(name, record.live)
        candidate = record.candidate
        tried = self._trials.get(name)
        if tried and (candidate is None or candidate.sha256 != tried[0].sha256):
            del self._trials[name]
            self._put(_Try(name, tried[0].sha256, None))
            tried = None
        if candidate and tried is None:
            self._begin_trial(name, candidate)

    def _go_live(self, name: str, entry: Entry) -> None:
        tried = self._trials.get(name)
        if tried and tried[0].sha256 == entry.sha256:
            pipeline = self._trials.pop(name)[1]
        else:
            try:
                self._store.begin(name, entry.sha256)
                pipeline = self._load(name, entry)
            except VedetteError as error:
                log.warning("model %s: %s cannot go live: %s", name, entry.version, error)
                self._store.rollback(name, str(error))
                return
        self.live[name] = entry
        self._settles[name] = time.monotonic() + SETTLE_S
        self._put(_Swap(name, entry.version, entry.since, pipeline))
        if name in self._trials:
            candidate, tried_pipeline = self._trials[name]
            self._put(_Try(name, candidate.sha256, tried_pipeline))  # begins anew, beside another

    def _begin_trial(self, name: str, candidate: Entry) -> None:
        if candidate.starts >= MAX_STARTS:
            reason = f"the agent ended {candidate.starts} times while it was on trial"
        else:
            try:
                self._store.begin(name, candidate.sha256)
                pipeline = self._load(name, candidate)
            except VedetteError as error:
                reason = str(error)
            else:
                self._trials[name] = (candidate, pipeline)
                self._put(_Try(name, candidate.sha256, pipeline))
                return
        log.warning("model %s: %s is rejected: %s", name, candidate.version, reason)
        self._store.reject(name, candidate.sha256, reason)

    def _load(self, name: str, entry: Entry) -> Pipeline:
        loaded = self._store.open(name, entry)
        return Pipeline(self._config, lambda _: loaded, only=name, explains=False)

    def _put(self, step: _Step) -> None:
        self._steps.append(step)
        self._wake()
