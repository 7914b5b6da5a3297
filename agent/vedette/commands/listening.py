"""What `vedette check --listen` hears: live telemetry through the streams' own decoders, told in words.

Rules this module keeps: never a payload or a secret; a name that a device sent is shown escaped and shortened; memory is bounded.
"""

import os
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vedette.config import Config, Stream
from vedette.contract.features import Feature, Number, Value
from vedette.contract.readings import Decoder, Message, Readings, is_clock
from vedette.pipeline import stream_decoder
from vedette.store import Store
from vedette.visits import probe

_MAX_WAITING = 100_000
_MAX_LOOKED_INTO = 500
_MAX_NAMES = 40
_MAX_GAPS = 10_000


class Heard:
    """What one stream made of what it heard.

    Args:
        stream: As configured.
        features: The live model's.
        decoder: The stream's.

    Attributes:
        accepted: Messages that gave a reading.
        devices: When each was heard last, epoch seconds.
    """

    def __init__(self, stream: Stream, features: Sequence[Feature], decoder: Decoder) -> None:
        self.name, self.filter = stream.name, stream.filter
        self._features, self._decoder = features, decoder
        self.messages = self.accepted = self.readings = 0
        self.devices: dict[str, float] = {}
        self._gaps: deque[float] = deque(maxlen=_MAX_GAPS)
        self._seen: Counter[str] = Counter()
        self._last: dict[str, Value] = {}
        self._range: dict[str, tuple[float, float]] = {}
        self._unused: Counter[str] = Counter()
        self._faults: Counter[tuple[str, str]] = Counter()
        self._examples: dict[str, str] = {}

    def hear(self, message: Message) -> bool:
        """Take a message, if it is this stream's."""
        device = self.filter.match(message.topic)
        if device is None:
            return False
        self.messages += 1
        read = self._decoder.decode_batch([message], [device])
        self.accepted += read.accepted
        self.readings += len(read)
        for kind, counts in (("rejected", read.rejected), ("partial", read.partial)):
            for reason, count in counts.items():
                self._faults[kind, reason] += count
        whose = shown(device or (read.devices[0] if len(read) else ""))
        for reason, words in read.explained.items():
            self._examples.setdefault(reason, f"{whose}: {words}" if whose else words)
        if self.messages <= _MAX_LOOKED_INTO:
            for name in self._decoder.unused(message):
                if len(self._unused) < _MAX_NAMES or shown(name) in self._unused:
                    self._unused[shown(name)] += 1
        self._take(read)
        return True

    def _take(self, read: Readings) -> None:
        for device, arrived, values in zip(read.devices, read.arrived, read.values, strict=True):
            if (before := self.devices.get(device)) is not None and arrived > before:
                self._gaps.append(arrived - before)
            self.devices[device] = arrived
            for feature, value in zip(self._features, values, strict=True):
                if is_clock(feature) or value is None or value != value:
                    continue
                self._seen[feature.name] += 1
                self._last[feature.name] = value
                if isinstance(feature, Number) and isinstance(value, int | float):
                    low, high = self._range.get(feature.name, (value, value))
                    self._range[feature.name] = (min(low, value), max(high, value))

    @property
    def interval_s(self) -> float | None:
        """The usual time between a device's messages; None where none was heard twice."""
        return round(statistics.median(self._gaps), 3) if self._gaps else None

    def facts(self, seconds: float) -> dict[str, Any]:
        """For a script."""
        values = {}
        for feature in self._features:
            if not is_clock(feature):
                seen, last = self._seen[feature.name], self._last.get(feature.name)
                values[feature.name] = {
                    "sent": seen,
                    "missing": self.readings - seen,
                    "last": shown(last)
                    if isinstance(last, str)
                    else [shown(str(each)) for each in last]
                    if isinstance(last, list)
                    else last,
                    "range": self._range.get(feature.name),
                }
        return {
            "stream": self.name,
            "messages": self.messages,
            "per_s": round(self.messages / seconds, 3),
            "accepted": self.accepted,
            "readings": self.readings,
            "devices": len(self.devices),
            "interval_s": self.interval_s,
            "features": values,
            "unused": list(self._unused),
            **{
                wanted: {r: {"count": n, "example": self._examples.get(r, "")} for (kind, r), n in self._faults.items() if kind == wanted}
                for wanted in ("rejected", "partial")
            },
        }

    def lines(self, seconds: float) -> list[str]:
        """For people."""
        facts = self.facts(seconds)
        often = "" if self.interval_s is None else f", one each usually every {self.interval_s:g} s"
        told = [
            f"{self.name}: {self.messages} messages ({facts['per_s']:g}/s), {self.readings} readings of {len(self.devices)} devices{often}"
        ]
        width = max((len(name) for name in facts["features"]), default=0)
        for name, value in facts["features"].items():
            if not value["sent"]:
                told.append(f"  {name:{width}}  never sent")
                continue
            spread = "" if value["range"] is None else f", {value['range'][0]:g} to {value['range'][1]:g}"
            missing = f", missing in {value['missing']} of {self.readings}" if value["missing"] else ""
            last = f"{value['last']:g}" if isinstance(value["last"], float) else value["last"]
            told.append(f"  {name:{width}}  last {last}{spread}{missing}")
        if self._unused:
            told.append(f"  not used: {', '.join(self._unused)}")
        for kind in ("rejected", "partial"):
            told += [f"  {kind} {reason}: {fault['count']}, as {fault['example']}" for reason, fault in facts[kind].items()]
        return told


def listen(agent: Config, seconds: float, show: Callable[[str], None]) -> list[Heard]:
    """Listen to live telemetry.

    Args:
        agent: The configuration.
        seconds: How long.
        show: Given lines of progress.

    Raises:
        ConfigError, BundleError, ScoreError: a model is not there, or does not fit a stream.
        BrokerError: the broker, or the way to it, refuses.
    """
    store = Store(Path(agent.state_dir), signed_only=agent.updates is not None)
    heard = []
    for index, stream in enumerate(agent.streams):
        manifest = store.open_live(stream.model)[0].manifest
        heard.append(Heard(stream, manifest.features, stream_decoder(index, stream, manifest, agent.limits)))
    waiting: deque[Message] = deque(maxlen=_MAX_WAITING)
    count = 0

    def stay() -> None:
        nonlocal count
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            while waiting:
                message = waiting.popleft()
                for each in heard:
                    count += each.hear(message)
            show(f"\rlistening: {max(0.0, left):.0f} s left, {count} messages ")
        show("\r\x1b[K")

    probe(agent.broker, f"vedette-listen-{agent.gateway}-{os.getpid()}", agent.subscriptions, 5.0, waiting.append, stay)
    return heard


def shown(name: str) -> str:
    """A name that somebody sent, fit to be shown: control characters escaped, and not endless."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return safe if len(safe) <= 60 else f"{safe[:59]}…"
