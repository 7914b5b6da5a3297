"""The machine as seen from inside: commands, the unit and its process, the disk; a fault is one line and the end."""

import ctypes
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

CONFIG = Path("/etc/vedette/agent.yaml")
# What systemd and the rest of the system change by themselves.
PASSING = re.compile(
    r"^/(dev|proc|sys|run|tmp|mnt|var/log|var/cache|var/lib/(dpkg|apt|systemd|mosquitto)|var/tmp|root|usr/share/info|etc/.*-$)"
)


def ok(what: str, is_so: bool = True, detail: str = "") -> None:
    """A line for a step."""
    if not is_so:
        fail(what, detail)
    print(f"ok    {what}{': ' if detail else ''}{' '.join(detail.split())[:300]}", flush=True)


def fail(what: str, detail: str) -> NoReturn:
    """The end."""
    print(f"FAIL  {what}: {detail}\n{journal()}", flush=True)
    sys.exit(1)


def run(*command: str | Path, fails: bool = False) -> str:
    """What a command says; its failure is the end, unless it is expected."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=240, env=environment, stdin=subprocess.DEVNULL
    )
    if (done.returncode != 0) != fails:
        fail(" ".join(map(str, command)), f"exit code {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def until(what: str, condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            fail(what, f"not within {timeout_s:.0f} s")
        time.sleep(0.1)
    return found


def status(what: str) -> str:
    """`systemctl is-active` and the like; no failure, whatever the answer."""
    done = subprocess.run(["systemctl", what, "vedette"], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


def show(name: str) -> str:
    """A property of the unit."""
    return run("systemctl", "show", "vedette", "--value", "-p", name).strip()


def usec(name: str) -> float:
    """A property that is a time."""
    return float(show(name))


def journal() -> str:
    """What systemd and the agent said of late."""
    done = subprocess.run(
        ["journalctl", "--no-pager", "-o", "cat", "-n", "60", "-u", "vedette", "-u", "vedette-update"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def last(text: str) -> str:
    """The end of what was said."""
    return " / ".join(text.strip().splitlines()[-3:])


def edit(pattern: str, line: str, count: int = 0) -> None:
    """Change a line of the configuration, as an editor would."""
    text, times = re.subn(pattern, lambda _: line, CONFIG.read_text(), count=count, flags=re.MULTILINE)
    if not times:
        fail("agent.yaml can be edited", f"nothing in it is {pattern}")
    CONFIG.write_text(text)


def seconds(what: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.monotonic()
    what()
    return time.monotonic() - began


def size(folder: str) -> float:
    """Bytes of a folder's files, what was compiled at install included."""
    return float(run("du", "--summarize", "--bytes", folder).split()[0])


def process_status() -> dict[str, str]:
    """The main process's /proc/PID/status."""
    lines = Path(f"/proc/{show('MainPID')}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def resident() -> float:
    """The main process's resident memory, bytes."""
    return 1024.0 * float(process_status()["VmRSS"].split()[0])


def memory_limit() -> str:
    """What the kernel says of the unit's memory limit: where the host's control groups do not reach into the machine, it says nothing."""
    group = show("ControlGroup")
    files = [Path("/sys/fs/cgroup/memory", f".{group}", "memory.limit_in_bytes"), Path("/sys/fs/cgroup", f".{group}", "memory.max")]
    return next((f"{file.name} {file.read_text().strip()}" for file in files if file.exists()), "no memory controller in this machine")


def freeze_thread(pid: int) -> None:
    """Stop the process's first thread, in which the agent scores, and no other, until the process is ended; see ptrace(2)."""
    seize, interrupt, go_on = 0x4206, 0x4207, 7
    libc = ctypes.CDLL(None, use_errno=True)
    held = threading.Event()

    def hold() -> None:
        for request in (seize, interrupt):
            if libc.ptrace(request, pid, None, None):
                return
        while True:
            _, state = os.waitpid(pid, 0x40000000)  # __WALL
            if not os.WIFSTOPPED(state):
                return  # systemd's SIGABRT: whoever traces has to take note first
            if state >> 16:
                held.set()  # as it was asked to
            else:
                libc.ptrace(go_on, pid, None, ctypes.c_void_p(os.WSTOPSIG(state)))

    threading.Thread(target=hold, daemon=True).start()
    if not held.wait(10):
        fail("the worker can be held", "ptrace(2) is refused in this machine")


def paths() -> set[str]:
    """All that is on the disk, but for what passes."""
    return {path for path in run("find", "/", "-xdev").splitlines() if not PASSING.match(path)}
