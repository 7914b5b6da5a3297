"""A spool whose disk is full, read-only or failing goes on in memory and says why; what it held is on disk when that is back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.disk_faults import FAULTS, Unavailable, failing
from chaos.spool_process import SpoolProcess


@pytest.fixture(params=list(FAULTS))
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SpoolProcess]:
    folder = tmp_path / "state"
    folder.mkdir()
    try:
        made = FAULTS[request.param](folder)
    except Unavailable as error:
        pytest.skip(reason=str(error))
    with SpoolProcess(made) as process:
        yield process


def test_a_disk_that_fails_loses_no_alert_and_no_order(spool: SpoolProcess) -> None:
    before = 0 if spool.fault.from_start else 5
    assert spool.ask("keep", before)["failing"] is None or spool.fault.from_start
    with failing(spool.fault, spool.pid):
        answer = spool.ask("keep", 300)
        assert answer["failing"].startswith(spool.fault.words), answer["failing"]
        assert answer["waiting"][-300:] == list(range(before, before + 300))
        assert answer["stats"]["held"] >= 1
        # Those that memory holds go on where those on disk cannot be read.
        delivered = answer["waiting"][:3]
        assert spool.ask("deliver", 3)["stats"]["delivered"] == 3
        assert spool.ask("try")["failing"] is not None, "the fault is over before its end"
        assert spool.ask("keep", 2)["stats"]["waiting"] >= 299
    answer = spool.wait_recovered()
    expected = [number for number in range(before + 302) if number not in delivered]
    assert answer["waiting"] == expected
    assert answer["stats"] | {"bytes": 0} == {"waiting": before + 299, "bytes": 0, "held": 0, "added": before + 302, "delivered": 3}
    answer = spool.ask("reopen")
    assert answer["waiting"] == expected
    assert answer["episodes"] == before + 302
    assert answer["aside"] is None
    assert set(answer["files"]) <= {"spool.db", "spool.db-wal"}, "a disk that fails is no damaged file"


def test_what_was_on_a_disk_that_failed_at_the_start_is_delivered_first_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    try:
        good, bad = FAULTS["small files"](folder), FAULTS["read-only from the start"](folder)
    except Unavailable as error:
        pytest.skip(reason=str(error))
    with SpoolProcess(good) as process:
        process.ask("keep", 3)
    with SpoolProcess(bad) as process:
        assert process.ask("keep", 2)["waiting"] == [0, 1]
        bad.end(process.pid)
        assert process.wait_recovered()["waiting"] == [0, 1, 2, 0, 1]
        assert process.ask("reopen")["stats"]["waiting"] == 5
