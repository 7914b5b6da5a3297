"""Recordings: files of messages, which are written and read here.

Rules this module keeps: a file that cannot be read raises HistoryError with file and line; every byte of a payload is read back as it was
written; what a crash leaves of a recording is read up to where it ends, with a warning.
"""

import base64
import io
import logging
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from vedette.contract.errors import HistoryError
from vedette.contract.files import UNREADABLE, Advance, nobody, open_bytes
from vedette.contract.readings import MAX_TIME, Message

log = logging.getLogger(__name__)

_PACKED_PAYLOAD = re.compile(rb'"payload(?:_base64)?"\s*:\s*"')
_UNWRITTEN = 1 << 16


class _Record(msgspec.Struct, kw_only=True):
    """A line of a recording; `receivedTimestamp` is what other tools call the time of arrival. Others, such as labels, are passed over."""

    topic: str
    payload: msgspec.Raw = msgspec.Raw()
    payload_base64: str | None = None
    time: float | None = None
    retain: bool = False
    receivedTimestamp: datetime | None = None  # noqa: N815 because it is the file's own key


_decode_record = msgspec.json.Decoder(_Record).decode


def read_messages(path: Path, advance: Advance = nobody) -> Iterator[Message]:
    """Messages of a recording: JSON lines with `topic`, `payload` (JSON, or the payload's text) or `payload_base64`, and `time`;
    `retain` where the broker had kept it.

    A record without a time arrived with the one before it: real captures have such. A name that ends in `.gz` is unpacked.

    Args:
        path: The file.
        advance: Told of bytes as they are read from the disk.

    Raises:
        HistoryError: the file cannot be read, or a line is no record.
    """
    arrived: float | None = None
    for number, line in _whole_lines(path, advance):
        try:
            record = _decode_record(line)
            arrived = _arrival(record, arrived)
            yield Message(record.topic, _payload(record), arrived, record.retain)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise HistoryError(f"{path}: line {number}: {error}") from error


def read_objects(path: Path, advance: Advance = nobody) -> Iterator[tuple[int, bytes]]:
    """A recording's lines as history takes them: number, and a JSON object in which a payload that is JSON is so, however it was written.

    Raises:
        HistoryError: the file cannot be read.
    """
    for number, line in _whole_lines(path, advance):
        if _PACKED_PAYLOAD.search(line):
            try:
                payload = _payload(_decode_record(line))
                payload.decode()
                opened = {**msgspec.json.decode(line, type=dict[str, msgspec.Raw]), "payload": msgspec.Raw(payload.strip())}
                msgspec.json.decode(changed := msgspec.json.encode(opened))
            except (msgspec.DecodeError, ValueError, RecursionError):
                yield number, line  # no JSON: it stays text
            else:
                yield number, changed
        else:
            yield number, line


def is_recording(path: Path) -> bool:
    """Whether a file of JSON lines holds messages rather than rows: its first line names a topic.

    Raises:
        HistoryError: the file cannot be read.
    """
    try:
        with open_bytes(path) as file:
            record = _decode_record(file.readline())
            return bool(bytes(record.payload)) or record.payload_base64 is not None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    except UNREADABLE as error:
        raise HistoryError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _whole_lines(path: Path, advance: Advance) -> Iterator[tuple[int, bytes]]:
    """Lines and their numbers, without empty ones, up to where a crash cut the file off."""
    number = 0
    try:
        with open_bytes(path, advance) as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n") and not _is_json(line):
                    log.warning("%s: cut off in line %d: read up to there", path, number)
                    return
                if not line.isspace():
                    yield number, line
    except (EOFError, zlib.error) as error:
        log.warning("%s: cut off or damaged after line %d (%s): read up to there", path, number, error)
    except OSError as error:
        raise HistoryError(f"{path}: {error.strerror or error}") from error


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


class RecordingWriter:
    """Writes a recording, packed where the name ends in `.gz`. Only its owner may read the file: telemetry may be private.

    Args:
        path: Written anew.

    Attributes:
        messages: That were given so far.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packer = zlib.compressobj(wbits=31) if path.suffix.lower() == ".gz" else None
        self._unwritten = bytearray()
        self._written = 0
        self.messages = 0

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            HistoryError: it cannot be written.
        """
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._file = io.FileIO(descriptor, "wb")
            self._is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            if self._is_regular:
                os.fchmod(descriptor, 0o600)
        except OSError as error:
            raise self._fault(error) from error
        return self

    def write(self, message: Message, **beside: object) -> None:
        """Add a message.

        Args:
            message: Arrived at a time that is finite.
            beside: Further keys of its line, such as labels, which are no part of the message.

        Raises:
            HistoryError: the file cannot be written; of what was given, what is on the disk ends with a whole line.
        """
        self._unwritten += _line(message, beside)
        self.messages += 1
        if len(self._unwritten) >= _UNWRITTEN:
            self.flush()

    def flush(self) -> None:
        """Hand on to the system what was given, so that a crash does not take it.

        Raises:
            HistoryError: the file cannot be written.
        """
        if self._unwritten:
            data = bytes(self._unwritten)
            self._unwritten.clear()
            self._put(self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH) if self._packer else data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write what is left and close the file.

        Raises:
            HistoryError: it cannot be written, and no other error is under way.
        """
        with self._file:
            if isinstance(error, HistoryError):
                return
            self.flush()
            if self._packer:
                self._put(self._packer.flush())

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            if self._is_regular:
                # A full disk took some of it: leave whole lines only.
                os.ftruncate(self._file.fileno(), self._written)
            raise self._fault(error) from error
        self._written += len(data)

    def _fault(self, error: OSError) -> HistoryError:
        return HistoryError(f"{self._path}: cannot be written: {error.strerror}")


def _line(message: Message, beside: Mapping[str, object]) -> bytes:
    """A message as a line that is read back as it is: its payload as JSON or text where that keeps every byte, else in base64."""
    encode = msgspec.json.encode
    head = encode({"time": message.arrived, "topic": message.topic})[:-1]
    tail = encode({**({"retain": True} if message.retained else {}), **beside})[1:]
    tail = (b"," if len(tail) > 1 else b"") + tail + b"\n"
    try:
        text = message.payload.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None:
        forms = [encode(text)]
        if b"\n" not in message.payload and not text.startswith('"'):
            forms.insert(0, message.payload)
        for form in forms:
            line = head + b',"payload":' + form + tail
            if _is_kept(line, message.payload):
                return line
    return head + b',"payload_base64":' + encode(base64.b64encode(message.payload).decode()) + tail


def _is_kept(line: bytes, payload: bytes) -> bool:
    try:
        return _payload(_decode_record(line)) == payload
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False


def _payload(record: _Record) -> bytes:
    if record.payload_base64 is not None:
        return base64.b64decode(record.payload_base64, validate=True)
    if not bytes(record.payload):
        raise ValueError("expected payload or payload_base64")
    raw = bytes(record.payload)
    return msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else raw


def _arrival(record: _Record, before: float | None) -> float:
    if record.time is not None:
        if not 0 <= record.time <= MAX_TIME:
            raise ValueError(f"time: expected epoch seconds, got {record.time:.0f}")
        return record.time
    if record.receivedTimestamp and record.receivedTimestamp.tzinfo:
        return record.receivedTimestamp.timestamp()
    if record.receivedTimestamp or before is None:
        raise ValueError("expected time (epoch seconds) or receivedTimestamp (with an offset)")
    return before
