"""An engine that is saved, ended and restored goes on exactly where it was, whatever it had heard."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from bundles import DOOR, TEMPERATURE, make_bundle
from sparkplug import DOUBLE, INT64, payload
from vedette.alerts import Alert
from vedette.config import Config
from vedette.contract import bundle as bundles
from vedette.contract import saved
from vedette.contract.adaptation import BINS, Adaptation
from vedette.contract.bundle import Bundle
from vedette.contract.features import Rows
from vedette.contract.readings import Message
from vedette.contract.scores import Calibration, Scorer, Stage
from vedette.contract.windows import WindowSpec
from vedette.pipeline import Pipeline

START = 1_790_000_000.0
AVERAGED = msgspec.structs.replace(TEMPERATURE, averages=(2.0,))
ADAPTING = Adaptation(origin=0.0, unit=1.0, seed=(1.0,) * 28 + (0.0,) * (BINS - 28), weight=20.0, half_life=30.0)
MODELS: dict[str, tuple[Bundle, Stage]] = {
    "late": (
        bundles.read(make_bundle(name="late", features=(AVERAGED, DOOR), window=WindowSpec(steps=3, late_s=10, max_gap_s=200))),
        Stage(
            name="spread", runtime="onnx", file="model.onnx", input="window", output="raw", smoothing=2.0,
            calibration=Calibration(centre=0, threshold=1, adaptation=ADAPTING),
        ),
    ),
    "grid": (
        bundles.read(make_bundle(name="grid", features=(TEMPERATURE,), window=WindowSpec(steps=2, period_s=5, max_gap_s=200))),
        Stage(
            name="spread", runtime="onnx", file="model.onnx", input="window", output="raw", calibration=Calibration(centre=0, threshold=2)
        ),
    ),
}  # fmt: skip
STREAMS: list[dict[str, Any]] = [
    {"name": "fridges", "topic": "f/{device}", "model": "late", "payload": {"time": {"field": "ts"}}},
    {"name": "again", "topic": "f/{device}", "model": "late", "payload": {"time": {"field": "ts"}}, "alerts": {"group": "2 within 20s"}},
    {
        "name": "lines",
        "topic": "spBv1.0/plant/+/{device:#}",
        "model": "grid",
        "payload": {"format": "sparkplug", "fields": {"temperature": "T"}},
    },
]
RULES: dict[str, Any] = {
    "raise": "1 of 2",
    "clear": "2 of 2",
    "cooldown": 20,
    "update": 10,
    "drift_after": 100,
    "silent": 40,
    "stuck": 30,
}


class Spread:
    """A fake model: the raw output is the spread of the window's first column."""

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        return {"raw": np.ptp(windows[:, :, 0], axis=1)}


def engine(
    streams: Sequence[Mapping[str, Any]] = STREAMS, devices: int = 7, models: Mapping[str, tuple[Bundle, Stage]] = MODELS, **rules: Any
) -> Pipeline:
    common = {**RULES, **rules}
    document = {
        "gateway": "gw-1",
        "broker": {"url": "mqtt://nobody"},
        "streams": [{**stream, "alerts": {**common, **stream.get("alerts", {})}} for stream in streams],
        "limits": {"devices": devices},
    }
    config = msgspec.convert(document, Config, dec_hook=lambda type_, value: type_.parse(value))
    loaded = {name: (bundle, Scorer([stage], [Spread()], "all")) for name, (bundle, stage) in models.items()}
    return Pipeline(config, lambda name: loaded[name])


def reading(device: str, ts: float, temperature: float | None, arrived: float | None = None) -> Message:
    values = {"ts": ts, "door": "open"} | ({} if temperature is None else {"temperature": temperature})
    return Message(f"f/{device}", json.dumps(values).encode(), ts if arrived is None else arrived)


def said(kind: str, source: str, at: float, value: float = 4.0) -> Message:
    """A Sparkplug message: a birth of a node, or of a device and its alias; data by alias; or a death."""
    ms = int(at * 1000)
    metric: dict[str, Any] = {"alias": 7, "timestamp": ms, "double_value": value}
    if kind == "NBIRTH":
        data = payload({"name": "bdSeq", "datatype": INT64, "long_value": 2**63 - 1}, timestamp=ms, seq=0)
    elif kind == "DBIRTH":
        data = payload({**metric, "name": "T", "datatype": DOUBLE}, timestamp=ms, seq=1)
    else:
        data = payload(metric, timestamp=ms, seq=2)
    return Message(f"spBv1.0/plant/{kind}/{source}", data, at)


