"""Programs of another processor, run by qemu's user emulation wherever the kernel meets one.

Rules this module keeps: qemu is unpacked, not installed; what it is registered for ends with the `with` block, and so does the mount that
it is registered through.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from arm.debian import SUITE, Apt, unpack

PACKAGE = f"qemu-user/{SUITE}-backports"
"""qemu 10. The 7.2 of Debian 12 itself crashes in LiteRT and in ONNX Runtime."""

_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_MAGIC = {
    "aarch64": r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    "arm": r"\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00",
}
"""How a program of each processor begins: the ELF header down to the machine's number."""


def fetch(folder: Path) -> Path:
    """The folder with qemu's programs, fetched where they are not there yet."""
    tools = folder / "qemu"
    if not (tools / "ready").exists():
        unpack([deb for deb in Apt(folder / "apt-qemu", "amd64").fetch([PACKAGE]) if deb.name.startswith("qemu-user_")], _emptied(tools))
        (tools / "ready").touch()
    return tools / "usr" / "bin"


def version(qemu: Path) -> str:
    """qemu's."""
    said = subprocess.run([qemu / "qemu-aarch64", "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    return said.split()[2]


@contextlib.contextmanager
def emulated(qemu: Path, folder: Path) -> Iterator[None]:
    """Let programs of ARM processors run on this machine, in every root, until the block ends."""
    mounted = folder / "binfmt_misc"
    mounted.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "binfmt_misc", "none", mounted], check=True)
    names = {processor: f"vedette-{processor}-{os.getpid()}" for processor in _MAGIC}
    try:
        for processor, name in names.items():
            # F: the kernel opens qemu now, so that a root need not have it; P, O: programs see the name that they were called by.
            line = f":{name}:M::{_MAGIC[processor]}:{_MASK}:{qemu / f'qemu-{processor}'}:OPF"
            (mounted / "register").write_text(line)
        yield
    finally:
        for name in names.values():
            with contextlib.suppress(FileNotFoundError):
                (mounted / name).write_text("-1")
        _unmount(mounted)


def _unmount(mounted: Path) -> None:
    """A program that is just ending may hold it for a moment."""
    for _ in range(50):
        if subprocess.run(["umount", mounted], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "--lazy", mounted], check=True)


def _emptied(folder: Path) -> Path:
    subprocess.run(["rm", "-rf", folder], check=True)
    folder.mkdir(parents=True)
    return folder
