"""`make test-arm` on one machine: an agent agrees with itself, and a difference is told."""

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from arm.answers import BUNDLES, TELEMETRY, Answer, Vedette, ask, compare
from bundles import make_bundle
from vedette.contract import bundle as bundles

TOLERANCE = 1e-5
STRANGE = {30: 10.0, 31: 11.0, 32: 9.5}


def agent(python: str, folder: Path) -> Vedette:
    """The command as this machine runs it."""
    return lambda *given: subprocess.run(
        [python, "-m", "vedette", *given], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Two models of fridges, and what a fridge sent to both."""
    folder = tmp_path / "cases"
    (folder / BUNDLES).mkdir(parents=True)
    for name, threshold in (("strict", 3.0), ("lax", 4.0)):
        (folder / BUNDLES / f"{name}.vedette").write_bytes(make_bundle(name=name, threshold=threshold))
    messages = [
        {"time": 60.0 * minute, "topic": f"{name}/f-1", "payload": {"ts": 60 * minute, "temperature": STRANGE.get(minute, 4.0)}}
        for minute in range(40)
        for name in ("strict", "lax")
    ]
    (folder / TELEMETRY).write_bytes(msgspec.json.encode(messages[0]) + b"\n" + b"\n".join(map(msgspec.json.encode, messages[1:])) + b"\n")
    return folder


def test_two_agents_of_one_processor_agree_in_every_score_alert_and_reason(cases: Path, gateway_python: str, tmp_path: Path) -> None:
    other = shutil.copytree(cases, tmp_path / "other")
    expected, found = ask(agent(gateway_python, cases), cases), ask(agent(gateway_python, other), other)
    differences = compare(expected, found)
    assert [difference.bundle for difference in differences] == ["lax", "strict"]
    assert all(difference.is_within(0) and difference.alerts >= 2 for difference in differences)
    assert {feature for _, kind, feature in expected["lax"].alerts if kind == "new"} == {"temperature"}


def test_a_bundle_that_scores_otherwise_there_is_refused_with_the_reason(cases: Path, gateway_python: str) -> None:
    opened = bundles.read((cases / BUNDLES / "lax.vedette").read_bytes())
    files = bundles.with_golden(opened.files, opened.golden_windows, opened.golden_scores * 1.01)
    manifest = msgspec.structs.replace(opened.manifest, files=bundles.entries(files))
    (cases / BUNDLES / "lax.vedette").write_bytes(bundles.write(manifest, files))
    found = ask(agent(gateway_python, cases), cases)
    assert "scores its golden windows differently" in found["lax"].refused
    assert not found["strict"].refused and found["strict"].scores


def answer(score: float = 0.5, feature: str = "temperature") -> Answer:
    return Answer("", {("f-1", 1.0): score}, (("id", "new", feature),))


@pytest.mark.parametrize(
    "found",
    [
        answer(score=0.5 + 2 * TOLERANCE),
        answer(score=float("nan")),
        answer(feature="door"),
        answer()._replace(scores={}),
        answer()._replace(scores={("f-1", 1.0): 0.5, ("f-1", 2.0): 0.5}),
        answer()._replace(alerts=()),
    ],
)
def test_whatever_differs_is_a_difference(found: Answer) -> None:
    (difference,) = compare({"model": answer()}, {"model": found})
    assert not difference.is_within(TOLERANCE)
    assert compare({"model": answer()}, {"model": answer(score=0.5 + TOLERANCE / 2)})[0].is_within(TOLERANCE)


def test_a_bundle_that_was_not_asked_about_is_no_agreement() -> None:
    with pytest.raises(KeyError):
        compare({"model": answer()}, {})
