"""What `vedette check` finds around the agent: the state folder, the disk, the clock, and an agent that runs already.

Rules this module keeps: it changes nothing; every fault says what to do.
"""

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from vedette import config, disk
from vedette.commands.findings import Found
from vedette.commands.users import is_service_user, names, owner
from vedette.contract.errors import ConfigError
from vedette.database import MAX_WAL_TIMES, WAL_BYTES
from vedette.report import find

_RELEASED = 1_760_000_000  # no clock that is right shows a time before this version was written

_LEAST_FREE = 16 * 1024**2
"""Below, a log that is cut at 4 MiB and a checkpoint may not find room together."""

_SPOOL_TIMES = 2
"""A spool that is full to its caps has taken 104 MiB of disk where it was allowed 64 (docs/durability.md)."""


def look_at_state(folder: Path) -> Iterator[Found]:
    """The state folder, and whether all in it can be changed by who runs the agent."""
    if not folder.is_dir():
        raise ConfigError(f"state_dir: {folder} is not a folder; make it, or set state_dir")
    me, group = names(os.geteuid(), os.getegid())
    mend = f"chown -R {me}:{group} {folder}" if is_service_user() else "only the service need be: ask as root, who looks as its user"
    if not os.access(folder, os.W_OK | os.X_OK | os.R_OK, effective_ids=True) and not disk.is_read_only(folder):
        raise ConfigError(f"state_dir: {folder} is not writable for {me}, it belongs to {owner(folder)}: {mend}")
    others = (
        [path for path in _all_in(folder) if not os.access(path, os.R_OK | os.W_OK, effective_ids=True)]
        if not disk.is_read_only(folder)
        else []
    )
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        yield Found("fault", f"{others[0]}{more} cannot be changed by {me}: it belongs to {owner(others[0])}: {mend}")
    if folder.stat().st_mode & stat.S_IWOTH:
        yield Found("fault", f"everybody may write to {folder}: chmod o-w {folder}")
    if damaged := sorted(path.name for path in folder.glob("*.damaged-*")):
        yield Found("note", f"{folder} has files that were damaged and set aside: {', '.join(damaged)}; delete them once you have looked")
    yield Found("ok", f"{folder} is {me}'s")


def look_at_disk(agent: config.Config) -> Iterator[Found]:
    """Whether there is room for what the agent may write."""
    folder = Path(agent.state_dir)
    if not folder.is_dir():
        return
    if disk.is_read_only(folder):
        raise ConfigError(f"{folder} is on a disk that is mounted read-only; see why: findmnt -T {folder}, journalctl -k")
    found = os.statvfs(folder)
    free, free_files = found.f_bavail * found.f_frsize, found.f_favail
    has = sum(path.stat().st_size for path in folder.glob("spool.db*") if path.is_file())
    most = max(0, _SPOOL_TIMES * agent.spool.bytes + WAL_BYTES * MAX_WAL_TIMES - has)
    if free < _LEAST_FREE:
        raise ConfigError(f"{_mib(free)} free in {folder}, at least {_mib(_LEAST_FREE)} are needed: make room")
    if found.f_files and not free_files:
        raise ConfigError(f"no file can be made in {folder} any more (no inodes): delete some")
    if free < most:
        what = f"{_mib(free)} free in {folder}, and a full spool takes up to {_mib(most)} more"
        yield Found("note", f"{what}: make room, or lower spool.bytes; meanwhile alerts would wait in memory")
    yield Found("ok", f"{_mib(free)} free in {folder}")


def look_at_clock() -> Iterator[Found]:
    """Whether the clock can be right."""
    now = time.time()
    if now < _RELEASED:
        raise ConfigError("it shows a time long past; set it, or readings' own times will be refused as in the future")
    if _is_synchronised() is False:
        yield Found("note", "nothing sets the clock by the network's: timedatectl set-ntp true; readings too far ahead of it are refused")
    yield Found("ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def look_for_agent(file: Path) -> Iterator[Found]:
    """Whether an agent runs, and from which configuration."""
    report = find(file, os.environ)
    now = time.time()
    if report is None or not report.is_alive():
        yield Found("ok", "no agent runs from this configuration")
        return
    if report.is_late(now):
        yield Found("fault", f"process {report.pid} does not answer; see journalctl -u vedette, then: systemctl restart vedette")
    if report.config != str(file.resolve()):
        yield Found("note", f"an agent with this state_dir runs from {report.config}: another cannot run beside it")
    elif file.exists() and file.stat().st_mtime > report.configured:
        yield Found("note", f"{file} has changed since the agent read it: systemctl reload vedette")
    for each in report.degraded:
        yield Found("note", f"the agent says: {each}")
    yield Found(
        "ok", f"process {report.pid} runs since {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(report.started))} (vedette status)"
    )


def _is_synchronised() -> bool | None:
    """Whether systemd knows the clock to be synchronised; None where it does not say."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    try:
        said = subprocess.run(
            [program, "show", "--property=NTPSynchronized", "--value"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"yes": True, "no": False}.get(said.stdout.strip())


def _all_in(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


def _mib(count: int) -> str:
    return f"{count / 1024**2:.0f} MiB"
