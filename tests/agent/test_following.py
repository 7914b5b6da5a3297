"""A gateway follows what a publisher announces: real repository, real broker, the agent's own child process."""

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents import Agent, Reader, Watcher, vedette, write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from publishers import Gateway, Publisher
from vedette.config import Updates
from vedette.contract import announcement
from vedette.contract import bundle as bundles
from vedette.contract.announcement import Announcement, Head
from vedette.contract.durations import Duration
from vedette.following import MAX_ATTEMPTS, Follower
from vedette.store import Store

TOPIC = "plant/north/fridge/f-1/telemetry"
ANNOUNCED = "vedette/models/fridge"
OLD, NEW = make_bundle(version="1.0.0"), make_bundle(version="1.1.0", threshold=5.0)


def announced(data: bytes, channel: str = "stable") -> bytes:
    """As a publisher announces a bundle."""
    bundle = bundles.read(data)
    head = Head(version=bundle.manifest.version, sha256=bundle.sha256)
    return announcement.encode(Announcement(name="fridge", channels={channel: head}))


def fleet(folder: Path, broker: Mosquitto, **updates: Any) -> tuple[Publisher, Path]:
    """A publisher whose channel holds OLD, and a gateway's configuration that follows it and has taken that."""
    publisher = Publisher(folder / "publisher")
    publisher.publish(OLD, now=datetime.now(UTC))
    gateway = Gateway(folder, publisher)
    settings = {"repository": str(publisher.repo), "root": str(gateway.root), "automatic": True, "delay": "1s", **updates}
    config = write_config(folder, broker.url, updates=settings, trial="20 windows")
    done = vedette("model", "update", "-c", config)
    assert done.returncode == 0, done.stderr
    return publisher, config


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_announced_bundle_is_fetched_tried_and_live(tmp_path: Path, broker: Mosquitto) -> None:
    publisher, config = fleet(tmp_path, broker)
    with Watcher(broker) as watcher, Agent(config) as agent:
        watcher.wait_online()
        publisher.publish(NEW, now=datetime.now(UTC))
        # Retained: a gateway that was off hears it when it is back.
        watcher.client.publish(ANNOUNCED, announced(NEW), 1, retain=True).wait_for_publish(10)
        store = Store(tmp_path / "state")
        watcher.wait(lambda: json.loads(watcher.last("vedette/gw-1/models/fridge") or b"{}").get("trial"))
        candidate = store.record("fridge").candidate
        assert candidate and candidate.signed
        watcher.publish(TOPIC, *({"ts": 1_790_000_000 + 60 * n, "temperature": 5.0 + 0.1 * (n % 3)} for n in range(80)))
        watcher.wait(lambda: json.loads(watcher.last("vedette/gw-1/models/fridge") or b"{}").get("live") == "1.1.0")
        assert agent.stop() == 0
        assert watcher.counters()["received"] == watcher.counters()["scored"] == 80
    assert "1.1.0 is announced; the update starts in" in agent.said
    assert "fridge 1.1.0  fetched and proved on this machine" in agent.said
    live = Store(tmp_path / "state").record("fridge").live
    assert live and live.signed


def test_a_forged_announcement_changes_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    _, config = fleet(tmp_path, broker)
    with Watcher(broker) as watcher, Agent(config) as agent:
        log = Reader(agent)
        watcher.wait_online()
        # Signed by nobody: the repository still holds OLD.
        watcher.publish(ANNOUNCED, announced(NEW))
        watcher.publish(ANNOUNCED, b"{}")
        log.wait("fridge 1.0.0  up to date")
        log.wait("not an announcement")
        assert agent.process.poll() is None
        assert agent.stop() == 0
    record = Store(tmp_path / "state").record("fridge")
    assert record.live and (record.live.version, record.candidate, record.refused) == ("1.0.0", None, ())


