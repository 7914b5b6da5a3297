"""The report: what a running agent says of itself, as one JSON file that others read while it runs, broker or not.

The file is in $RUNTIME_DIRECTORY, which under systemd is memory and gone with the service; without one it is beside the state, where a few
kilobytes each `stats_every`, never forced to the disk, are little beside the readings that go there. Rules this module keeps: the file is
whole or not there; it holds no secret, so that everybody may read it; a disk that does not take it costs nobody anything but the report.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from vedette.config import default_state_dir
from vedette.contract.documents import read_yaml
from vedette.contract.errors import ConfigError

log = logging.getLogger(__name__)

NAME = "status.json"

SYSTEM_FOLDER = Path("/run/vedette")
"""Where the service's report is: RuntimeDirectory= of systemd/vedette.service."""

_SLACK_S = 10.0
_MOST_BYTES = 16 * 1024**2


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds. Times are epoch seconds.

    Attributes:
        config: The configuration's file, absolute.
        started: When the process began.
        configured: When the configuration that is live was read.
        written: When this was written: what it says is of then.
        every_s: It is written at least so often.
        metrics: Where Prometheus may scrape it; None for nowhere.
        degraded: What is not as it should be and what to do, the worst first; empty where all is well.
        stats: As on the stats topic.
    """

    version: str
    pid: int
    gateway: str
    config: str
    state_dir: str
    started: float
    configured: float
    written: float
    every_s: float
    metrics: str | None
    degraded: tuple[str, ...]
    stats: dict[str, Any]

    def is_alive(self) -> bool:
        """Whether the process that wrote this is still there."""
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            return True  # it is another user's
        except OSError:
            return False
        return True

    def is_late(self, now: float) -> bool:
        """Whether the next one should have been written long ago. Now is epoch seconds."""
        return now - self.written > 2 * self.every_s + _SLACK_S


class ReportFile:
    """The file, as the agent writes it.

    Args:
        state_dir: The agent's state.
        runtime: $RUNTIME_DIRECTORY; None or empty where systemd gives none.
    """

    def __init__(self, state_dir: Path, runtime: str | None) -> None:
        self._path = (Path(runtime.split(":")[0]) if runtime else state_dir) / NAME
        self._has_failed = False

    def write(self, report: Report) -> None:
        """Put a report in place of the last."""
        fresh = self._path.with_name(f".{NAME}")
        try:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o644)  # whatever the umask is
                file.write(msgspec.json.encode(report))
            fresh.replace(self._path)
        except OSError as error:
            if not self._has_failed:
                log.warning("%s cannot be written, so vedette status tells nothing new: %s", self._path, error.strerror)
            self._has_failed = True
            return
        if self._has_failed:
            log.info("%s is written again", self._path)
        self._has_failed = False

    def remove(self) -> None:
        """The agent ends in good order."""
        for path in (self._path, self._path.with_name(f".{NAME}")):
            with contextlib.suppress(OSError):
                path.unlink()


def find(config_file: Path, environment: Mapping[str, str]) -> Report | None:
    """The report of the agent that runs, or ran last, from a configuration or with its state; of several the newest.

    Args:
        config_file: The agent's; it may be wrong in what it says by now.
        environment: $RUNTIME_DIRECTORY is looked at, too.

    Raises:
        ConfigError: there is one, and it cannot be read.
    """
    wanted, found, faults = str(config_file.resolve()), list[Report](), list[ConfigError]()
    state_dir = state_dir_of(config_file)
    runtime = environment.get("RUNTIME_DIRECTORY")
    for folder in filter(None, (Path(runtime.split(":")[0]) if runtime else None, SYSTEM_FOLDER, state_dir)):
        try:
            report = _read(folder / NAME)
        except ConfigError as error:
            faults.append(error)
            continue
        if report and (report.config == wanted or Path(report.state_dir) == state_dir):
            found.append(report)
    if faults and not found:
        raise faults[0]
    return max(found, key=lambda report: report.written, default=None)


def state_dir_of(config_file: Path) -> Path:
    """Where the state is, as far as a file tells that may be wrong in all else: an agent may run on from what it was before."""
    try:
        document = read_yaml(config_file)
    except ConfigError:
        document = None
    found = document.get("state_dir") if isinstance(document, dict) else None
    return Path(found) if isinstance(found, str) else Path(default_state_dir())


def _read(path: Path) -> Report | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=Report)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; is this user allowed to read it? try sudo") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a report of this version ({error}); was vedette updated and the agent not restarted?") from error
