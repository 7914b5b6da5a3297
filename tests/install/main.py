"""`make test-install`: the package in a Debian that boots, from its installation to its end, each step as `inside.py` has it.

Rules this module keeps: the machine is its own, with no network but its loopback, and is gone afterwards, whatever happened; what was
made once is kept under build/install/, and that is said; the first step that fails is the exit code.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec

import guides
from bench import figures, machine
from bench.figures import Figures, Line, Row
from bundles import make_bundle
from publishers import Publisher
from vedette import __version__
from vedette.contract import bundle as bundles
from vedette.contract.recordings import read_messages
from vedette.demo.command import BUNDLE

BUILD = machine.REPOSITORY / "build" / "install"
INSIDE = ("inside.py", "gateway.py", "telemetry.py")
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "mosquitto", "mosquitto-clients", "openssl", "ca-certificates")
"""What is on the machine before the package. Nothing is there that the package would have to bring."""

TIMEOUT_S = 900
_AS_A_UNIT = """
[Unit]
After=multi-user.target mosquitto.service
[Service]
WorkingDirectory=/mnt/vedette
ExecStart=/usr/bin/python3 -u -m install.inside
StandardOutput=file:/mnt/vedette/log
StandardError=file:/mnt/vedette/log
"""
MB = 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, boot, look.

    Returns:
        0 where every step was as it should be; 1 otherwise; 2 where it cannot be done here.
    """
    options = argparse.ArgumentParser(description="The package in a Debian that boots.")
    options.add_argument("--python", default="3.11", choices=SUITES, help="of which release of Debian (default: %(default)s)")
    options.add_argument(
        "--packages", type=Path, metavar="DIR", help="packages that are there, rather than building: DIR/first and DIR/second"
    )
    options.add_argument(
        "--figures", type=Path, metavar="FILE", default=figures.FOLDER / "install.json", help="(default: build/figures/install.json)"
    )
    given = options.parse_args(arguments)
    if os.geteuid() != 0:
        print("make test-install boots a machine, and needs root: sudo make test-install", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(dir=_folder(BUILD), prefix="run-") as name:
        folder = Path(name)
        shared, root = folder / "shared", folder / "root"
        shared.mkdir(mode=0o755)
        _debian(SUITES[given.python], root)
        _packages(given.python, given.packages, shared)
        _deliver(shared)
        boot(root, shared)
        try:
            answer = json.loads((shared / "results.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            print(f"FAIL  the machine gave no results within {TIMEOUT_S} s", file=sys.stderr)
            return 1
    rows = rows_of(answer["results"])
    versions = {"vedette": __version__, "debian": SUITES[given.python], "python": given.python}
    figures.write(Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=rows), given.figures)
    print(figures.table(figures.in_order(Line("install", row) for row in rows)))
    print(f"figures in {os.path.relpath(given.figures)}")
    return 1 if answer["code"] or any(row.missed for row in rows) else 0


def rows_of(results: Mapping[str, float]) -> tuple[Row, ...]:
    """Figures of what was measured; a run that ended early has fewer of them."""
    known = {
        "exposure": Row(name="exposure, systemd-analyze security", value=0, unit="of 10", bar=1.1, better="lower", runs=1),
        "package": Row(name="package file", value=MB, unit="MB", runs=1),
        "installed": Row(name="installed, as the package says", value=MB, unit="MB", runs=1),
        "environment": Row(name="/opt/vedette, compiled", value=MB, unit="MB", runs=1),
        "install": Row(name="installation", value=1, unit="s", runs=1),
        "start": Row(name="start, from exec to ready", value=1, unit="s", runs=1),
        "start of vedette --version": Row(name="vedette --version", value=1, unit="s", runs=3),
        "idle": Row(name="memory under systemd, idle", value=MB, unit="MB", runs=1),
        "loaded": Row(name="memory under systemd, a day of 20 devices at once", value=MB, unit="MB", runs=1),
        "reloaded": Row(name="memory under systemd, both runtimes, after a reload", value=MB, unit="MB", runs=1),
        "readings": Row(name="readings a second through TLS, mosquitto_pub included", value=1, unit="1/s", runs=1),
        "restart after kill -9": Row(name="from kill -9 to ready", value=1, unit="s", bar=15, better="lower", runs=1),
        "restart after a hang": Row(name="from a hung worker to ready", value=1, unit="s", bar=90, better="lower", runs=1),
    }
    return tuple(msgspec.structs.replace(row, value=results[name] / (row.value or 1)) for name, row in known.items() if name in results)


def boot(root: Path, shared: Path) -> None:
    """Run the machine until it powers itself off, and print what its steps say meanwhile."""
    unit = root / "etc" / "systemd" / "system" / "vedette-test.service"
    unit.write_text(_AS_A_UNIT)
    wanted = unit.parent / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / unit.name).symlink_to(f"../{unit.name}")
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    log, shown = shared / "log", 0
    # Not registered, because where this runs need not be a machine with systemd itself.
    command: list[str | Path] = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--directory",
        root,
        "--private-network",
        "--register=no",
        "--keep-unit",
    ]
    command += ["--bind", f"{shared}:/mnt/vedette", "--console=pipe"]
    deadline = time.monotonic() + TIMEOUT_S
    with (
        (shared.parent / "console").open("wb") as console,
        subprocess.Popen(command, stdout=console, stderr=console, stdin=subprocess.DEVNULL) as box,
    ):
        try:
            while box.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
                shown = _show(log, shown)
        finally:
            if box.poll() is None:
                box.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    box.wait(20)
                box.kill()
    _show(log, shown)
    if not (shared / "results.json").exists():
        print((shared.parent / "console").read_text(errors="replace")[-3000:], file=sys.stderr)


