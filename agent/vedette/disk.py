"""What a disk that may fail still does, and files on it that are moved out of the way."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def is_read_only(folder: Path) -> bool:
    """Whether the file system is mounted so."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def can_be_read(*paths: Path) -> bool:
    """Whether files can be read to their ends; one that is not there can."""
    try:
        for path in paths:
            with suppress(FileNotFoundError), path.open("rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass
    except OSError:
        return False
    return True


def takes_files(folder: Path, size: int = 1) -> bool:
    """Whether a file of so many bytes can be made there and written."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * size)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError:
        return False
    return True


def set_aside(path: Path, suffixes: Sequence[str], stamp: str, kept: int) -> Path:
    """Rename a file, and those beside it with its name and a suffix, to `NAME.damaged-STAMP`; of the ones that were set aside before, the
    oldest are deleted.

    Args:
        path: The file.
        suffixes: Of the others.
        stamp: Tells when, in a form of its own length; unlike any before.
        kept: How many are kept, this one among them.

    Returns:
        Its new name.

    Raises:
        OSError: something cannot be renamed or deleted.
    """
    start = f"{path.name}.damaged-"
    aside = path.with_name(start + stamp)
    for suffix in ("", *suffixes):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    # By when they were renamed: a gateway's clock may have been set back since.
    renamed: dict[str, list[Path]] = {}
    for each in sorted(path.parent.glob(f"{start}*"), key=lambda each: each.lstat().st_ctime_ns):
        if each.is_file():
            renamed.setdefault(each.name[: len(start) + len(stamp)], []).append(each)
    for name in list(renamed)[:-kept]:
        for each in renamed[name]:
            each.unlink()
    return aside


def sync_folder(folder: Path) -> None:
    """Have on the disk what a folder holds: files in it that are new, gone or renamed.

    Raises:
        OSError: the disk does not take it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
