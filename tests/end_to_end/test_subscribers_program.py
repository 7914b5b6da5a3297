"""The program in docs/subscriber.md keeps its promises: each message once, and nothing missed while it is away."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Self

import guides
from agents import Watcher
from brokers import Mosquitto
from conftest import REPOSITORY
from told import alert

TOPIC = "vedette/gw-1/alerts/fridges/fridge-1"


def seen(folder: Path) -> int:
    """How many messages are in the program's book."""
    with closing(sqlite3.connect(folder / "alerts.db")) as book:
        count: int = book.execute("SELECT count(*) FROM seen").fetchone()[0]
        return count


class Program:
    """The program in a `with` block, in a folder that outlives it."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        (block,) = [block for block in guides.read(REPOSITORY / "docs" / "subscriber.md") if block.file == "alerts.py"]
        (folder / "alerts.py").write_text(block.text.replace('"localhost", 1883', f'"127.0.0.1", {broker.port}'))
        self._folder = folder

    def __enter__(self) -> Self:
        self.process = subprocess.Popen([sys.executable, "alerts.py"], cwd=self._folder, stdout=subprocess.PIPE, text=True)
        return self

    def lines(self, count: int) -> list[list[str]]:
        """The next lines' words."""
        assert self.process.stdout
        return [self.process.stdout.readline().split() for _ in range(count)]

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_every_alert_is_taken_once_however_often_it_comes_and_whatever_dies(tmp_path: Path, broker: Mosquitto) -> None:
    with Watcher(broker) as watcher:
        watcher.client.publish("vedette/gw-1/status", b"online", 1, retain=True)
        with Program(tmp_path, broker) as program:
            assert program.lines(1) == [["gateway", "gw-1", "is", "online"]]
            watcher.publish(TOPIC, b"", alert("a", "new", 0), alert("a", "new", 0), alert("b", "new", 1))
            assert [(line[1], line[-2:]) for line in program.lines(2)] == [("new", ["[1", "open]"]), ("new", ["[2", "open]"])]
            watcher.wait(lambda: seen(tmp_path) == 2)
        watcher.publish(TOPIC, alert("b", "new", 1), alert("a", "end", 2), alert("never-heard-of", "end", 3))
        with Program(tmp_path, broker) as program:
            told = [line for line in program.lines(3) if line[0] != "gateway"]  # the broker tells once more what it retains
            assert [(line[1], line[-2:]) for line in told] == [("end", ["[1", "open]"])] * 2
