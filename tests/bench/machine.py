"""Where and with what a bench ran: the commit, the machine, and the versions of a Python environment."""

import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from vedette.bench.environment import machine

__all__ = ["REPOSITORY", "Others", "commit", "gateway_python", "machine", "mosquitto_version", "versions"]

REPOSITORY = Path(__file__).resolve().parents[2]

_ASK_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version

found = {"python": sys.version.split()[0]}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def commit() -> str:
    """The commit that is checked out, with `+` where the files differ from it; `unknown` outside a repository."""
    try:
        head = _output("git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD").strip()
        return head + ("+" if _output("git", "-C", str(REPOSITORY), "status", "--porcelain").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class Others:
    """How busy others keep the machine from now on, while this process and the children that it has waited for measure."""

    def __init__(self) -> None:
        self._began, self._busy_s, self._own_s = time.monotonic(), _busy_s(), _own_s()

    def share(self) -> float:
        """Of all processors' time, 0 to 1."""
        others_s = _busy_s() - self._busy_s - (_own_s() - self._own_s)
        return max(0.0, others_s / (time.monotonic() - self._began) / (os.cpu_count() or 1))


def _busy_s() -> float:
    """Of all processors together, since boot: user, nice, system, interrupts and what a hypervisor kept; see proc(5)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text(encoding="ascii").split()[1:11])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    return sum(os.times()[:4])


def gateway_python() -> str:
    """The Python of the gateway's environment: $VEDETTE_GATEWAY_PYTHON, else the repository's own `.venv-gateway`.

    Raises:
        FileNotFoundError: it is not there.
    """
    path = os.environ.get("VEDETTE_GATEWAY_PYTHON") or str(REPOSITORY / ".venv-gateway" / "bin" / "python")
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is not there: `make .venv-gateway/ready` makes it, or set VEDETTE_GATEWAY_PYTHON")
    return path


def versions(python: str, distributions: Sequence[str]) -> dict[str, str]:
    """Versions of a Python and of those distributions that its environment has."""
    found: dict[str, str] = json.loads(_output(python, "-c", _ASK_VERSIONS, *distributions))
    return found


def mosquitto_version(program: str | None) -> str:
    """As mosquitto says."""
    # It exits with 3 after its help.
    help_text = subprocess.run([program or "mosquitto", "-h"], capture_output=True, text=True, check=False, timeout=10).stdout
    found = re.search(r"mosquitto version (\S+)", help_text)
    return found[1] if found else "unknown"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