def _show(log: Path, shown: int) -> int:
    text = log.read_text(encoding="utf-8", errors="replace")[shown:] if log.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    print(whole, end="", flush=True)
    return shown + len(whole)


def _debian(suite: str, root: Path) -> None:
    """A bare Debian with a broker, made once and copied for every run."""
    missing = [
        package
        for program, package in {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container"}.items()
        if not shutil.which(program)
    ]
    if missing:
        print(f"installing {' and '.join(missing)} ...", file=sys.stderr)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", *command], check=True, env=environment, stdout=subprocess.DEVNULL)
    base = BUILD / suite
    if not (base / "ready").exists():
        print(f"making a bare Debian in {os.path.relpath(base)}, once (a few minutes) ...", file=sys.stderr)
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(base / "root")]
        mirror = [os.environ["DEBIAN_MIRROR"]] if os.environ.get("DEBIAN_MIRROR") else []
        with (base / "log").open("wb") as log:
            if subprocess.run([*command, *mirror], check=False, stdout=log, stderr=log).returncode:
                sys.exit(f"debootstrap failed; see {base / 'log'}. DEBIAN_MIRROR names another mirror")
        (base / "ready").touch()
    subprocess.run(["cp", "--archive", "--reflink=auto", base / "root", root], check=True)


def _packages(python: str, made: Path | None, shared: Path) -> None:
    """The package, and the same once more as a later version, to upgrade to."""
    if made:
        for name in ("first", "second"):
            shutil.copytree(made / name, shared / name)
        return
    print("building the package ...", file=sys.stderr)
    versions = {"first": f"{__version__}~test1", "second": f"{__version__}~test2"}
    program: list[str | Path] = [sys.executable, machine.REPOSITORY / "systemd" / "deb" / "build.py", "--arch", _architecture()]
    asked = ["--python", python, *(part for version in versions.values() for part in ("--version", version))]
    done = subprocess.run([*program, *asked], check=True, stdout=subprocess.PIPE, text=True)
    for name, package in zip(versions, done.stdout.splitlines(), strict=True):
        (shared / name).mkdir()
        shutil.move(package, shared / name)


def _architecture() -> str:
    done = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _deliver(shared: Path) -> None:
    """What the machine is to be given: the steps, models by hand, the next ones signed, and days of telemetry with a fault each."""
    for name in INSIDE:
        shutil.copy(Path(__file__).with_name(name), _folder(shared / "install"))
    for path in (Path(guides.__file__), machine.REPOSITORY / "docs" / "operator.md"):
        shutil.copy(path, shared)
    shutil.copy(BUNDLE, shared)
    demo = bundles.open_bundle(BUNDLE)
    publisher = Publisher(shared)
    files = bundles.with_golden(demo.files, demo.golden_windows, demo.golden_scores)
    signed = bundles.write(msgspec.structs.replace(demo.manifest, version="1.1.0"), files)
    publisher.publish(signed, make_bundle(version="1.1.0"), now=datetime.now(UTC))
    (shared / "fridge-1.0.0.vedette").write_bytes(make_bundle())
    shutil.move(publisher.keys / "root.json", shared / "root.json")
    shutil.rmtree(publisher.keys)
    for number in range(1, 6):
        size = ["--devices", "20", "--duration", "1d"] if number == 1 else ["--devices", "3", "--duration", "6h"]
        begins = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(days=number)
        recording = shared / f"day-{number}.jsonl"
        asked: list[str | Path] = [
            "--start",
            begins.strftime("%Y-%m-%d"),
            *size,
            "--fault",
            "door_left_open:fridge-01:90m:1h",
            "-o",
            recording,
        ]
        subprocess.run([sys.executable, "-m", "vedette", "simulate", "cold-chain", *asked], check=True, stderr=subprocess.DEVNULL)
        lines = (f"{message.topic}\t{message.payload.decode()}\n" for message in read_messages(recording))
        (shared / f"day-{number}.tsv").write_text("".join(lines))
        recording.unlink()


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main())
