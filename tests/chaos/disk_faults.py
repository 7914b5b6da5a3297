"""Disks that are full, read-only or failing under a process: how each of them is made, begun and ended.

Rules this module keeps: a fault is the system's own where one can be made (a small file system in a mount namespace of the process, a limit
on the size of files), and otherwise a library that fails the process's own calls on files below one folder; nothing outside that folder
is touched, and nothing is left behind when the process has ended.
"""

import errno
import mmap
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

_SHIM = Path(__file__).with_name("failing_disk.c")
_WRITING, _READING = 1, 2


class Unavailable(Exception):  # noqa: N818 because it is no error of a program: this system cannot make the fault
    """Why a fault cannot be made here."""


class DiskFault:
    """A disk that will fail.

    Args:
        folder: What is on that disk.
        prefix: Of the command that the process is started with.
        env: Added to its environment.

    Attributes:
        words: What a message that tells of the fault begins with.
        from_start: Whether the fault is there before the process is.
    """

    words = "the disk"
    from_start = False

    def __init__(self, folder: Path, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self.folder, self.prefix, self.env = folder, list(prefix), dict(env or {})

    def begin(self, pid: int) -> None:
        """Let the process's disk fail from now on; does nothing where it fails from the start."""

    def end(self, pid: int) -> None:
        """Let it work again."""
        raise NotImplementedError


# What is in the folder moves to the small disk.
_ON_SMALL_DISK = """
mount --make-rprivate / && mkdir -p "$2.before" && cp -a "$2/." "$2.before/" && mount -t tmpfs -o "size=$1" small "$2" &&
cp -a "$2.before/." "$2/" && rm -rf "$2.before" && { [ "$3" = rw ] || mount -o remount,ro "$2"; } && shift 3 && exec "$@"
"""


class FullDisk(DiskFault):
    """A small file system that is filled to the last byte.

    Args:
        folder: Is moved to it.
        size: As mount(8) has it.
    """

    words = "the disk is full"

    def __init__(self, folder: Path, size: str = "16m") -> None:
        _check_namespaces()
        super().__init__(folder, ["unshare", "--mount", "sh", "-c", _ON_SMALL_DISK, "sh", size, str(folder), "rw"])

    def begin(self, pid: int) -> None:
        with _inside(pid, self.folder / "filler").open("ab", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while filler.write(b"\0" * size) == size:
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def end(self, pid: int) -> None:
        _inside(pid, self.folder / "filler").unlink()


class FullFromTheStart(FullDisk):
    """One that is full when the process starts, but for what a start needs elsewhere."""

    from_start = True

    def __init__(self, folder: Path, size: str = "16m") -> None:
        super().__init__(folder, size)
        fill = f'cat /dev/zero > "{folder}/filler" 2>/dev/null; exec "$@"'
        self.prefix += ["sh", "-c", fill, "sh"]

    def begin(self, pid: int) -> None:
        """It was before."""


class ReadOnlyFromTheStart(DiskFault):
    """A file system that is mounted read-only when the process starts, and read-write later."""

    words = "the disk is read-only"
    from_start = True

    def __init__(self, folder: Path) -> None:
        _check_namespaces()
        super().__init__(folder, ["unshare", "--mount", "sh", "-c", _ON_SMALL_DISK, "sh", "16m", str(folder), "ro"])

    def end(self, pid: int) -> None:
        subprocess.run(["nsenter", "-t", str(pid), "-m", "mount", "-o", "remount,rw", str(self.folder)], check=True)


class FailingDisk(DiskFault):
    """A disk whose calls fail with an errno. A file system that the kernel makes read-only under a process does so with EROFS.

    Args:
        folder: On it.
        number: The errno.
        reading: Whether reading fails, too.
    """

    def __init__(self, folder: Path, number: int = errno.EIO, *, reading: bool = False) -> None:
        self.words = "the disk is full" if number == errno.ENOSPC else "the disk"
        self._number, self._what = number, _WRITING | (_READING if reading else 0)
        self._switch = folder.with_name(folder.name + ".fault")
        self._switch.write_bytes(b"\0\0")
        shim = _shim(folder.with_name(folder.name + ".fault.so"))
        env = {"LD_PRELOAD": str(shim), "VEDETTE_FAULT_SWITCH": str(self._switch), "VEDETTE_FAULT_FOLDER": f"{folder}/"}
        super().__init__(folder, env=env)

    def begin(self, pid: int) -> None:
        self._set(self._number, self._what)

    def end(self, pid: int) -> None:
        self._set(0, 0)

    def _set(self, number: int, what: int) -> None:
        with self._switch.open("r+b") as file, mmap.mmap(file.fileno(), 2) as switch:
            switch[1], switch[0] = what, number


class SmallFiles(DiskFault):
    """A limit on the size of files: writing behind it fails with EFBIG."""

    words = "the disk fails"

    def begin(self, pid: int) -> None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))

    def end(self, pid: int) -> None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


FAULTS: Mapping[str, Callable[[Path], DiskFault]] = {
    "full": FullDisk,
    "full from the start": FullFromTheStart,
    "read-only": partial(FailingDisk, number=errno.EROFS),
    "read-only from the start": ReadOnlyFromTheStart,
    "no space": partial(FailingDisk, number=errno.ENOSPC),
    "writing fails": partial(FailingDisk, number=errno.EIO),
    "reading and writing fail": partial(FailingDisk, number=errno.EIO, reading=True),
    "small files": SmallFiles,
}
"""By name; each is made of the folder, and raises Unavailable where this system cannot have it."""


@contextmanager
def failing(fault_: DiskFault, pid: int) -> Iterator[None]:
    """A disk that fails for as long as the block lasts."""
    fault_.begin(pid)
    try:
        yield
    finally:
        fault_.end(pid)


def _inside(pid: int, path: Path) -> Path:
    """A path as a process sees it."""
    return Path(f"/proc/{pid}/root") / path.relative_to("/")


def _check_namespaces() -> None:
    done = subprocess.run(["unshare", "--mount", "mount", "--make-rprivate", "/"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"no mount namespace of our own: {done.stderr.strip()}; run as root")


def _shim(library: Path) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Unavailable("no C compiler for the library that fails calls: apt install gcc libc6-dev")
    done = subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SHIM, "-ldl"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"the library that fails calls does not compile: {done.stderr.strip()}")
    return library


def environment(fault_: DiskFault) -> dict[str, str]:
    """A process's whole environment under a fault."""
    return {**os.environ, **fault_.env}
