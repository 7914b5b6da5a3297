"""`make test-arm`: the agent on ARM processors that qemu emulates, beside the same agent on this machine.

Rules this module keeps: this machine answers first; an ARM gateway is given the same bundles and the same telemetry, and every score, alert
and first reason has to be the same; then the agent's own tests run there. Times and memory under emulation say nothing of a real
processor, and are not among the figures.
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from arm import answers, emulation, suite
from arm.answers import Answer, AnswerError
from arm.debian import DebianError
from arm.gateways import KINDS, Gateway, GatewayError
from bench import figures, machine
from bench.figures import Figures, Line, Row

FOLDER = machine.REPOSITORY / "build" / "arm"
PARTS = ("scores", "tests")
_NEEDED = ("apt-get", "dpkg-deb", "unshare", "ip", "mount", "chroot")
_ASKED = ("vedette", "numpy", "msgspec", "ai-edge-litert", "tflite-runtime", "onnxruntime", "paho-mqtt", "PyYAML")


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up, ask, compare, and write the figures.

    Returns:
        0; 1 if an ARM gateway differs from this machine in anything, or something is missing.
    """
    parser = argparse.ArgumentParser(prog="test-arm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=KINDS, nargs="+", default=tuple(KINDS), help="processors (default: all)")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS, help="what is done on each (default: all)")
    parser.add_argument("-o", "--output", type=Path, default=figures.FOLDER / "arm.json", help="figures file (default: %(default)s)")
    given = parser.parse_args(arguments)
    if missing := _missing():
        print(f"make test-arm: {missing}", file=sys.stderr)
        return 1
    # As Ctrl-C: what is mounted and registered is taken back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        rows, versions = _measure(given.only, given.parts)
    except (DebianError, GatewayError, AnswerError, subprocess.TimeoutExpired) as error:
        print(f"make test-arm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make test-arm: interrupted; nothing is left mounted, and the next run takes up what is in build/arm", file=sys.stderr)
        return 130
    figures.write(Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=tuple(rows)), given.output)
    print(figures.table(figures.in_order(Line("arm", row) for row in rows)))
    print(f"\n{given.output}")
    return 1 if any(row.missed for row in rows) else 0


def _missing() -> str:
    """What this machine lacks; empty if nothing."""
    if platform.machine() != "x86_64":
        return f"it compares x86-64 with ARM, and this machine is {platform.machine()}: run make test here instead"
    if os.geteuid() != 0:
        return "it mounts, unpacks a system and enters it, which only root may: run it as root"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [program for program in _NEEDED if shutil.which(program, path=path) is None]
    return f"not here: {', '.join(absent)}; it needs Debian, with apt, util-linux and iproute2" if absent else ""


def _measure(kinds: Sequence[str], parts: Sequence[str]) -> tuple[list[Row], dict[str, str]]:
    qemu = emulation.fetch(FOLDER)
    versions = {"qemu": emulation.version(qemu)}
    rows: list[Row] = []
    with emulation.emulated(qemu, FOLDER):
        for name in kinds:
            gateway = Gateway(KINDS[name], FOLDER)
            _say(f"{name}: a root with the agent")
            gateway.make()
            versions |= {f"{name} {package}": version for package, version in gateway.versions().items() if package in {*_ASKED, "python"}}
            if "scores" in parts:
                _say(f"{name}: bundles of every detector in every runtime, and what the agent makes of them here")
                python = _host_python(gateway)
                expected = _host(python)
                host = machine.versions(python, _ASKED)
                versions |= {f"x86-64 beside {name} {package}": version for package, version in host.items()}
                _say(f"{name}: the same bundles, the same telemetry")
                rows += _compared(gateway, expected)
            if "tests" in parts:
                _say(f"{name}: the agent's own tests")
                rows += suite.run(gateway, _say)
    return rows, versions


def _host_python(gateway: Gateway) -> str:
    """The environment of this machine with the runtime that the gateway has: runtimes differ by more than processors do."""
    return machine.gateway_python() if gateway.kind.extra == "gateway" else str(machine.REPOSITORY / ".venv-tflite" / "bin" / "python")


def _host(python: str) -> dict[str, Answer]:
    # Imported here, because it brings TensorFlow.
    from arm import cases

    folder = FOLDER / "cases"
    cases.make(folder)
    command = [python, "-m", "vedette"]
    return answers.ask(
        lambda *given: subprocess.run([*command, *given], cwd=folder, capture_output=True, text=True, check=False, timeout=600), folder
    )


def _compared(gateway: Gateway, expected: Mapping[str, Answer]) -> list[Row]:
    """The gateway's answers beside this machine's, as figures; what it refuses is told."""
    shutil.copytree(FOLDER / "cases" / answers.BUNDLES, gateway.work / answers.BUNDLES, dirs_exist_ok=True)
    shutil.copy(FOLDER / "cases" / answers.TELEMETRY, gateway.work)
    found = answers.ask(lambda *given: gateway.run("python", "-m", "vedette", *given, timeout_s=1800), gateway.work)
    name, rows = gateway.kind.name, list[Row]()
    for bundle, answer in found.items():
        if answer.refused:
            print(f"  refused: {bundle}: {answer.refused}")
    differences = answers.compare(expected, found)
    agree = sum(difference.is_within(gateway.kind.tolerance) for difference in differences)
    rows.append(Row(name=f"bundles that agree, {name}", value=agree, unit="bundles", bar=len(differences) or 1, better="higher", runs=1))
    for bundle, windows, score, alerts, otherwise in differences:
        rows.append(_row(f"scores, {name}, {bundle}", score, "of max(1, score)", gateway.kind.tolerance, windows))
        rows.append(_row(f"alerts told otherwise, {name}, {bundle}", otherwise, "alerts", 0, alerts))
    refused = _refused(expected) ^ _refused(found)
    rows.append(_row(f"bundles refused or taken against expectation, {name}", len(refused), "bundles", 0, len(found)))
    return rows


def _refused(given: Mapping[str, Answer]) -> set[str]:
    return {bundle for bundle, answer in given.items() if answer.refused}


def _row(name: str, value: float, unit: str, bar: float, runs: int) -> Row:
    return Row(name=name, value=value, unit=unit, bar=bar, better="lower", runs=runs)


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