class Step(NamedTuple):
    """Somebody says something, so long after what was said before."""

    what: str
    device: str
    pause: float
    behind: float
    value: float | None


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["f", "f", "f", "NBIRTH", "DBIRTH", "DDATA", "DDATA", "DDEATH", "NDEATH"]),
        st.sampled_from("abcdefghi"),
        st.sampled_from([0.0, 0.0, 1.0, 3.0, 45.0]),
        st.sampled_from([0.0, 0.0, 2.0, 8.0, 30.0, 300.0]),
        st.sampled_from([4.0, 4.0, 4.0, 5.0, 9.0, None]),
    ),
    max_size=120,
)
CUTS = st.lists(st.integers(0, 1000), max_size=10)


def messages_of(steps: Sequence[Step]) -> list[Message]:
    found, now = [], START
    for what, device, pause, behind, value in steps:
        now += pause
        if what == "f":
            found.append(reading(device, now - behind, value, now))
        else:
            source = "edge" if what[0] == "N" else f"edge/{device}"
            found.append(said(what, source, now, value or 4.0))
    return found


def batches_of(messages: Sequence[Message], cuts: Sequence[int]) -> list[Sequence[Message]]:
    places = sorted({0, *(cut % (len(messages) + 1) for cut in cuts), len(messages)})
    return [messages[start:stop] for start, stop in itertools.pairwise(places)]


def play(subject: Pipeline, batches: Sequence[Sequence[Message]]) -> tuple[list[tuple[str, str, float, float]], list[Alert]]:
    """Every window's stream, device, time and score, and the alerts, both stream by stream: what arrives in one instant on two streams
    has no order between them.
    """
    scores: list[tuple[str, str, float, float]] = []
    alerts: list[Alert] = []
    for batch in batches:
        outcome = subject.process(batch)
        alerts += outcome.alerts
        for some in outcome.scored:
            scores += [(some.stream, *row) for row in zip(some.devices, some.times.tolist(), some.scores.tolist(), strict=True)]
    return sorted(scores, key=lambda row: row[0]), sorted(alerts, key=lambda alert: alert.stream)


def open_after(alerts: Sequence[Alert]) -> set[str]:
    """Ids of what was told and is not over; every id begins with `new`."""
    found: set[str] = set()
    for alert in alerts:
        assert (alert.type == "new") == (alert.id not in found)
        found.add(alert.id)
        if alert.type == "end":
            found.remove(alert.id)
    return found


def revived(subject: Pipeline, **other: Any) -> Pipeline:
    again = engine(**other)
    assert again.restore(saved.decode(saved.encode(subject.saved()))) == []
    return again


@settings(max_examples=100, deadline=None)
@given(STEPS, CUTS, CUTS, st.integers(0, 120))
def test_it_goes_on_as_if_nothing_had_happened(steps: list[Step], cuts: list[int], other_cuts: list[int], place: int) -> None:
    messages = messages_of(steps)
    whole, before = engine(), engine()
    expected = play(whole, batches_of(messages, cuts))
    first = play(before, batches_of(messages[:place], other_cuts))
    after = revived(before)
    assert saved.encode(after.saved()) == saved.encode(before.saved())
    assert after.open_alerts() == before.open_alerts()
    second = play(after, batches_of(messages[place:], other_cuts))
    scores = sorted([*first[0], *second[0]], key=lambda row: row[0])
    alerts = sorted([*first[1], *second[1]], key=lambda alert: alert.stream)
    assert msgspec.json.encode((scores, alerts)) == msgspec.json.encode(expected)
    assert after.stats() == whole.stats()
    end = START + 1e6
    assert after.tick(end) == whole.tick(end)


@settings(max_examples=50, deadline=None)
@given(STEPS, CUTS, st.floats(0, 60))
def test_time_that_passes_and_finds_nothing_leaves_nothing_behind(steps: list[Step], cuts: list[int], ahead: float) -> None:
    subject = engine()
    for batch in batches_of(messages_of(steps), cuts):
        subject.process(batch)
        before = saved.encode(subject.saved())
        now = batch[-1].arrived + ahead if batch else START
        assert subject.tick(now) or saved.encode(subject.saved()) == before


