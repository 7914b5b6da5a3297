"""Replay: recorded telemetry through the very path that live telemetry takes, to see what would have fired."""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vedette.config import Config, Stream
from vedette.contract.errors import ConfigError, HistoryError
from vedette.contract.files import Advance
from vedette.contract.readings import Message
from vedette.contract.recordings import read_messages
from vedette.contract.tables import read_table, row_payload
from vedette.pipeline import Outcome, Pipeline

BATCH = 1024


def replay(pipeline: Pipeline, messages: Iterator[Message]) -> Iterator[Outcome]:
    """Take messages through a pipeline, batch by batch. Scores and alerts do not depend on where the batches end."""
    while batch := list(islice(messages, BATCH)):
        yield pipeline.process(batch)


def messages_of(path: Path, config: Config, stream_name: str | None, device: str | None, advance: Advance) -> Iterator[Message]:
    """The messages that a file of recorded telemetry holds.

    Args:
        path: A recording (`.jsonl`: topic, payload, time), or a table (`.csv`), whose rows become messages on a stream's topic; each also
            with .gz after it.
        config: The agent's.
        stream_name: For a table: its stream; may be left out where there is one only.
        device: For a table: the column that names the device, or, where there is no such column, its one device's name.
        advance: Told of bytes as they are read, of `path.stat().st_size` in all.

    Raises:
        HistoryError: the file cannot be read, or is of another kind.
        ConfigError: there is no such stream, or it cannot be replayed from a table.
    """
    kind = _unpacked(path).suffix.lower()
    if kind == ".csv":
        return _table_messages(path, _stream(config, stream_name), device, advance)
    if kind in {".jsonl", ".ndjson"}:
        return read_messages(path, advance)
    raise HistoryError(f"{path}: expected a recording (.jsonl) or a table (.csv), each also with .gz after it")


def _table_messages(path: Path, stream: Stream, device: str | None, advance: Advance) -> Iterator[Message]:
    if stream.payload.time is None:
        raise ConfigError(f"stream {stream.name}: a table's rows have no time of arrival: set payload.time to its column of times")
    topic_filter = stream.filter
    for number, cells in read_table(path, advance):
        name = cells.get(device, device) if device else cells.get("device", _unpacked(path).stem)
        topic = topic_filter.fill(name)
        if topic_filter.match(topic) is None:
            raise HistoryError(f'{path}: row {number}: device "{name}" cannot stand in the topic {topic_filter.topic}')
        # It arrived whenever it says it was measured: no clock is ahead of another here.
        yield Message(topic, row_payload(cells), math.inf)


def _unpacked(path: Path) -> Path:
    """A file's name without .gz."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def _stream(config: Config, name: str | None) -> Stream:
    streams = {stream.name: stream for stream in config.streams}
    if name is None and len(streams) == 1:
        return config.streams[0]
    if name not in streams:
        raise ConfigError(f"--stream: expected one of {', '.join(streams)}, got {name or 'nothing'}")
    return streams[name]
