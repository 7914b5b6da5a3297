"""The machine, what is installed on it, and how long an agent takes to start there."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from vedette.contract.errors import ConfigError

_DISTRIBUTIONS = ("vedette", "numpy", "msgspec", "paho-mqtt", "ai-edge-litert", "tflite-runtime", "onnxruntime")
_TIMEOUT_S = 60.0


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A new process of the agent's: seconds to import it, to load, verify and self-test the models, and from its execution until then; and
    the bytes that it holds.
    """

    import_s: float
    load_s: float
    total_s: float
    rss_bytes: int


_CHILD = """
import json, sys, time
began = time.perf_counter()
import vedette.service
imported = time.perf_counter()
from vedette.commands.bench import open_all
open_all(*sys.argv[1:])
from vedette.health import resident_bytes
print(json.dumps({"import_s": imported - began, "load_s": time.perf_counter() - imported, "rss_bytes": resident_bytes()}))
"""


def start(*arguments: str) -> Start:
    """Let a new process do what the agent does until it connects, twice, and measure the second: the first has warmed the disk's cache.

    Args:
        arguments: For `vedette.commands.bench.open_all`.

    Raises:
        ConfigError: it does not come so far.
    """
    for _ in range(2):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        total_s = time.perf_counter() - began
        if done.returncode:
            raise ConfigError(f"the models cannot be loaded in a process of their own: {(done.stderr.strip() or '?').splitlines()[-1]}")
    return Start(total_s=total_s, **json.loads(done.stdout))


def machine() -> str:
    """Processor, number of cores that may be used, and system."""
    try:
        described = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        described = None
    processor = " ".join((described[1] if described else "unknown processor").split())
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} x {processor}, {platform.system()} {platform.release()}"


def versions() -> dict[str, str]:
    """Of Python and of what the agent runs on, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
