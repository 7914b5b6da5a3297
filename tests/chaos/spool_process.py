"""A spool in a process of its own, whose disk may be taken away: one JSON command a line in, one answer a line out."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chaos.disk_faults import DiskFault, environment
from spools import NOW, outgoing
from vedette.config import SpoolLimits
from vedette.contract.errors import DiskError
from vedette.database import Database
from vedette.spool import Spool


class SpoolProcess:
    """A spool over a disk that may fail."""

    def __init__(self, fault: DiskFault) -> None:
        self.fault = fault
        command = [*fault.prefix, sys.executable, __file__, str(fault.folder)]
        self._process = subprocess.Popen(command, env=environment(fault), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, *command: object) -> dict[str, Any]:
        """Give a command; what the spool says of itself then."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait_recovered(self, within_s: float = 5.0) -> dict[str, Any]:
        """Let it try until the disk works."""
        deadline = time.monotonic() + within_s
        while (answer := self.ask("try"))["failing"]:
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)
        return answer


class _Held:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self.reopen()

    def reopen(self) -> None:
        """As after a restart."""
        self.database = Database(self._folder / "spool.db", Spool.SCHEMA)
        self.aside = self.database.open()
        self.spool = Spool(self.database, SpoolLimits())
        self.settle()

    def settle(self) -> None:
        if self.database.failing and not self.database.recover():
            return
        try:
            with self.database.transaction() as connection:
                self.spool.settle(connection)
        except DiskError:
            return

    def keep(self, count: int, bytes_each: int = 100) -> None:
        for _ in range(count):
            payload = b"%d" % self._number
            self.spool.keep([outgoing(f"e-{self._number}", "new", payload.ljust(bytes_each))], NOW)
            self._number += 1

    def answer(self) -> dict[str, object]:
        waiting = [int(alert.payload) for alert in self.spool.after(0, 100_000)]
        return {
            "failing": self.database.failing,
            "aside": self.aside,
            "waiting": waiting,
            "episodes": len(self.spool.open_episodes()),
            "stats": self.spool.stats(),
            "files": sorted(path.name for path in self._folder.iterdir()),
        }


def _main(folder: Path) -> None:
    held = _Held(folder)
    for line in sys.stdin:
        command, *given = json.loads(line)
        if command == "keep":
            held.keep(*given)
        elif command == "deliver":
            held.spool.remove([alert.number for alert in held.spool.after(0, *given)])
        elif command == "try":
            held.settle()
        elif command == "reopen":
            held.database.close()
            held.reopen()
        print(json.dumps(held.answer()), flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
