"""What an agent makes of bundles and of recorded telemetry, on one machine and on another.

Rules this module keeps: an agent is asked by its commands alone, as an operator would, so that whatever can run `vedette` can be asked; a
bundle is installed, which replays its golden windows, before it scores; nothing that one side gives is missing on the other unnoticed.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

BUNDLES, TELEMETRY = "bundles", "telemetry.jsonl"
Vedette = Callable[..., subprocess.CompletedProcess[str]]
"""Runs the command with arguments, in the folder that holds the bundles and the telemetry."""


class Answer(NamedTuple):
    """What came of one bundle.

    Attributes:
        refused: Why it was not installed; empty if it was.
        scores: By device and time.
        alerts: Of each alert that was told: its id, its type, and the feature that has most to do with it.
    """

    refused: str
    scores: Mapping[tuple[str, float], float]
    alerts: tuple[tuple[str, str, str], ...]


class Difference(NamedTuple):
    """How far two answers about one bundle are apart.

    Attributes:
        bundle: Its model's name.
        windows: That both scored.
        score: The largest difference, relative to max(1, score).
        alerts: That both told.
        told_otherwise: Windows that one only scored, and alerts that one only told or explained by another feature first.
    """

    bundle: str
    windows: int
    score: float
    alerts: int
    told_otherwise: int

    def is_within(self, tolerance: float) -> bool:
        """Whether both say the same, scores but for `tolerance`. NaN is a difference."""
        return self.windows > 0 and self.score <= tolerance and not self.told_otherwise


class AnswerError(Exception):
    """An agent did not do what it was asked for."""


def ask(vedette: Vedette, folder: Path) -> dict[str, Answer]:
    """Let an agent install every bundle in `folder`, and replay the telemetry through those that it took.

    Raises:
        AnswerError: it fails otherwise than by refusing a bundle.
    """
    shutil.rmtree(folder / "state", ignore_errors=True)
    answers: dict[str, Answer] = {}
    for path in sorted((folder / BUNDLES).glob("*.vedette")):
        name = path.stem
        done = vedette("model", "install", f"{BUNDLES}/{path.name}", "--state-dir", "state")
        if done.returncode == 0:
            answers[name] = Answer("", {}, ())
        elif done.returncode == 1:
            answers[name] = Answer(done.stderr.strip(), {}, ())
        else:
            raise AnswerError(f"{name}: exit code {done.returncode}: {done.stderr.strip()}")
    taken = [name for name, answer in answers.items() if not answer.refused]
    if taken:
        (folder / "agent.yaml").write_text(yaml.safe_dump(_settings(taken)))
        told = _said(vedette("replay", "-c", "agent.yaml", TELEMETRY, "--json", "--scores", "scores.jsonl")).splitlines()
        scores = [msgspec.json.decode(line) for line in (folder / "scores.jsonl").read_bytes().splitlines()]
        alerts = [line["payload"] for line in map(msgspec.json.decode, told) if "topic" in line]
        for name in taken:
            answers[name] = answers[name]._replace(scores=_scores(name, scores), alerts=_alerts(name, alerts))
    return answers


def compare(expected: Mapping[str, Answer], found: Mapping[str, Answer]) -> list[Difference]:
    """Set two agents' answers side by side, bundle by bundle, but for the bundles that one of them refused."""
    return [
        _difference(name, expected[name], found[name])
        for name in sorted(expected.keys() | found.keys())
        if not expected[name].refused and not found[name].refused
    ]


def _difference(name: str, expected: Answer, found: Answer) -> Difference:
    both = expected.scores.keys() & found.scores.keys()
    # What is NaN on either side must not get lost in a maximum.
    apart = [abs(found.scores[key] - expected.scores[key]) / max(1.0, abs(expected.scores[key])) for key in both]
    worst = max((part if part == part else float("inf") for part in apart), default=float("inf"))
    otherwise = len(expected.scores.keys() ^ found.scores.keys()) + len(set(expected.alerts) ^ set(found.alerts))
    told = len(set(expected.alerts) & set(found.alerts))
    return Difference(name, len(both), worst, told, otherwise)


def _settings(models: Iterable[str]) -> dict[str, Any]:
    """An agent.yaml with a stream for each model, in which every window over the threshold begins or goes on with an alert."""
    same = {"payload": {"time": {"field": "ts"}}, "alerts": _ALERTS}
    streams = [{"name": name, "topic": f"{name}/{{device}}", "model": name, **same} for name in models]
    return {"gateway": "gw-1", "broker": {"url": "mqtt://127.0.0.1"}, "state_dir": "state", "streams": streams}


_ALERTS = {"raise": "1 of 1", "clear": "1 of 1", "cooldown": 0, "update": 0, "drift_share": None}


def _scores(name: str, lines: Iterable[dict[str, Any]]) -> dict[tuple[str, float], float]:
    return {(line["device"], line["time"]): _number(line["score"]) for line in lines if line["stream"] == name}


def _number(value: float | None) -> float:
    """JSON has no NaN: null stands for it."""
    return float("nan") if value is None else value


def _alerts(name: str, payloads: Iterable[dict[str, Any]]) -> tuple[tuple[str, str, str], ...]:
    of_stream = (payload for payload in payloads if payload["stream"] == name)
    return tuple((p["id"], p["type"], p["explanation"][0]["feature"] if p["explanation"] else "") for p in of_stream)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise AnswerError(f"{done.args}: {done.stderr.strip()}")
    return done.stdout
