"""Debian's packages of any architecture, fetched and unpacked by apt and dpkg.

Rules this module keeps: nothing of the machine's own apt or dpkg is changed: lists, cache and the record of what is installed lie in a
folder; packages come from the mirror that the machine uses, and apt checks their signatures; they are unpacked and not configured, so that
no maintainer script runs. What those do on a real system is shown by another target.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SUITE = "bookworm"
"""Its Python is 3.11, the last that tflite-runtime is made for."""

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_UNPACKED_MERGED = ("bin", "sbin", "lib")


class DebianError(Exception):
    """Packages cannot be had."""


class Apt:
    """apt for one architecture, with everything it keeps in `folder`.

    Args:
        folder: Made where it is not there.
        architecture: As Debian names it.
    """

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder.absolute()
        self._debs = self._folder / "cache" / "archives"
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::Cache": self._folder / "cache",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self._folder / "sources",
            "Dir::State": self._folder,
            "Dir::State::status": self._folder / "status",
        }
        self._options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]

    def fetch(self, packages: Sequence[str]) -> list[Path]:
        """Download packages (`NAME`, or `NAME/SUITE`) with all that they depend on.

        Raises:
            DebianError: they cannot be had; what apt said is in it.
        """
        shutil.rmtree(self._debs, ignore_errors=True)
        for part in ("sources", "lists/partial", "cache/archives/partial"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        # Nothing is installed, so that apt fetches everything.
        (self._folder / "status").write_bytes(b"")
        (self._folder / "sources" / "debian.sources").write_text(
            f"Types: deb\nURIs: {_mirror()}\nSuites: {SUITE} {SUITE}-updates {SUITE}-backports\nComponents: main\nSigned-By: {_KEYRING}\n"
        )
        _run("apt-get", *self._options, "-q", "update")
        _run("apt-get", *self._options, "-q", "-y", "--download-only", "install", *packages)
        return sorted(self._debs.glob("*.deb"))


def unpack(debs: Sequence[Path], root: Path) -> None:
    """Unpack packages into `root`, where /bin, /sbin and /lib are /usr's, as on every Debian of today."""
    for name in _UNPACKED_MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as files:
            subprocess.run(["tar", "-x", "-C", root, "--keep-directory-symlink"], stdin=files.stdout, check=True)
        if files.returncode:
            raise DebianError(f"{deb}: dpkg-deb cannot unpack it: remove it and try again")


def _mirror() -> str:
    """The mirror of Debian that the machine's own apt uses."""
    lists = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian"]
    found = _run(*lists).split()
    if not found or not _KEYRING.exists():
        raise DebianError("this machine's apt knows no mirror of Debian: make test-arm needs a Debian system, and apt-get update run once")
    return found[0]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise DebianError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
