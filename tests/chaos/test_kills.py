"""The short form of `make chaos`: a few dozen kills, and a comparison that finds what it should."""

import json
from pathlib import Path
from typing import Any

import pytest

from chaos.kills import Length, round_of_kills
from chaos.scenario import AlertKey, Expected, Scenario, key_of
from chaos.sites import PROTOCOLS, MqttVersion
from chaos.tap import Seen
from chaos.verdict import MOST_DUPLICATES, Verdict, compare

SHORT = Length(every_s=0.5, rate=300.0, readings_each=80)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario(SHORT.readings_each, seed=6)


@pytest.fixture(scope="module")
def expected(scenario: Scenario, gateway_python: str, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    return scenario.expect(tmp_path_factory.mktemp("undisturbed"), gateway_python)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_kill_of_agent_or_broker_loses_an_alert_or_spoils_a_window(
    protocol: MqttVersion, scenario: Scenario, expected: Expected, gateway_python: str, tmp_path: Path
) -> None:
    found = round_of_kills(tmp_path / "site", scenario, expected, gateway_python, protocol, 15, seed=6, length=SHORT)
    print(found.acts)
    assert found.verdict.is_clean, "\n".join(found.verdict.words)
    # So many kills in so short a time cost more duplicates than the bar of the long form allows.
    assert found.verdict.duplicates <= 4 * MOST_DUPLICATES


def alert(type_: str = "new", minute: int = 0, **changes: Any) -> dict[str, Any]:
    at = f"2026-09-21T14:{minute:02}:00Z"
    return {"id": "a", "type": type_, "time": at, "stream": "fridges", "device": "fridge-1", "kind": "anomaly", "score": 1.5, **changes}


def seen(document: dict[str, Any]) -> Seen:
    return Seen(key_of(document), document, json.dumps(document).encode())


STORY = [alert("new", 0), alert("update", 1), alert("end", 2)]
BEACON = alert("new", 3, id="b", kind="silent", device="beacon-0")


def judged(sent: list[dict[str, Any]], scores: dict[float, float] | None = None, *, folder: Path | None = None) -> Verdict:
    wanted = {("fridges", "fridge-1", 10.0): 0.5, ("fridges", "fridge-1", 20.0): 0.6}
    expected = Expected({key_of(each): each for each in STORY}, wanted if folder else {}, frozenset({"beacon-0"}))
    files = []
    if folder:
        files.append(folder / "scores.jsonl")
        lines = [json.dumps({"stream": "fridges", "device": "fridge-1", "time": t, "score": s}) for t, s in (scores or {}).items()]
        files[0].write_text("\n".join(lines) + "\n" + '{"stream": "cut of')
    all_ = [seen(each) for each in sent]
    return compare(expected, all_, all_, files)


def test_a_run_like_the_undisturbed_one_is_clean() -> None:
    verdict = judged([*STORY, BEACON])
    assert verdict.is_clean
    assert verdict.duplicates == 0
    assert not any(row.missed for row in verdict.rows("kills", 1))


def test_an_alert_that_comes_again_is_a_duplicate_and_no_fault() -> None:
    verdict = judged([*STORY, STORY[1], BEACON, BEACON])
    assert verdict.is_clean
    assert verdict.sent_again == 2
    assert verdict.duplicates == 0.5
    assert [row.name for row in verdict.rows("kills", 1) if row.missed] == ["kills: alerts sent again"]


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        ([STORY[0], STORY[2], BEACON], "missing"),
        (STORY, "missing"),
        ([*STORY, BEACON, alert("new", 9, id="c")], "unexpected"),
        ([*STORY, BEACON, alert("end", 9, id="b", kind="silent", device="beacon-0")], "unexpected"),
        ([*STORY, BEACON, {**BEACON, "id": "c"}], "unexpected"),
        ([*STORY, BEACON, alert("new", 0, score=1.6)], "changed"),
        ([*STORY, BEACON, {**BEACON, "score": 2.0}], "changed"),
        ([STORY[0], STORY[2], STORY[1], BEACON], "disordered"),
    ],
)
def test_what_is_lost_made_up_altered_or_out_of_order_is_a_fault(sent: list[dict[str, Any]], fault: str) -> None:
    verdict = judged(sent)
    assert not verdict.is_clean
    assert getattr(verdict, fault) == 1
    assert len(verdict.words) == 1


def test_scores_are_compared_to_the_last_bit_and_a_line_that_a_kill_cut_off_is_passed_over(tmp_path: Path) -> None:
    assert judged([*STORY, BEACON], {10.0: 0.5, 20.0: 0.6}, folder=tmp_path).is_clean
    assert judged([*STORY, BEACON], {10.0: 0.5, 20.0: 0.6000001}, folder=tmp_path).wrong == 1
    assert judged([*STORY, BEACON], {10.0: 0.5, 20.0: 0.6, 30.0: 0.1}, folder=tmp_path).wrong == 1
    assert judged([*STORY, BEACON], {10.0: 0.5}, folder=tmp_path).unscored == 1


def test_alerts_are_told_apart_by_id_type_and_time() -> None:
    assert key_of(STORY[1]) == AlertKey("a", "update", "2026-09-21T14:01:00Z")
