"""A stream: the path of its readings, in order: message, reading, window, score, alert.

Rules this module keeps: no I/O and no clock; what one device sends never stops another; every message is accounted for: received = accepted
messages + rejected, and the accepted ones' readings = scored + waiting + held + late + repeated + failed.
"""

import logging
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from vedette.alerts import Alert, Finding, Judge, Judged
from vedette.config import Stream
from vedette.contract.devices import Slots
from vedette.contract.errors import ScoreError
from vedette.contract.readings import Decoder, Message, Readings
from vedette.contract.scores import RawScores, Scores
from vedette.contract.windows import Times
from vedette.detector import Detector, Windowed
from vedette.logs import say_change

log = logging.getLogger(__name__)


class Scored(NamedTuple):
    """Windows of one stream and their scores, in order.

    Attributes:
        stream: Its name.
        devices: Name of each window's device.
        times: float64 `(n,)`: event time of each window's last row, epoch seconds.
        scores: float32 `(n,)`.
    """

    stream: str
    devices: list[str]
    times: Times
    scores: Scores


Course = Generator[Windowed, RawScores | None, tuple[list[Scored], list[Finding]]]
"""A stream's way through a batch: asks for raw scores of windows, and ends with what came of them."""


class StreamPipeline:
    """One stream's part of the path.

    Args:
        stream: As configured.
        decoder: Takes payloads of this stream apart for this model.
        judge: Decides on alerts.
        detector: Scores with the model.
        explains: Whether alerts get their reasons, which take some scoring.

    Attributes:
        counts: `received`, `readings`, `scored`, `alerts`, `rejected.REASON` and `partial.REASON`; `stats` has the rest.
    """

    def __init__(self, stream: Stream, decoder: Decoder, judge: Judge, detector: Detector, *, explains: bool = True) -> None:
        self.name = stream.name
        self.filter = stream.filter
        self.decoder = decoder
        self.judge = judge
        self.detector = detector
        self.devices = judge.devices
        self.counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._explains = explains
        self._untold: list[Finding] = []
        self._unscored: str | None = None
        self._unexplained: str | None = None

    def adopt(self, other: "StreamPipeline") -> None:
        """Go on with another's model, between two batches: alerts that are open and all counters stay, and so do the devices' windows
        where both models look at the same features in the same windows.
        """
        counted = self._model_counts()
        # Both have seen the same messages; a model that maps other fields may know devices that this one refused.
        recent = other.devices.recent()
        to = np.zeros(len(recent), dtype=np.intp)
        for part in self.devices.place([other.devices.names[slot] for slot in recent.tolist()]):
            self.detector.reset(part.evicted)
            self._untold += self.judge.forget(part.evicted)
            to[recent[part.readings]] = part.slots
        other.detector.move(to)
        other.detector.take_over(self.detector)
        other.decoder.take_over(self.decoder)
        self.detector, self.decoder = other.detector, other.decoder
        self._untold += self.judge.adopt(other.judge.model, self.detector.encoder.spec)
        # What the new detector has counted so far, on trial, this one has counted as well.
        for name in counted | (now := self.detector.counts()):
            self._before[name] = counted.get(name, 0) - now.get(name, 0)

    def saved(self) -> dict[str, Any]:
        """All that is remembered of the stream, as plain data: to be encoded before anything else is asked of the stream.

        `fit` says what the windows, what is remembered of scores, and the alerts go with.
        """
        return {
            "fit": self._fit(),
            "devices": self.devices.saved(),
            "decoder": self.decoder.saved(),
            "detector": self.detector.saved(),
            "judge": self.judge.saved(),
            "counts": dict(self.counts),
            "model_counts": self._model_counts(),
            "untold": [(finding.at, msgspec.to_builtins(finding.alert)) for finding in self._untold],
        }

    def restore(self, saved: dict[str, Any]) -> list[str]:
        """Go on with what was saved, where it fits; before the first message.

        Windows and open alerts go on with another model that looks at the same features, as `adopt` has it.

        Returns:
            What begins anew and why, for people.
        """
        anew: list[str] = []
        fits = {name: saved["fit"][name] == fit for name, fit in self._fit().items()}
        self.decoder.restore(saved["decoder"])
        if fits["windows"] or fits["judge"]:
            self.devices.restore(saved["devices"])
        if fits["judge"]:
            self.judge.restore(saved["judge"])
        else:
            anew.append(f"stream {self.name}: its alert rules are others now: alerts begin anew")
        if not fits["windows"]:
            anew.append(f"stream {self.name}: its model looks at other features or windows now: windows fill anew")
        elif not self.detector.restore(saved["detector"], scores=fits["model"]):
            anew.append(f"stream {self.name}: another model scores now: averages of its scores begin anew")
        self.counts = Counter(saved["counts"])
        self._before = Counter(saved["model_counts"])
        self._before.subtract(self.detector.counts())
        self._untold = [Finding(at, None, msgspec.convert(alert, Alert)) for at, alert in saved["untold"]]
        self._forget(self.devices.surplus())
        return anew

    def _fit(self) -> dict[str, str]:
        return {"windows": self.detector.windows_fit(), "model": self.detector.model_fit(), "judge": self.judge.fit()}

    def _forget(self, surplus: Slots) -> None:
        """Forget devices for which there is no room any more."""
        if len(surplus):
            self.detector.reset(surplus)
            self._untold += self.judge.forget(surplus)
            to = self.devices.leave(surplus)
            self.detector.move(to)
            self.judge.move(to)

    def open_alerts(self) -> set[str]:
        """Ids of the episodes that were told and whose end was not told yet."""
        return self.judge.open_ids() | {finding.alert.id for finding in self._untold}

    def process(self, devices: Sequence[str], messages: Sequence[Message]) -> Course:
        """Take messages of this stream, each with the device that its topic names, all the way.

        Yields:
            Windows to be scored, and takes what the models give for them, None where they fail.

        Returns:
            The scored windows and what they call for.
        """
        scored: list[Scored] = []
        found, self._untold = self._untold, []
        readings = self._decode(devices, messages)
        done = 0
        refused: list[tuple[int, str]] = []
        for device, arrived, behind in readings.departed:
            found += yield from self._take(readings, slice(done, behind), scored, refused)
            found += self.judge.depart(device, arrived)
            done = behind
        found += yield from self._take(readings, slice(done, len(readings)), scored, refused)
        if refused:
            self._count_refused(readings, refused)
        self.counts["alerts"] += len(found)
        return scored, found

    def tick(self, now: float) -> list[Finding]:
        """Let time pass: everything that arrived up to `now`, epoch seconds, was processed."""
        found, self._untold = [*self._untold, *self.judge.tick(now)], []
        self.counts["alerts"] += len(found)
        return found

    @property
    def failed(self) -> int:
        """Windows that could not be scored."""
        return self._model_counts()["windows"] - self.counts["scored"]

    def stats(self) -> dict[str, int]:
        """The counters, with those that the detector keeps; looks at every device, so it is not for every batch."""
        model = self._model_counts()
        return {
            **{name: self.counts[name] for name in ("received", "readings", "scored")},
            **{name: model[name] for name in ("waiting", "held", "late", "repeated")},
            "failed": self.failed,
            "devices": len(self.devices),
            "restarted": model["restarted"],
            "evicted": self.devices.evicted,
            "alerts": self.counts["alerts"],
            "open": self.judge.open_alerts(),
            **{f"open.{kind}": count for kind, count in sorted(self.judge.open_kinds().items())},
            "withheld": self.judge.held,
            "shifted": self.detector.adapter.shifted(),
            **{name: count for name, count in sorted(model.items()) if name.startswith("values.") and count},
            **{name: count for name, count in sorted(self.counts.items()) if name.startswith(("rejected.", "partial."))},
        }

    def say_scoring(self, fault: str | None) -> None:
        """Log where the model begins to fail, and where it is well again; None is that it is."""
        self._unscored = self._say_change("windows cannot be scored", self._unscored, fault)

    @property
    def unscored(self) -> str | None:
        """Why the last windows could not be scored; None where they could."""
        return self._unscored

    def _say_change(self, what: str, before: str | None, now: str | None) -> str | None:
        what = f"stream {self.name}: {what}"
        say_change(log, f"{what}: {now}", f"{what}: no longer so", before=before is not None, now=now is not None)
        return now

    def _model_counts(self) -> dict[str, int]:
        """What the present detector and those before it have counted."""
        now = self.detector.counts()
        return {name: now.get(name, 0) + self._before[name] for name in {**now, **self._before}}

    def _decode(self, devices: Sequence[str], messages: Sequence[Message]) -> Readings:
        readings = self.decoder.decode_batch(messages, devices)
        for reason, count in readings.rejected.items():
            self.counts[f"rejected.{reason}"] += count
        for reason, count in readings.partial.items():
            self.counts[f"partial.{reason}"] += count
        self.counts["received"] += len(messages)
        self.counts["readings"] += len(readings)
        return readings

    def _count_refused(self, readings: Readings, refused: Sequence[tuple[int, str]]) -> None:
        """Count readings, and why, that were decoded but are too many: a message whole where none of its readings is left."""
        self.counts["readings"] -= len(refused)
        left = Counter(readings.messages)
        left.subtract(readings.messages[position] for position, _ in refused)
        whole: set[int] = set()
        for position, reason in refused:
            message = readings.messages[position]
            if left[message]:
                self.counts[f"partial.{reason}"] += 1
            elif message not in whole:
                whole.add(message)
                self.counts[f"rejected.{reason}"] += 1

    def _take(
        self, readings: Readings, some: slice, scored: list[Scored], refused: list[tuple[int, str]]
    ) -> Generator[Windowed, RawScores | None, list[Finding]]:
        """Window, score and judge some readings of a batch; those that are too many are added to `refused`."""
        found: list[Finding] = []
        times = np.array(readings.times[some], dtype=np.float64)
        arrived = np.array(readings.arrived[some], dtype=np.float64)
        values = readings.values[some]
        dated = np.ones(len(readings), dtype=np.bool_)
        dated[readings.undated] = False
        dated = dated[some]
        messages = readings.messages[some] if readings.several else ()
        for part in self.devices.place(readings.devices[some], arrived, messages):
            at, came, sent = times[part.readings], arrived[part.readings], values[part.readings]
            is_dated = dated[part.readings]
            if part.kept is not None:
                refused += [(some.start + part.readings.start + position, reason) for position, reason in part.refused]
                at, came, sent = at[part.kept], came[part.kept], [sent[position] for position in part.kept.tolist()]
                is_dated = is_dated[part.kept]
            self.detector.reset(part.evicted)
            windowed = self.detector.window(part.slots, at, sent, is_dated)
            judged = self._conclude(windowed, (yield windowed), scored)
            batch = Judged(part.slots, at, came, windowed.sent, *judged, part.evicted, part.forgotten)
            found += [self._explained(finding, windowed) for finding in self.judge.judge(batch)]
        return found

    def _conclude(self, windowed: Windowed, raw: RawScores | None, scored: list[Scored]) -> tuple[Slots, Times, Scores]:
        """Which reading completed each window, the windows' times and their scores; nothing where the model failed."""
        if raw is None:
            # The windows are kept, so only their verdicts are lost.
            self.detector.fail(windowed)
            return np.zeros(0, dtype=np.intp), np.zeros(0), np.zeros(0, dtype=np.float32)
        scores = self.detector.conclude(windowed, raw)
        self.counts["scored"] += len(scores)
        if len(scores):
            scored.append(Scored(self.name, [self.devices.names[slot] for slot in windowed.batch.slots.tolist()], windowed.times, scores))
        return windowed.batch.positions, windowed.times, scores

    def _explained(self, finding: Finding, windowed: Windowed) -> Finding:
        """With the reasons of an alert that a window called for."""
        if not self._explains or finding.window is None or finding.alert.type == "end":
            return finding
        try:
            causes = self.detector.explain(windowed.batch.windows[finding.window], windowed.raw[finding.window])
        except ScoreError as error:
            # An alert without its reasons is worth more than none.
            self._unexplained = self._say_change("alerts cannot be explained", self._unexplained, str(error))
            return finding
        self._unexplained = self._say_change("alerts cannot be explained", self._unexplained, None)
        return finding._replace(alert=msgspec.structs.replace(finding.alert, explanation=causes))
