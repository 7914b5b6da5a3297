import json
import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundles import DOOR, TEMPERATURE, make_bundle
from vedette.config import Alerts, Config
from vedette.contract import bundle as bundles
from vedette.contract import saved
from vedette.contract.bundle import Bundle
from vedette.contract.durations import Duration
from vedette.contract.errors import ConfigError, ScoreError
from vedette.contract.features import Rows
from vedette.contract.readings import Decoder, Departure, Message, Readings
from vedette.contract.scores import Calibration, Runtime, Scorer, Stage
from vedette.contract.windows import WindowSpec
from vedette.pipeline import Outcome, Pipeline

BUNDLE = bundles.read(make_bundle(features=(TEMPERATURE, DOOR), window=WindowSpec(steps=3)))


class Spread:
    """A fake model: the raw output is the spread of the window's first column."""

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        return {"raw": np.ptp(windows[:, :, 0], axis=1)}


class Nonsense:
    """A fake model that gives what no model should."""

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        return {"raw": np.full(len(windows), np.nan, dtype=np.float32)}


class Refusing:
    """A fake model that refuses every window."""

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        raise ScoreError("the model does not like it")


def pipeline(runtime: Runtime | None = None, **stream: object) -> Pipeline:
    config = msgspec.convert(
        {
            "gateway": "gw-1",
            "broker": {"url": "mqtt://nobody"},
            "streams": [{"name": "fridges", "topic": "f/{device}", "model": "m", "payload": {"time": {"field": "ts"}}, **stream}],
        },
        Config,
        dec_hook=lambda type_, value: type_.parse(value),
    )
    stage = Stage(
        name="spread", runtime="onnx", file="model.onnx", input="window", output="raw", calibration=Calibration(centre=0, threshold=2)
    )

    def open_model(_: str) -> tuple[Bundle, Scorer]:
        return BUNDLE, Scorer([stage], [runtime or Spread()], "all")

    return Pipeline(config, open_model)


def message(device: str, ts: float, temperature: object, door: str = "closed") -> Message:
    return Message(f"f/{device}", json.dumps({"ts": ts, "temperature": temperature, "door": door}).encode(), 1e9)


def flat(outcome: Outcome) -> list[tuple[str, float, float]]:
    """Device, time and score of each window."""
    return [w for s in outcome.scored for w in zip(s.devices, s.times.tolist(), s.scores.tolist(), strict=True)]


READINGS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(0, 40), st.sampled_from([3.0, 4.0, 4.5, 9.0, -99.0, "bad"]), st.sampled_from(["open", "?"])
    ),
    max_size=50,
)


@settings(max_examples=50)
@given(READINGS, st.lists(st.integers(1, 10), min_size=50, max_size=50))
def test_where_batches_end_changes_nothing(readings: list[tuple[str, int, object, str]], sizes: list[int]) -> None:
    messages = [message(d, ts * 60.0, t, door) for d, ts, t, door in readings]
    whole, cut = pipeline(), pipeline()
    expected = whole.process(messages)
    scores, alerts = [], []
    for size in sizes:
        outcome = cut.process(messages[:size])
        messages = messages[size:]
        scores += flat(outcome)
        alerts += outcome.alerts
    assert (scores, alerts) == (flat(expected), expected.alerts)
    assert cut.stats() == whole.stats()


@settings(max_examples=50)
@given(READINGS)
def test_every_message_is_accounted_for(readings: list[tuple[str, int, object, str]]) -> None:
    subject = pipeline()
    subject.process([message(d, ts * 60.0, t, door) for d, ts, t, door in readings] + [Message("other", b"{}", 0.0)])
    stats = subject.streams[0].stats()
    rejected = sum(count for name, count in stats.items() if name.startswith("rejected."))
    assert stats["received"] == len(readings) == stats["readings"] + rejected
    assert stats["readings"] == stats["scored"] + stats["waiting"] + stats["late"] + stats["repeated"] + stats["failed"]
    assert subject.unmatched == 1


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.sampled_from([4.0, 4.0, 4.0, 4.0, 9.0]), st.integers(0, 5)), max_size=60
    ),
    st.integers(1, 60),
)
def test_messages_that_are_sent_again_change_no_score_and_no_alert(sent: list[tuple[str, int, float, int]], size: int) -> None:
    once: list[Message] = []
    twice: list[Message] = []
    now = 0.0
    for device, pause, temperature, again in sent:
        now += pause
        once.append(arriving(device, now, temperature))
        # All that was under way, in its order.
        twice += [once[-1], *once[-again:]] if again else [once[-1]]
    plain, repeating = (pipeline(alerts={"stuck": "40s", "raise": "1 of 2", "clear": "1 of 1"}) for _ in range(2))
    expected = plain.process(once)
    outcomes = [repeating.process(twice[start : start + size]) for start in range(0, len(twice), size)]
    assert [row for outcome in outcomes for row in flat(outcome)] == flat(expected)
    assert [alert for outcome in outcomes for alert in outcome.alerts] == expected.alerts
    stats = repeating.streams[0].stats()
    assert stats["late"] + stats["repeated"] == len(twice) - len(once)