def test_an_agent_with_signing_on_does_not_start_on_an_unsigned_model(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", OLD)
    publisher = Publisher(tmp_path / "publisher")
    gateway = Gateway(tmp_path, publisher)
    config = write_config(tmp_path, broker.url, updates={"repository": str(publisher.repo), "root": str(gateway.root)})
    with Agent(config) as agent:
        assert agent.process.wait(20) == 1
        agent.stop()
    assert "fridge 1.0.0 came unsigned, and signing is on (updates in agent.yaml): run vedette model update" in agent.said


def test_an_unsigned_model_that_appears_beside_a_running_agent_gives_way(tmp_path: Path, broker: Mosquitto) -> None:
    _, config = fleet(tmp_path, broker)
    with Watcher(broker) as watcher, Agent(config) as agent:
        watcher.wait_online()
        install(tmp_path / "state", NEW)  # by somebody who can write there, past the configuration
        wait_until(lambda: Store(tmp_path / "state").record("fridge").refused)
        assert agent.stop() == 0
    record = Store(tmp_path / "state").record("fridge")
    assert record.live and record.live.version == "1.0.0"
    assert "1.1.0 cannot go live: fridge 1.1.0 came unsigned" in agent.said


class Clockwork(Follower):
    """A follower whose updates are counted instead of made."""

    def __init__(self, folder: Path, delay_s: float) -> None:
        settings = Updates(repository=str(folder), root="root.json", automatic=True, delay=Duration(delay_s))
        super().__init__(settings, folder / "agent.yaml", Store(folder / "state"), random.Random(1))
        self.started: list[float] = []

    def _start(self, name: str, now: float) -> None:
        self.started.append(now)
        super()._start(name, now)
        assert self._running
        self._running[2].wait()


def test_the_delay_is_drawn_up_to_the_largest_and_attempts_end(tmp_path: Path) -> None:
    first = []
    for number in range(20):
        follower = Clockwork(tmp_path, delay_s=600.0)
        follower._rng = random.Random(number)
        follower.hear("fridge", announced(NEW))
        follower.tick(0.0)
        follower.hear("fridge", announced(NEW))  # again, as after a lost connection
        follower.tick(1.0)
        first.append(follower._wanted["fridge"].due)
    assert min(first) < 100 and max(first) > 500 and max(first) <= 600
    follower = Clockwork(tmp_path, delay_s=1.0)
    follower.hear("fridge", announced(NEW))
    for now in range(0, 3600, 10):
        follower.tick(float(now))
        follower.hear("fridge", announced(NEW))
    assert len(follower.started) == MAX_ATTEMPTS, "there is no configuration, so each of them failed"
    follower.hear("fridge", announced(make_bundle(version="1.2.0")))
    follower.tick(3601.0)
    follower.tick(3603.0)
    assert len(follower.started) == MAX_ATTEMPTS + 1


def test_what_is_here_was_refused_or_is_for_others_is_not_fetched(tmp_path: Path) -> None:
    install(tmp_path / "state", OLD)
    store = Store(tmp_path / "state")
    (tmp_path / "new.vedette").write_bytes(NEW)
    digest = store.install(tmp_path / "new.vedette", trial=True).sha256
    store.reject("fridge", digest, "flood")
    follower = Clockwork(tmp_path, delay_s=0.0)
    for payload in (announced(OLD), announced(NEW), announced(make_bundle(version="2.0.0"), channel="canary"), b"nonsense"):
        follower.hear("fridge", payload)
    follower.hear("pump", announced(make_bundle(version="2.0.0")))
    follower.tick(0.0)
    follower.tick(1.0)
    assert follower.started == []


def test_a_way_back_that_is_announced_while_a_successor_is_on_trial_is_taken(tmp_path: Path) -> None:
    install(tmp_path / "state", OLD)
    (tmp_path / "new.vedette").write_bytes(NEW)
    Store(tmp_path / "state").install(tmp_path / "new.vedette", trial=True)
    follower = Clockwork(tmp_path, delay_s=0.0)
    follower.hear("fridge", announced(NEW))
    follower.tick(0.0)
    assert follower.started == []
    follower.hear("fridge", announced(OLD))
    follower.tick(1.0)
    assert follower.started == [1.0]