@settings(max_examples=50, deadline=None)
@given(STEPS, CUTS)
def test_what_was_told_and_is_not_over_is_what_is_open(steps: list[Step], cuts: list[int]) -> None:
    subject = engine()
    _, alerts = play(subject, batches_of(messages_of(steps), cuts))
    assert subject.open_alerts() == open_after(alerts)


@settings(max_examples=50, deadline=None)
@given(STEPS, CUTS, st.integers(0, 120), st.integers(1, 6))
def test_with_room_for_fewer_devices_those_least_recently_heard_of_are_ended_and_forgotten(
    steps: list[Step], cuts: list[int], place: int, most: int
) -> None:
    messages = messages_of(steps)
    subject = engine()
    _, alerts = play(subject, [messages[:place]])
    names = [[stream.devices.names[slot] for slot in stream.devices.recent()[-most:]] for stream in subject.streams]
    small = revived(subject, devices=most)
    assert [[stream.devices.names[slot] for slot in stream.devices.recent()] for stream in small.streams] == names
    assert small.open_alerts() == subject.open_alerts()
    now = messages[:place][-1].arrived if messages[:place] else START
    alerts += small.tick(now)
    alerts += play(small, batches_of(messages[place:], cuts))[1]
    alerts += small.tick(START + 1e6)
    assert small.open_alerts() == open_after(alerts)
    assert all(len(stream.devices) <= most for stream in small.streams)


def test_births_are_known_again() -> None:
    subject = engine()
    subject.process([said("NBIRTH", "edge", START), said("DBIRTH", "edge/a", START)])
    again = revived(subject)
    again.process([said("DDATA", "edge/a", START + 5)])
    assert again.streams[2].stats()["readings"] == 2
    assert "partial.unknown_alias" not in again.streams[2].stats()


def strange(count: int = 8) -> list[Message]:
    """What raises an alert of device a in both streams of fridges."""
    return [reading("a", START + 12 * k, 4.0 + 5 * (k % 2)) for k in range(count)]


def test_another_version_of_a_model_takes_windows_and_open_alerts_over() -> None:
    subject = engine()
    subject.process(strange())
    bundle, stage = MODELS["late"]
    newer = {**MODELS, "late": (bundle._replace(manifest=msgspec.structs.replace(bundle.manifest, version="2.0.0")), stage)}
    again = engine(models=newer)
    told = again.restore(saved.decode(saved.encode(subject.saved())))
    assert told == [f"stream {name}: another model scores now: averages of its scores begin anew" for name in ("fridges", "again")]
    assert again.open_alerts() == subject.open_alerts() != set()
    (window, *_) = again.process([reading("a", START + 12 * 8, 4.0)]).scored
    assert window.devices == ["a"]
    assert again.streams[0].judge.model.version == "2.0.0"


def test_a_model_that_looks_at_other_features_fills_its_windows_anew_and_alerts_stay_open() -> None:
    subject = engine()
    subject.process(strange())
    other = bundles.read(make_bundle(name="late", features=(TEMPERATURE, DOOR), window=WindowSpec(steps=3, late_s=10, max_gap_s=200)))
    again = engine(models={**MODELS, "late": (other, MODELS["late"][1])})
    told = again.restore(saved.decode(saved.encode(subject.saved())))
    assert told == [f"stream {name}: its model looks at other features or windows now: windows fill anew" for name in ("fridges", "again")]
    assert again.open_alerts() == subject.open_alerts()
    assert again.process([reading("a", START + 12 * 8, 4.0)]).scored == []
    stats = again.streams[0].stats()
    assert stats["readings"] == 9 == stats["scored"] + stats["waiting"] + stats["held"] + stats["late"] + stats["failed"]


def test_other_alert_rules_begin_anew_and_windows_go_on() -> None:
    subject = engine()
    subject.process(strange())
    again = engine(silent=50)
    told = again.restore(saved.decode(saved.encode(subject.saved())))
    assert told == [f"stream {name}: its alert rules are others now: alerts begin anew" for name in ("fridges", "again", "lines")]
    assert again.open_alerts() == set()
    assert len(again.process([reading("a", START + 12 * 8, 4.0)]).scored) == 2


def test_a_stream_that_is_gone_is_named_and_one_that_is_new_begins() -> None:
    subject = engine(STREAMS[:2])
    subject.process(strange())
    again = engine(STREAMS[1:])
    told = again.restore(saved.decode(saved.encode(subject.saved())))
    assert told == ["stream fridges: it is not configured any more: what was known of it is dropped"]
    assert {alert.stream for alert in again.tick(START + 1e6)} == {"again"}
