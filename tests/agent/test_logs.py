"""What the agent logs: one line for each change, with a priority under systemd."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agents import Agent, Reader, Watcher, episode, write_config
from brokers import Mosquitto, free_port
from bundles import install, make_bundle
from chaos.disk_faults import FullDisk, Unavailable
from vedette import config
from vedette.logs import Faults
from vedette.pipeline import Pipeline
from vedette.store import Store

TOPIC = "plant/north/fridge/f-1/telemetry"


def test_under_systemd_every_line_has_its_priority_and_elsewhere_its_name(tmp_path: Path) -> None:
    program = """
import logging
from vedette import logs
logs.begin()
log = logging.getLogger("x")
log.info("well")
log.warning("less so")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a fault")
"""
    with (tmp_path / "journal").open("w") as journal:
        found = os.fstat(journal.fileno())
        env = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        subprocess.run([sys.executable, "-c", program], stderr=journal, env=env, check=True)
    lines = (tmp_path / "journal").read_text().splitlines()
    assert lines[:2] == ["<6>x: well", "<4>x: less so"]
    assert len(lines) > 4 and all(line.startswith("<3>") for line in lines[2:]), "a traceback, too"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert done.stderr.splitlines()[:2] == ["INFO x: well", "WARNING x: less so"], "what is redirected goes to no journal"


def test_a_fault_from_the_same_place_is_new_once() -> None:
    faults = Faults()

    def new(error: type[Exception], *, elsewhere: bool = False) -> bool:
        try:
            if elsewhere:
                raise error
            raise error
        except (ValueError, KeyError) as raised:
            return faults.is_new(raised)

    assert [new(ValueError), new(ValueError), new(KeyError), new(ValueError, elsewhere=True), new(KeyError)] == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_a_broker_and_a_disk_that_go_and_come_back_are_one_line_each_time(tmp_path: Path) -> None:
    """Of the time in between, however long, there is no line: retries are many, changes are not."""
    install(tmp_path / "state", make_bundle())
    port = free_port()
    try:
        disk = FullDisk(tmp_path / "state")
    except Unavailable as error:
        pytest.skip(reason=str(error))
    config = write_config(tmp_path, f"mqtt://127.0.0.1:{port}", stats_every="100ms")
    with Agent(config, prefix=disk.prefix) as agent, Mosquitto(tmp_path, port) as broker:
        with Watcher(broker) as watcher:
            watcher.wait_online()
            disk.begin(agent.process.pid)
            for _ in range(5):  # each of them tries the disk
                watcher.publish(TOPIC, *episode([4.0] * 20))
            watcher.wait(lambda: (watcher.last("vedette/gw-1/status") or b"").startswith(b"degraded: the disk is full"))
            count = len(watcher.messages)
            watcher.wait(lambda: len(watcher.messages) > count + 10)  # a second of retries
            disk.end(agent.process.pid)
            watcher.wait_online()
        broker.stop()
        broker.start()
        with Watcher(broker) as watcher:
            watcher.wait_online()
        assert agent.stop() == 0
    said = [re.sub(r"^\w+ [\w.]+: ", "", line) for line in agent.said.splitlines()]
    for words, times in {
        "ready: gateway gw-1": 1,
        "connected to": 2,
        "connection to": 1,
        "the disk is full": 1,
        "spool.db can be written again": 1,
        "stopping": 1,
    }.items():
        assert sum(words in line for line in said) == times, (words, said)
    assert len(said) <= 9, "nothing else is said, but that the broker cannot be reached"


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle())
    (tmp_path / "state" / "spool.db").write_bytes(b"no database" * 1000)
    with Agent(write_config(tmp_path, f"mqtt://127.0.0.1:{free_port()}")) as agent:
        said = Reader(agent)
        said.wait("ready: ")
        assert agent.stop() == 0
        (line,) = [line for line in said.lines() if "spool.db" in line]
        assert line.startswith("ERROR") and "is set aside as spool.db.damaged-" in line


def test_windows_that_cannot_be_scored_are_said_once_and_so_is_their_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    install(tmp_path / "state", make_bundle())
    agent = config.load(write_config(tmp_path, "mqtt://nobody"))
    (stream,) = Pipeline(agent, Store(tmp_path / "state").open_live).streams
    caplog.set_level(logging.INFO)
    for fault in (None, "no memory", "no memory", "another", None, None, "no memory"):
        stream.say_scoring(fault)
    assert [record.getMessage() for record in caplog.records] == [
        "stream fridges: windows cannot be scored: no memory",
        "stream fridges: windows cannot be scored: no longer so",
        "stream fridges: windows cannot be scored: no memory",
    ]