def test_repeats_are_dropped_where_a_reading_has_a_time_of_its_own_and_nobody_wants_them() -> None:
    twice = [message("a", 60.0, 4.0)] * 2
    relative = [
        Message("f/a", json.dumps([{"n": "temperature", "v": 4.0, **time}]).encode(), 1e9) for time in ({}, {}, {"t": -5}, {"t": -5})
    ]
    absolute = [Message("f/a", b'[{"n": "temperature", "v": 4.0, "t": 1e9}]', 1e9)] * 2
    senml = {"payload": {"format": "senml"}}
    for messages, stream, repeated in (
        (twice, {}, 1),
        (twice, {"payload": {"time": {"field": "ts"}, "repeats": "keep"}}, 0),
        (twice, {"payload": {}}, 0),
        (absolute, senml, 1),
        (relative, senml, 0),
    ):
        subject = pipeline(**stream)
        subject.process(messages)
        assert subject.streams[0].stats()["repeated"] == repeated


@pytest.mark.parametrize("runtime", [Nonsense(), Refusing()])
def test_a_model_that_fails_costs_its_batch_and_nothing_else(runtime: Runtime) -> None:
    subject = pipeline(runtime)
    outcome = subject.process([message("a", 60.0 * i, 4.0) for i in range(4)])
    stats = subject.streams[0].stats()
    assert flat(outcome) == [] and (stats["failed"], stats["waiting"], stats["readings"]) == (2, 2, 4)


def test_two_streams_may_read_the_same_topic() -> None:
    stream = {"topic": "f/{device}", "model": "m", "payload": {"time": {"field": "ts"}}}
    settings_ = {"gateway": "g", "broker": {"url": "mqtt://h"}, "streams": [{"name": "x", **stream}, {"name": "y", **stream}]}
    both = Pipeline(msgspec.convert(settings_, Config), lambda _: (BUNDLE, Scorer(BUNDLE.manifest.stages, [Spread()], "all")))
    outcome = both.process([message("a", 60.0 * i, 4.0) for i in range(3)])
    assert [scored.stream for scored in outcome.scored] == ["x", "y"]


def test_an_alert_explains_itself_with_the_feature_that_moved() -> None:
    subject = pipeline()
    alerts = subject.process([message("a", 60.0 * i, t) for i, t in enumerate([4, 4, 9, 4, 9])]).alerts
    assert [(cause.feature, cause.share, cause.observed, cause.expected) for cause in alerts[0].explanation] == [
        ("temperature", 1.0, 9.0, 4.0)
    ]


def test_every_alert_of_the_shipped_bundle_has_its_reasons() -> None:
    """A simulated afternoon with a fault of each kind: no alert without a cause, and the open door is named first."""
    from vedette.demo import command as demo
    from vedette.runtimes import load_scorer
    from vedette.simulate.fleet import ColdChain
    from vedette.simulate.live import payload

    start = demo.START.timestamp()
    faults = demo.plan(ColdChain(devices=5, seed=4, start=start).device_names, start)
    fleet = ColdChain(devices=5, seed=4, start=start, faults=faults)
    shipped = bundles.open_bundle(demo.BUNDLE)
    stream = {"name": "fridges", "topic": "f/{device}", "model": "m", "payload": {"time": {"field": "ts"}}}
    config = msgspec.convert({"gateway": "g", "broker": {"url": "mqtt://h"}, "streams": [stream]}, Config)
    scorer = load_scorer(shipped)
    subject = Pipeline(config, lambda _: (shipped, scorer))
    alerts = []
    while fleet.time < start + 10 * 3600:
        alerts += subject.process([Message(f"f/{s.device}", payload(s), s.time) for s in fleet.step()]).alerts
    raised = [alert for alert in alerts if alert.type != "end"]
    assert {alert.device for alert in raised} == {fault.device for fault in faults}
    assert all(alert.explanation for alert in raised)
    door = next(alert for alert in raised if alert.device == faults[0].device)
    assert (faults[0].kind, door.explanation[0].feature, door.explanation[0].observed) == ("door_left_open", "door", "open")


def arriving(device: str, at: float, temperature: float = 4.0) -> Message:
    return Message(f"f/{device}", json.dumps({"ts": at, "temperature": temperature, "door": "closed"}).encode(), at)


