"""A soak of seconds works, and what grew or was lost in a longer one would be told."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import figures, soak
from bench.figures import Row
from bench.publisher import Published
from bench.soak import Look, Soaked
from bench.subjects import Account

PROGRAM = Path(__file__).with_name("soak.py")
HOUR = [Look(time_s=float(second), resident_bytes=80_000_000, threads=4, descriptors=9) for second in range(0, 3601, 5)]


def soaked(looks: list[Look], sent: int = 1000, **account: int) -> dict[str, Row]:
    done, waiting = account.pop("done", sent), account.pop("waiting", 0)
    found = Soaked(looks, 100.0, Published(sent, 10.0), Account(done, account, waiting), 50.0)
    return {row.name: row for row in soak.rows_of(found)}


def test_a_short_soak_accounts_for_every_reading_and_leaves_figures(gateway_python: str, tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    command = [sys.executable, str(PROGRAM), "--seconds", "5", "--rate", "400", "--figures", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert not done.stderr, "it is quiet in a pipe"
    rows = {row.name: row for row in figures.read(path).rows}
    # Memory and threads say nothing after five seconds.
    assert rows["readings sent"].value == 2000
    assert rows["readings unaccounted for"].value == 0
    assert rows["readings dropped, rejected, late or failed"].value == 0
    assert rows["rate reached"].value == pytest.approx(400, rel=0.2)
    assert rows["rss"].value > 20


def test_memory_that_stays_is_no_drift() -> None:
    assert not any(row.missed for row in soaked(HOUR).values())


def test_a_step_in_the_warm_up_is_no_drift() -> None:
    looks = [each._replace(resident_bytes=60_000_000) if each.time_s < 200 else each for each in HOUR]
    assert abs(soak.drift_mb(looks)) < 0.01


def test_memory_that_grows_a_byte_a_reading_is_drift() -> None:
    looks = [each._replace(resident_bytes=each.resident_bytes + int(1000 * each.time_s)) for each in HOUR]
    assert soak.drift_mb(looks) == pytest.approx(3.3, rel=0.01)
    assert soaked(looks)["rss drift over the soak"].missed


def test_what_a_soak_with_faults_leaves_behind_is_told() -> None:
    def rows(looks: list[Look], **account: int) -> list[str]:
        found = soak.rows_of_endured(soak.Endured(looks, {"broker killed": 3}, 1000, Account(900, account)))
        return [row.name.removeprefix("with faults: ") for row in found if row.missed]

    assert not rows(HOUR, **{"lstm-30.rejected.json": 50})
    assert rows([*HOUR[:-1], HOUR[-1]._replace(descriptors=10)]) == ["descriptors more at the end than after the warm-up"]
    assert rows(HOUR, queued=5) == ["left in the queue at the end"]


def test_readings_that_are_lost_and_threads_that_stay_are_told() -> None:
    assert soaked(HOUR, done=999)["readings unaccounted for"].missed
    assert soaked(HOUR, **{"lstm-30.late": 1})["readings dropped, rejected, late or failed"].missed
    assert not soaked(HOUR, done=990, waiting=10)["readings unaccounted for"].missed
    looks = [*HOUR[:-1], HOUR[-1]._replace(threads=5, descriptors=10)]
    assert [name for name, row in soaked(looks).items() if row.missed] == [
        "threads more at the end than after the warm-up",
        "descriptors more at the end than after the warm-up",
    ]
