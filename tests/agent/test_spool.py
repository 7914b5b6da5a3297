import subprocess
import sys
from pathlib import Path

from vedette.spool import Spool


def opened(path: Path) -> Spool:
    spool = Spool(path)
    spool.open()
    return spool


def test_alerts_leave_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool.db")
    spool.add([("t/1", b"one"), ("t/2", b"two")])
    spool.add([("t/3", b"three")])
    assert [(a.topic, a.payload) for a in spool.after(0, 10)] == [("t/1", b"one"), ("t/2", b"two"), ("t/3", b"three")]
    first, second = spool.after(0, 2)
    assert [a.payload for a in spool.after(second.number, 10)] == [b"three"]
    spool.remove([first.number])
    assert len(spool) == 2 and spool.newest == 3


def test_numbers_are_never_used_again(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool.db")
    spool.add([("t", b"one")])
    spool.remove([1])
    spool.close()
    again = opened(tmp_path / "spool.db")
    again.add([("t", b"two")])
    assert [a.number for a in again.after(0, 10)] == [2]


def test_what_was_added_survives_a_kill(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from vedette.spool import Spool\n"
        "s = Spool(pathlib.Path(sys.argv[1])); s.open(); s.add([('t', b'kept')]); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path / "spool.db"], check=False).returncode == -9
    assert [a.payload for a in opened(tmp_path / "spool.db").after(0, 10)] == [b"kept"]