def test_silence_is_told_when_time_passes_or_when_others_are_heard_and_of_streams_that_ask_for_it() -> None:
    silent = {"silent": "1m"}
    by_time, by_others, by_none = pipeline(alerts=silent), pipeline(alerts=silent), pipeline()
    for subject in (by_time, by_others, by_none):
        assert subject.process([arriving("a", 0.0), arriving("b", 10.0)]).alerts == []
        assert subject.tick(59.0) == []
    told = by_time.tick(65.0)
    assert [(alert.kind, alert.device, alert.time.timestamp(), alert.explanation) for alert in told] == [("silent", "a", 60.0, ())]
    assert by_others.process([arriving("b", 65.0)]).alerts == told
    assert by_none.tick(1e6) == []
    assert by_time.stats()["streams"]["fridges"]["open"] == 1  # type: ignore[index] # because stats are an object for JSON


def test_a_device_is_heard_even_where_the_model_fails() -> None:
    subject = pipeline(Refusing(), alerts={"silent": "1m"})
    for minute in range(10):
        assert subject.process([arriving("a", 50.0 * minute)]).alerts == []
    assert [alert.time.timestamp() for alert in subject.tick(1000.0)] == [510.0]


def test_only_what_a_window_called_for_is_explained_by_the_model() -> None:
    subject = pipeline(alerts={"silent": "5m", "raise": "1 of 1"})
    alerts = subject.process([arriving("a", 60.0 * k, 4.0 + 5 * k) for k in range(4)] + [arriving("a", 1000.0)]).alerts
    assert [(alert.type, alert.kind, bool(alert.explanation)) for alert in alerts] == [
        ("new", "anomaly", True), ("new", "silent", False), ("end", "silent", False),
    ]  # fmt: skip


def test_alerts_of_several_streams_are_in_the_order_of_what_called_for_them() -> None:
    stream = {"model": "m", "payload": {"time": {"field": "ts"}}}
    settings_ = {
        "gateway": "g",
        "broker": {"url": "mqtt://h"},
        "streams": [
            {"name": "x", "topic": "f/{device}", "alerts": {"silent": 100}, **stream},
            {"name": "y", "topic": "g/{device}", "alerts": {"silent": 60}, **stream},
        ],
    }
    both = Pipeline(
        msgspec.convert(settings_, Config, dec_hook=lambda type_, value: type_.parse(value)),
        lambda _: (BUNDLE, Scorer(BUNDLE.manifest.stages, [Spread()], "all")),
    )
    both.process([arriving("a", 0.0), arriving("b", 0.0)._replace(topic="g/b")])
    assert [(alert.stream, alert.time.timestamp()) for alert in both.tick(200.0)] == [("y", 60.0), ("x", 100.0)]


def test_another_model_takes_alerts_over_that_are_open() -> None:
    subject, candidate, other = (pipeline(alerts={"stuck": "1m", "silent": "1h"}) for _ in range(3))
    (new,) = subject.process([arriving("a", 10.0 * k) for k in range(12)]).alerts
    assert new.kind == "stuck"
    subject.adopt(candidate)
    assert [alert.type for alert in subject.process([arriving("a", 120.0)]).alerts] == []
    # One that looks at other features knows nothing of these sensors.
    other.streams[0].detector.encoder.spec = (msgspec.structs.replace(TEMPERATURE, name="other"), DOOR)
    subject.adopt(other)
    (end,) = subject.process([arriving("a", 120.0)]).alerts
    assert (end.type, end.id) == ("end", new.id)


class Leaving:
    """A decoder that takes a payload of `gone` for a device's farewell, and leaves all else to another."""

    merges = drops_repeats = False

    def __init__(self, other: Decoder) -> None:
        self._other = other

    def decode_batch(self, messages: Sequence[Message], devices: Sequence[str]) -> Readings:
        found = Readings()
        for device, one in zip(devices, messages, strict=True):
            if one.payload == b"gone":
                found.departed.append(Departure(device, one.arrived, len(found)))
                continue
            reading = self._other.decode_batch([one], [device])
            for column in ("devices", "times", "arrived", "values"):
                getattr(found, column).extend(getattr(reading, column))
            found.messages.append(len(found.messages))
        return found

    def take_over(self, other: Decoder) -> None: ...

    def saved(self) -> dict[str, object]:
        return {}

    def restore(self, saved: dict[str, object]) -> None: ...

    def unused(self, message: Message) -> list[str]:
        return []


