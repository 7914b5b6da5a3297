import json
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundles import DOOR, TEMPERATURE, make_bundle
from vedette.config import Config
from vedette.contract import bundle as bundles
from vedette.contract.bundle import Bundle
from vedette.contract.errors import ScoreError
from vedette.contract.features import Rows
from vedette.contract.readings import Message
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
    assert stats["readings"] == stats["scored"] + stats["waiting"] + stats["late"] + stats["failed"]
    assert subject.unmatched == 1


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
