"""`vedette record`."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from vedette import config
from vedette.broker import Broker
from vedette.commands import add_config, parser
from vedette.config import Config
from vedette.contract.errors import ConfigError, HistoryError
from vedette.contract.readings import Message
from vedette.contract.recordings import RecordingWriter
from vedette.inbox import Inbox
from vedette.mqtt import Connection
from vedette.packets import Burst
from vedette.progress import Progress
from vedette.topics import TopicFilter
from vedette.visits import probe

_LONGEST_PAYLOAD = 16 * 1024 * 1024
"""Beyond it a payload is cut off: what no stream of any agent would take."""

_BATCH, _IDLE_S, _FLUSH_S = 1024, 0.2, 1.0


def record(arguments: Sequence[str]) -> int:
    """Save live telemetry as a recording, for replay and as history, until Ctrl-C."""
    options = parser("record", record.__doc__ or "")
    add_config(options)
    options.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a new file: .jsonl, or .jsonl.gz to pack it")
    options.add_argument("--seconds", type=float, metavar="N", help="stop after so long (default: at Ctrl-C or SIGTERM)")
    options.add_argument(
        "--topic", action="append", metavar="FILTER", help="record this instead of what the configured streams listen to; may be repeated"
    )
    options.add_argument("--json", action="store_true", help="end with a summary as JSON on standard output")
    given = options.parse_args(arguments)
    if given.seconds is not None and not given.seconds > 0:
        options.error(f"--seconds: expected more than 0, got {given.seconds:g}")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    agent = config.load(given.config)
    output: Path = given.output
    _check_output(output)
    recorder = _Recorder(agent, _subscriptions(agent, given.topic), given.seconds)
    # Told apart from a broker that goes away later, which is waited for: one that cannot be used at all is a fault in what was given.
    probe(recorder.broker, recorder.client_id, recorder.subscriptions, timeout_s=5.0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: recorder.stop())
    with RecordingWriter(output) as writer:
        recorder.run(writer)
    if given.json:
        print(msgspec.json.encode({"file": str(output), **recorder.summary(writer)}).decode())
    else:
        print(f"{output}: {recorder.text(writer)}", file=sys.stderr)
    return 0


def _check_output(path: Path) -> None:
    if not path.name.lower().endswith((".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")) and not path.is_char_device():
        raise HistoryError(f"{path}: expected a name that ends in .jsonl or .jsonl.gz, so that replay can read it")
    if path.is_file():
        raise HistoryError(f"{path}: exists already; a recording is never overwritten: name another file, or delete this one")


def _subscriptions(agent: Config, topics: Sequence[str] | None) -> list[tuple[str, int]]:
    """Filters and their QoS: those of the streams, or those asked for."""
    if topics is None:
        return [(topic, qos) for topic, qos in agent.subscriptions if topic not in agent.aside]
    found = []
    for topic in topics:
        try:
            found.append((TopicFilter(topic).subscription, 1))
        except ValueError as error:
            raise ConfigError(f'--topic: {error}, got "{topic}"') from error
    return found


class _Recorder:
    """Listens beside the agent, as a client of its own with a session of its own, and takes nothing away from it.

    Args:
        agent: Whose broker it is.
        subscriptions: Filters and their QoS.
        seconds: For how long from when the broker has granted the subscriptions; None until `stop`.
    """

    def __init__(self, agent: Config, subscriptions: list[tuple[str, int]], seconds: float | None) -> None:
        # A configured client id is the agent's: taken by two, the broker would throw one out.
        self.broker: Broker = msgspec.structs.replace(agent.broker, client_id=None)
        self.client_id = f"vedette-record-{agent.gateway}-{os.getpid()}"
        self.subscriptions = subscriptions
        self._seconds = seconds
        self._inbox = Inbox(agent.limits.queue, patience_s=agent.broker.keepalive / 2)
        self._stop = threading.Event()
        self._topics: set[str] = set()
        self._bytes = 0
        self._began: float | None = None
        self._took_s = 0.0

    def stop(self) -> None:
        """Let `run` return soon. May be called by a signal handler."""
        self._stop.set()
        self._inbox.wake()

    def run(self, writer: RecordingWriter) -> None:
        """Write all that arrives.

        Raises:
            HistoryError: the file cannot be written.
            ConfigError: a credential cannot be read.
        """
        connection = Connection(
            self.broker, self.client_id, None, self.subscriptions, _LONGEST_PAYLOAD, on_burst=self._receive, on_progress=self._subscribed
        )
        progress = Progress(sys.stderr, lambda: self.text(writer))
        flushed = time.monotonic()
        connection.start()
        try:
            while not self._stop.is_set() and (self._seconds is None or self._took_s < self._seconds):
                self._write(writer, self._inbox.take(_BATCH, _IDLE_S, 0.005))
                self._took_s = time.monotonic() - self._began if self._began is not None else 0.0
                if time.monotonic() - flushed >= _FLUSH_S:
                    flushed = time.monotonic()
                    writer.flush()
                progress.show()
        finally:
            progress.clear()
            connection.stop()
        while messages := self._inbox.take(_BATCH, 0.0, 0.0):
            self._write(writer, messages)

    def summary(self, writer: RecordingWriter) -> dict[str, object]:
        """What was recorded, for scripts."""
        return {
            "messages": writer.messages,
            "topics": len(self._topics),
            "payload_bytes": self._bytes,
            "seconds": round(self._took_s, 1),
            "dropped": self._inbox.dropped,
        }

    def text(self, writer: RecordingWriter) -> str:
        """What was recorded, for people."""
        lost = f", {self._inbox.dropped} lost: the disk is too slow" if self._inbox.dropped else ""
        return f"{writer.messages} messages on {len(self._topics)} topics, {self._bytes / 1e6:.1f} MB, in {self._took_s:.0f} s{lost}"

    def _subscribed(self) -> None:
        if self._began is None:
            self._began = time.monotonic()

    def _receive(self, burst: Burst) -> bool:
        self._inbox.put(self._inbox.make_room(burst).messages)
        return True

    def _write(self, writer: RecordingWriter, messages: Sequence[Message]) -> None:
        for message in messages:
            writer.write(message)
            self._topics.add(message.topic)
            self._bytes += len(message.payload)
