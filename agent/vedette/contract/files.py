"""Files that are read from beginning to end, packed or not, by somebody who wants to know how far it is.

Rules this module keeps: how far it is goes by what was read from the disk, so that a packed file's end is known, too.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK = 1 << 18

Advance = Callable[[int], object]
"""Told how many more bytes of a file were read: for a progress bar."""


def nobody(_count: int) -> None:
    """An Advance that tells nobody."""


UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading from `open_bytes` raises; the last two where a packed file is cut off or damaged."""


@contextmanager
def open_bytes(path: Path, advance: Advance = nobody) -> Iterator[BinaryIO]:
    """A file's bytes; of one whose name ends in `.gz`, what is packed in it.

    Args:
        path: The file.
        advance: Told of bytes as they are read from the disk, so that a packed file's progress has a known end.

    Raises:
        OSError: it cannot be opened.
    """
    with io.BufferedReader(_Watched(path, advance), _CHUNK) as data:
        if path.suffix.lower() != ".gz":
            yield data
            return
        with gzip.GzipFile(fileobj=data) as unpacked:
            yield io.BufferedReader(_Unpacked(unpacked), _CHUNK)


class _Watched(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(path)
        self._advance = advance

    def readinto(self, buffer: Any, /) -> int | None:
        count = super().readinto(buffer)
        self._advance(count or 0)
        return count


class _Unpacked(io.RawIOBase):
    """What is packed in a file, as soon as it is unpacked: GzipFile's own readinto fills its buffer, and a cut file's last lines would be
    lost in it.
    """

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)
