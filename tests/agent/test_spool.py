import subprocess
import sys
from pathlib import Path

from spools import NOW, opened_spool, outgoing


def test_alerts_leave_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    with opened_spool(tmp_path) as spool:
        spool.keep([outgoing("1", payload=b"one"), outgoing("2", payload=b"two")], NOW)
        spool.keep([outgoing("3", payload=b"three")], NOW)
        assert [(a.topic, a.payload) for a in spool.after(0, 10)] == [("t/1", b"one"), ("t/2", b"two"), ("t/3", b"three")]
        first, second = spool.after(0, 2)
        assert [a.payload for a in spool.after(second.number, 10)] == [b"three"]
        spool.remove([first.number])
        assert len(spool) == 2
        assert spool.newest == 3


def test_what_was_added_survives_a_kill(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from spools import *\n"
        "with opened_spool(pathlib.Path(sys.argv[1])) as spool: spool.keep([outgoing('e', payload=b'kept')], NOW); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == -9
    with opened_spool(tmp_path) as spool:
        assert [a.payload for a in spool.after(0, 10)] == [b"kept"]


def test_what_was_delivered_is_not_delivered_again_after_a_restart(tmp_path: Path) -> None:
    with opened_spool(tmp_path) as spool:
        spool.keep([outgoing("1"), outgoing("2")], NOW)
        spool.remove([alert.number for alert in spool.after(0, 1)])
        spool.keep([outgoing("3")], NOW)
    with opened_spool(tmp_path) as spool:
        assert [alert.topic for alert in spool.after(0, 10)] == ["t/2", "t/3"]
