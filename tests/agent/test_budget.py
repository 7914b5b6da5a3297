import json
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import STREAM, vedette, write_config
from bundles import install, make_bundle
from vedette.alerts import Model, ScoreJudge
from vedette.budget import LOWEST, Budget, ScoreHistory, Summary
from vedette.config import Alerts
from vedette.phrases import Rule
from vedette.stream import Scored


class Score(NamedTuple):
    stream: str
    device: str
    time: float
    score: float


MODEL = Model(name="fridge", version="1.0.0")
DAY = 86400.0
START = 1_790_000_000


def batches(scores: list[Score]) -> list[Scored]:
    """Scores as a pipeline gives them."""
    found = []
    for stream, group in groupby(scores, key=lambda score: score.stream):
        some = list(group)
        times, values = np.array([s.time for s in some]), np.array([s.score for s in some], dtype=np.float32)
        found.append(Scored(stream, [s.device for s in some], times, values))
    return found


def history(scores: list[Score], rules: Alerts | None = None) -> ScoreHistory:
    found = ScoreHistory("gw", dict.fromkeys(sorted({score.stream for score in scores} | {"s"}), (rules or Alerts(), MODEL)))
    found.add(batches(scores))
    return found


def hours(*peaks: float, device: str = "d", stream: str = "s", at: int = 0) -> list[Score]:
    """An hour of windows a minute apart for each peak: ten minutes of it, then quiet."""
    values = [value for peak in peaks for value in [peak] * 10 + [0.0] * 50]
    return [Score(stream, device, START + at + 60.0 * minute, value) for minute, value in enumerate(values)]


def find(scores: list[Score], per_day: float, days: float = 1.0) -> Budget:
    return history(scores).find(per_day, days)


def test_the_lowest_threshold_that_keeps_to_the_budget_is_proposed() -> None:
    budget = find(hours(1.25, 3.5, 2.125, 1.875, 0.75), 2)
    assert (budget.all.threshold, budget.all.alerts) == (1.88, 2)
    assert [alert.peak for alert in budget.alerts if alert.type == "new"] == [3.5, 2.125]
    assert budget.lines()[1:] == ["all streams: threshold 1.88: 2 alerts, 2 a day", "in agent.yaml:", "  alerts:", "    threshold: 1.88"]


def test_a_budget_that_is_not_used_up_lowers_the_threshold_but_not_below_half() -> None:
    budget = find(hours(0.8, 0.7), 5)
    assert (budget.all.threshold, budget.all.alerts) == (LOWEST, 2)
    assert "no lower threshold is looked at" in budget.lines()[1]


def test_no_alert_at_all_needs_more_than_the_highest_score() -> None:
    budget = find(hours(1234.0, 7.0), 0)
    assert budget.all.alerts == 0
    assert 1234.0 < budget.all.threshold < 1250.0
    assert not budget.alerts


def test_each_stream_has_a_threshold_of_its_own_and_all_have_one_together() -> None:
    scores = hours(2.0, 3.0) + hours(5.0, 4.0, stream="t")
    budget = find(scores, 1)
    assert {p.stream: (p.threshold, p.alerts) for p in budget.streams} == {"s": (2.01, 1), "t": (4.01, 1)}
    assert (budget.all.threshold, budget.all.alerts) == (4.01, 1)
    assert find(scores, 1, days=2.0).all.alerts == 2


SCORES = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 0.5, 0.95, 1.0, 1.1, 1.5, 2.0, 2.5, 7.0, 300.0])), min_size=1, max_size=200
)


