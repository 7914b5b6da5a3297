"""What is told depends on the readings alone: not on batches, on ticks, or on other devices."""

import itertools
import math

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from judges import Bench, Reading
from vedette.alerts import Alert, Finding
from vedette.config import Alerts
from vedette.contract.durations import Duration
from vedette.phrases import Crowd, Rule

RULES = Alerts(
    raise_=Rule(2, 3),
    clear=Rule(2, 2),
    cooldown=Duration(20),
    drift_after=Duration(300),
    silent=Duration(40),
    stuck=Duration(60),
    group=Crowd.parse("3 within 20s"),
)
ALONE = msgspec.structs.replace(RULES, drift_share=None, group=None)

SCORES = st.sampled_from([0.2, 0.95, 1.1, 1.1, 2.5, None])
STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"), st.sampled_from([0.0, 0.0, 1.0, 7.0, 45.0]), SCORES, st.sampled_from([5.0, 5.0, 5.0, 6.0, math.nan])
    ),
    max_size=150,
)


def readings(steps: list[tuple[str, float, float | None, float]]) -> list[Reading]:
    found, now = [], 1000.0
    for device, pause, score, value in steps:
        now += pause
        # Its own clock runs a little late.
        found.append(Reading(device, now - 3.0, score, (value, math.nan), arrived=now))
    return found


def parts(given_: list[Reading], cuts: list[int]) -> list[list[Reading]]:
    places = sorted({0, *(cut % (len(given_) + 1) for cut in cuts), len(given_)})
    return [given_[start:stop] for start, stop in itertools.pairwise(places)]


def play(batches: list[list[Reading]], rules: Alerts = RULES, most: int = 100, ticks: int = 0) -> list[tuple[float, Alert]]:
    bench = Bench(rules, most)
    found: list[Finding] = []
    for number, batch in enumerate(batches):
        found += bench.take(batch)
        until = batches[number + 1][0].arrived if number + 1 < len(batches) else None
        before = batch[-1].arrived
        if until is not None and before is not None:
            # Between two batches time may be said to pass; what arrives at that very moment is yet to come.
            for tick in range(ticks):
                now = before + (until - before) * tick / ticks
                found += bench.judge.tick(now) if now < until else []
    return [(finding.at, finding.alert) for finding in found]


@settings(max_examples=300, deadline=None)
@given(STEPS, st.lists(st.integers(0, 1000), max_size=30), st.sampled_from([3, 100]))
def test_where_batches_end_changes_nothing(steps: list[tuple[str, float, float | None, float]], cuts: list[int], most: int) -> None:
    given_ = readings(steps)
    assert play(parts(given_, cuts), most=most) == play([given_] if given_ else [], most=most) == play([[r] for r in given_], most=most)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 5))
def test_how_often_time_passes_changes_nothing(steps: list[tuple[str, float, float | None, float]], cuts: list[int], ticks: int) -> None:
    given_ = parts(readings(steps), cuts)
    assert play(given_, ticks=ticks) == play(given_)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_interleaving_devices_changes_nothing(steps: list[tuple[str, float, float | None, float]]) -> None:
    given_ = readings(steps)
    together = play([given_] if given_ else [], ALONE)
    for name in "abcdefgh":
        mine = [r for r in given_ if r.device == name]
        # Others' readings are how it is known, in a recording, that time has passed.
        clock = [r if r.device == name else Reading("clock", r.time, None, arrived=r.arrived) for r in given_]
        if mine:
            assert [f for f in together if f[1].device == name] == [f for f in play([clock], ALONE) if f[1].device == name]


@settings(max_examples=300, deadline=None)
@given(STEPS, st.sampled_from([3, 100]))
def test_every_id_is_new_then_updates_then_end_and_times_of_arrival_never_go_back(
    steps: list[tuple[str, float, float | None, float]], most: int
) -> None:
    bench = Bench(RULES, most)
    open_: dict[str, Alert] = {}
    closed: set[str] = set()
    last = -math.inf
    for reading in readings(steps):
        for at, _, alert in bench.take([reading]):
            assert at >= last
            last = at
            assert (alert.type == "new") == (alert.id not in open_)
            assert alert.id not in closed
            assert (alert.ended is not None) == (alert.type == "end")
            assert alert.started <= alert.time
            assert alert.peak >= alert.score
            open_[alert.id] = alert
            if alert.type == "end":
                closed.add(alert.id)
                del open_[alert.id]
    assert bench.judge.open_alerts() == len(open_)
    shown = {bench.judge.open_alert(device) for device in "abcdefgh"} - {None}
    assert shown <= set(open_)
