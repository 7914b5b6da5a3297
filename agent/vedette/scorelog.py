"""A file with every window's score, for whoever sets a threshold or compares two runs."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from vedette.contract.errors import VedetteError
from vedette.stream import Scored


class ScoreLog:
    """JSON lines of `stream`, `device`, `time` (epoch seconds) and `score`, not rounded.

    Args:
        path: Written anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            VedetteError: it cannot be written.
        """
        try:
            self._file: IO[bytes] = self._path.open("wb")
        except OSError as error:
            raise VedetteError(f"--scores: {self._path}: {error.strerror}") from error
        return self

    def write(self, scored: Sequence[Scored]) -> None:
        """Append scores. They are with the system when it returns, so that whatever ends the agent, the file holds what was scored."""
        for stream, devices, times, scores in scored:
            windows = zip(devices, times.tolist(), scores.tolist(), strict=True)
            lines = [{"stream": stream, "device": device, "time": time, "score": score} for device, time, score in windows]
            self._file.write(self._encoder.encode_lines(lines))
        self._file.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()