@given(SCORES, st.integers(0, 6), st.sampled_from([Rule(3, 5), Rule(1, 1), Rule(2, 2)]))
def test_the_agents_own_judge_agrees_and_a_grain_less_breaks_the_budget(scores: list[tuple[str, float]], most: int, raise_: Rule) -> None:
    rules = Alerts(raise_=raise_)
    listed = [Score("s", device, START + 60.0 * number, score) for number, (device, score) in enumerate(scores)]
    budget = history(listed, rules).find(most, 1.0)

    def count(threshold: float) -> int:
        judge = ScoreJudge(msgspec.structs.replace(rules, threshold=threshold), MODEL)
        devices, times, values = [s.device for s in listed], [s.time for s in listed], [s.score for s in listed]
        return sum(alert.type == "new" for alert in judge.judge(devices, times, values))

    assert count(budget.all.threshold) == budget.all.alerts <= most
    assert budget.all.threshold == LOWEST or count(budget.all.threshold * 0.985) > most or count(budget.all.threshold - 0.011) > most


def test_a_day_of_a_reading_a_minute_is_a_day() -> None:
    summary = Summary()
    assert summary.words() == "no window was full: nothing was scored"
    summary.add(batches([Score("s", "d", START + 60.0 * minute, 0.0) for minute in range(1440)]), [])
    assert summary.document() == {
        "first": START, "last": START + 1439 * 60.0, "days": 1.0, "devices": 1, "windows": 1440, "alerts": 0, "alerts_per_day": 0.0,
    }  # fmt: skip


def day(path: Path) -> Path:
    """A day of four fridges with warm hours."""
    rng = np.random.default_rng(3)
    lines = []
    for minute in range(1440):
        for device in range(4):
            warm = 4.0 + device if minute % 360 < 10 * (device + 1) else 0.0
            payload = {"ts": START + 60 * minute, "temperature": round(4.0 + warm + float(rng.normal()), 2)}
            lines.append(json.dumps({"time": payload["ts"], "topic": f"plant/x/fridge/f-{device}/telemetry", "payload": payload}) + "\n")
    path.write_text("".join(lines))
    return path


def test_replay_proposes_a_threshold_that_then_gives_just_those_alerts(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle(threshold=4.0))
    config = write_config(tmp_path, "mqtt://nobody")
    recording = day(tmp_path / "day.jsonl")
    done = vedette("replay", "--json", "--budget", "6", "-c", config, recording)
    assert done.returncode == 0, done.stderr
    *now, last = map(json.loads, done.stdout.splitlines())
    budget = last["budget"]
    assert last["recording"]["alerts"] == sum(line["payload"]["type"] == "new" for line in now) > budget["all"]["alerts"]
    assert 0 < budget["all"]["alerts"] <= 6 and last["recording"]["days"] == 1.0

    higher = write_config(tmp_path, "mqtt://nobody", alerts={"threshold": budget["all"]["threshold"]})
    then = [json.loads(line)["payload"] for line in vedette("replay", "--json", "-c", higher, recording).stdout.splitlines()[:-1]]
    listed = [sorted(found, key=lambda a: (a["time"], a["id"], a["type"])) for found in (then, budget["alerts"])]
    # The reasons need the windows, which are not kept.
    assert [{**a, "explanation": []} for a in listed[0]] == listed[1] != []


def test_replay_says_the_budgets_threshold_to_people(tmp_path: Path) -> None:
    install(tmp_path / "state", make_bundle(threshold=4.0))
    streams = [STREAM, {**STREAM, "name": "others", "topic": "others/{device}"}]
    config = write_config(tmp_path, "mqtt://nobody", streams=streams)
    done = vedette("replay", "--budget", "6", "-c", config, day(tmp_path / "day.jsonl"))
    assert done.returncode == 0, done.stderr
    assert "budget: at most 6 new alerts a day of all devices, in 1 days\n" in done.stdout
    assert "in agent.yaml:\n  alerts:\n    threshold: " in done.stdout
    assert "(1 days), 4 devices, 5760 windows, " in done.stderr


@pytest.mark.parametrize("budget", ["-1", "nan", "inf", "few"])
def test_a_budget_is_a_number(budget: str) -> None:
    done = vedette("replay", "--budget", budget, "x.jsonl")
    assert done.returncode == 2
    assert "expected a number of alerts a day" in done.stderr