@pytest.mark.parametrize("size", [1, 2, 9])
def test_a_device_that_leaves_and_comes_back_within_a_batch_was_silent_in_between(size: int) -> None:
    subject = pipeline(alerts={"silent": Duration(3600)})
    subject.streams[0].decoder = Leaving(subject.streams[0].decoder)
    messages = [message("a", 10.0 * i, 4.0)._replace(arrived=10.0 * i) for i in range(4)]
    messages.insert(2, Message("f/a", b"gone", 15.0))
    alerts = [alert for start in range(0, 5, size) for alert in subject.process(messages[start : start + size]).alerts]
    assert [(alert.type, alert.kind, alert.time.timestamp()) for alert in alerts] == [("new", "silent", 15.0), ("end", "silent", 20.0)]


class Counting(Spread):
    """A fake model that remembers how many windows it was given at a time, and refuses those that begin with a forbidden value."""

    def __init__(self, forbidden: float = math.inf) -> None:
        self.calls: list[int] = []
        self._forbidden = np.float32(forbidden)

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        self.calls.append(len(windows))
        if (windows[:, 0, 0] == self._forbidden).any():
            raise ScoreError("forbidden")
        return super().run(windows)


def two_streams(runtime: Runtime, **alerts: object) -> Pipeline:
    stream = {"model": "m", "payload": {"time": {"field": "ts"}}}
    both = [{"name": "x", "topic": "x/{device}", **stream}, {"name": "y", "topic": "y/{device}", **stream}]
    settings_ = {"gateway": "g", "broker": {"url": "mqtt://h"}, "streams": both, "alerts": alerts}
    scorer = Scorer(BUNDLE.manifest.stages, [runtime], "all")
    return Pipeline(msgspec.convert(settings_, Config), lambda _: (BUNDLE, scorer))


def on(stream: str, *readings: tuple[float, float]) -> list[Message]:
    return [message("a", ts, value)._replace(topic=f"{stream}/a", arrived=ts) for ts, value in readings]


def test_streams_of_one_model_are_scored_in_one_call() -> None:
    model = Counting()
    outcome = two_streams(model).process(on("x", (0, 4), (1, 5), (2, 9), (3, 4)) + on("y", (0, 1), (1, 2), (2, 3)))
    assert model.calls == [3]
    alone = Counting()
    apart = two_streams(alone)
    first, second = apart.process(on("x", (0, 4), (1, 5), (2, 9), (3, 4))), apart.process(on("y", (0, 1), (1, 2), (2, 3)))
    assert alone.calls == [2, 1]
    assert [(scored.stream, scored.scores.tolist()) for scored in outcome.scored] == [
        (scored.stream, scored.scores.tolist()) for scored in first.scored + second.scored
    ]


def test_what_a_model_refuses_of_one_stream_costs_another_nothing() -> None:
    subject = two_streams(Counting(forbidden=0.0))  # a scaled 4
    outcome = subject.process(on("x", (0, 4), (1, 5), (2, 9)) + on("y", (0, 1), (1, 2), (2, 3)))
    assert [scored.stream for scored in outcome.scored] == ["y"]
    assert [stream.stats()["failed"] for stream in subject.streams] == [1, 0]


@pytest.mark.parametrize("size", [1, 3, 99])
def test_what_is_heard_on_one_stream_tells_the_time_to_all(size: int) -> None:
    messages = on("x", (0, 4), (10, 4)) + on("y", *((float(t), 4.0) for t in range(20, 100, 20)))
    subject = two_streams(Spread(), silent=Duration(30))
    alerts = [alert for start in range(0, len(messages), size) for alert in subject.process(messages[start : start + size]).alerts]
    assert [(alert.stream, alert.kind, alert.time.timestamp()) for alert in alerts] == [("x", "silent", 40.0)]


@settings(max_examples=50)
@given(READINGS, st.integers(0, 50))
def test_an_engine_that_goes_on_from_its_saved_state_goes_on_as_if_nothing_had_happened(
    readings: list[tuple[str, int, object, str]], cut: int
) -> None:
    messages = [message(d, ts * 60.0, t, door)._replace(arrived=1e9 + place) for place, (d, ts, t, door) in enumerate(readings)]
    rules = {"silent": Duration(5), "stuck": Duration(600), "group": None}
    whole, before, after = (pipeline(alerts=rules) for _ in range(3))
    expected, first = whole.process(messages), before.process(messages[:cut])
    assert after.restore(saved.decode(saved.encode(before.saved()))) == []
    second = after.process(messages[cut:])
    assert flat(first) + flat(second) == flat(expected)
    assert first.alerts + second.alerts == expected.alerts
    assert after.stats() == whole.stats()


def test_a_rule_for_a_number_that_the_model_has_not_is_refused() -> None:
    rules = Alerts(stuck=Duration(60), stuck_features=("door",))
    with pytest.raises(ConfigError, match=r'streams\[0\].alerts.stuck_features: "door" is no number of model fridge; its numbers are temp'):
        pipeline(alerts=rules)
