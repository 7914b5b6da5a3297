"""The agent's own tests, run on an ARM gateway by its own Python, against the agent that is installed there and Debian's mosquitto for ARM.

Rules this module keeps: a file at a time in a process of its own, as many at once as there are cores and never more than two; a test that
fails is run once more by itself, because an emulated processor is slow and others use this machine; what fails twice has failed; what is
left out is named here with its reason.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from arm.gateways import REPOSITORY, Gateway
from bench.figures import Row

FOLDERS = ("tests/contract", "tests/agent", "tests/arm")

LEFT_OUT: Mapping[str, str] = {
    "tests/arm/test_comparison.py": "it is about this target itself",
    "tests/contract/payloads/test_documentation.py": "it needs scikit-learn, for the history that training reads",
    "tests/agent/test_bench_command.py": "it is about times, which say nothing under emulation",
}
_ONNX = "its bundles are made with onnx, which is not made for this processor"
_TIMEOUT_S, _FILE_TIMEOUT_S = 900, 3600
_ENVIRONMENT = (
    "VEDETTE_PATIENCE=10",
    "VEDETTE_HYPOTHESIS_PROFILE=emulated",
    "HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis",
    "PYTHONDONTWRITEBYTECODE=1",
)


class Tally(NamedTuple):
    """Tests by what became of them, with the names of those that failed."""

    passed: int
    skipped: int
    failed: tuple[str, ...]


def files(gateway: Gateway, asked: Sequence[str] = ()) -> list[str]:
    """The files of tests to run, and on the output those that are left out, with the reason."""
    found = []
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("test_*.py")):
            name = str(path.relative_to(REPOSITORY))
            reason = LEFT_OUT.get(name) or (_ONNX if gateway.kind.built and _makes_onnx(path) else "")
            if reason:
                print(f"  left out: {name}: {reason}")
            elif not asked or name in asked:
                found.append(name)
    return found


def run(gateway: Gateway, say: Callable[[str], None], asked: Sequence[str] = ()) -> list[Row]:
    """Run them, and tell of each file as it ends."""

    def one(name: str) -> Tally:
        tally = _run(gateway, name)
        if tally.failed:
            again = [_run(gateway, test) for test in tally.failed]
            passed = tally.passed + sum(each.passed for each in again)
            tally = Tally(passed, tally.skipped, tuple(test for each in again for test in each.failed))
        say(f"{gateway.kind.name}: {name}: {tally.passed} passed, {tally.skipped} skipped, {len(tally.failed)} failed")
        return tally

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        tallies = list(pool.map(one, files(gateway, asked)))
    for tally in tallies:
        for test in tally.failed:
            print(f"  failed twice: {test}", file=sys.stderr)
    passed, failed = sum(tally.passed for tally in tallies), sum(len(tally.failed) for tally in tallies)
    name = gateway.kind.name
    return [
        Row(name=f"own tests that pass, {name}", value=passed, unit="tests", bar=1, better="higher", runs=1),
        Row(name=f"own tests that fail twice, {name}", value=failed, unit="tests", bar=0, better="lower", runs=1),
    ]


def _run(gateway: Gateway, test: str) -> Tally:
    report = gateway.work / f"{test.replace('/', '-').replace(':', '-').replace('[', '-').replace(']', '')[:150]}.xml"
    report.unlink(missing_ok=True)
    pytest = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={_TIMEOUT_S}", f"--junitxml=/work/{report.name}"]
    done = gateway.run("env", "-C", "/vedette", *_ENVIRONMENT, *pytest, test, timeout_s=_FILE_TIMEOUT_S)
    report.with_suffix(".log").write_text(done.stdout + done.stderr)
    if not report.exists():
        return Tally(0, 0, (test,))
    passed, skipped, failed = 0, 0, []
    for case in ET.parse(report).iter("testcase"):
        if case.find("skipped") is not None:
            skipped += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{test.partition('::')[0]}::{case.get('name')}")
        else:
            passed += 1
    return Tally(passed, skipped, tuple(failed))


def _makes_onnx(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return any(name in text for name in ("from bundles import", "import onnx"))
