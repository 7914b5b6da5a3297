"""Following announcements: a publisher retains on the broker what a model's channels hold, and the gateway fetches it by itself.

Rules this module keeps: an announcement is a hint, and all that is done about it is to run `vedette model update`, which trusts only what
is signed; in a process of its own, because what fetches and verifies is larger than the agent; a fleet that hears one announcement does not
ask all at once; one that leads to nothing is given up after some attempts, until another comes.
"""

import logging
import random
import subprocess
import sys
from collections import deque
from pathlib import Path

import msgspec

from vedette.config import Updates
from vedette.contract import announcement
from vedette.contract.announcement import Head
from vedette.contract.errors import UpdateError
from vedette.store import Store

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
TIMEOUT_S = 900.0
_SOONEST_RETRY_S = 60.0
_MOST_HEARD = 100


class _Wanted(msgspec.Struct):
    """An update that is to be made: of which bundle, when (monotonic), how often it was tried in vain, and whether it could not even be
    started, which is said once.
    """

    head: Head
    due: float
    attempts: int = 0
    has_failed: bool = False


class Follower:
    """Starts updates of this gateway's models.

    Args:
        updates: As configured.
        config_file: The agent's, for the command.
        store: The models.
        rng: Draws the delays.
    """

    def __init__(self, updates: Updates, config_file: Path, store: Store, rng: random.Random) -> None:
        self._updates, self._config_file, self._store, self._rng = updates, config_file, store, rng
        self._heard: deque[tuple[str, bytes]] = deque(maxlen=_MOST_HEARD)
        self._wanted: dict[str, _Wanted] = {}
        self._running: tuple[str, float, subprocess.Popen[bytes]] | None = None

    def hear(self, name: str, payload: bytes) -> None:
        """Take what arrived on a model's announcement topic. Called by the network's thread."""
        self._heard.append((name, payload))

    def tick(self, now: float) -> None:
        """Do what is due. `now` is the monotonic clock, seconds.

        Raises:
            BundleError: the store cannot be read.
        """
        while self._heard:
            self._consider(*self._heard.popleft(), now)
        if self._running:
            self._look_after(*self._running, now)
        due = [name for name, wanted in self._wanted.items() if wanted.due <= now]
        if due and self._running is None:
            self._start(due[0], now)

    def stop(self) -> None:
        """End an update that is under way: it may be cut off at any moment."""
        if self._running:
            process = self._running[2]
            process.kill()
            process.wait()
            self._running = None

    def _consider(self, name: str, payload: bytes, now: float) -> None:
        try:
            announced = announcement.decode(payload)
        except UpdateError as error:
            log.warning("model %s: %s", name, error)
            return
        head = announced.channels.get(self._updates.channel)
        if announced.name != name or head is None:
            return
        wanted = self._wanted.get(name)
        if self._is_known(name, head):
            self._wanted.pop(name, None)
        elif wanted is None or wanted.head != head:
            delay_s = self._rng.uniform(0.0, self._updates.delay)
            self._wanted[name] = _Wanted(head, now + delay_s)
            log.info("model %s: %s is announced; the update starts in %.0f s", name, head.version, delay_s)

    def _is_known(self, name: str, head: Head) -> bool:
        """Whether it is live or on trial here, or was refused, and nothing else is on trial, which the publisher has thought better of."""
        record = self._store.record(name)
        if record.candidate and record.candidate.sha256 != head.sha256:
            return False
        return record.role_of(head.sha256) in {"live", "candidate"} or record.refusal_of(head.sha256) is not None

    def _start(self, name: str, now: float) -> None:
        command = [sys.executable, "-m", "vedette", "model", "update", name, "-c", str(self._config_file)]
        try:
            # What it says goes to the journal, where the agent's own words go.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        except OSError as error:
            wanted = self._wanted[name]
            if not wanted.has_failed:
                log.warning("model %s: the update cannot be started: %s; trying again every %.0f s", name, error.strerror, _SOONEST_RETRY_S)
            wanted.due, wanted.has_failed = now + _SOONEST_RETRY_S, True
            return
        self._running = (name, now, process)

    def _look_after(self, name: str, began: float, process: subprocess.Popen[bytes], now: float) -> None:
        if process.poll() is None:
            if now - began > TIMEOUT_S:
                log.warning("model %s: the update is stopped after %.0f s", name, TIMEOUT_S)
                process.kill()
            return
        self._running = None
        wanted = self._wanted.get(name)
        if wanted is None:
            return
        wanted.attempts += 1
        if self._is_known(name, wanted.head):
            del self._wanted[name]
        elif wanted.attempts >= MAX_ATTEMPTS:
            log.warning("model %s: %s was announced but cannot be had; given up until another is announced", name, wanted.head.version)
            # Not forgotten: the same announcement, delivered again, begins nothing.
            wanted.due = float("inf")
        else:
            wanted.due = now + max(_SOONEST_RETRY_S, self._rng.uniform(0.0, self._updates.delay))
