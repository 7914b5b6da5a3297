"""Evaluations as a report is made from them: simulated fridges, and a score whose tail is calibrated as in training."""

import hashlib

import msgspec
import numpy as np

from vedette.alerts import Model, ScoreJudge
from vedette.config import Alerts
from vedette.contract.features import Category, Number, Rows, TimeOfDay
from vedette.contract.manifest import FileEntry, Manifest, Source, TrainedOn
from vedette.contract.scores import Calibration, Scorer, Scores, Stage
from vedette.contract.windows import WindowSpec
from vedette_training import calibrate, evaluate
from vedette_training.audit import Finding
from vedette_training.calibrate import Held
from vedette_training.detectors import Curve
from vedette_training.detectors.isolation_forest import IsolationForest
from vedette_training.evaluate import Evaluation
from vedette_training.judging import Judged
from vedette_training.recipe import Device, EventTime, History, Label, Recipe, Split, Threshold
from vedette_training.run import Labelled, Run, RunStage
from vedette_training.study import Study, number, study

START = 1_790_000_000.0
EVERY_S = 600.0
STEPS = 6
DIGEST = hashlib.sha256(b"test").hexdigest()

FINDINGS = (
    Finding("leak", "artefact", "temp_condition", "alone tells anomalous readings from normal ones (ROC AUC 1.000): leave it out"),
    Finding("few_anomalies", "warning", "test part", "41 anomalous readings in 4 episodes: recall and precision will be vague"),
    Finding("gaps", "note", "devices", "12 silences of more than 3600 s, the longest 5.2 h: each begins a new window"),
)


def make(
    *,
    name: str = "fridge",
    device_names: tuple[str, ...] | None = None,
    days: float = 8.0,
    strength: float = 6.0,
    seed: int = 0,
    shift: float = 0.0,
    findings: tuple[Finding, ...] = FINDINGS[1:],
    feature: str = "temperature",
    threshold: Threshold | None = None,
) -> Evaluation:
    """An evaluation with everything in it.

    Args:
        device_names: Twelve fridges otherwise.
        days: How long they were watched.
        strength: How far over what is ordinary the anomalous windows' scores are; 0 hides them.
        shift: How far normal windows have drifted at the end.
    """
    rng = np.random.default_rng(seed)
    names = device_names or tuple(f"fridge-{k:02}" for k in range(12))
    steps = int(days * 86400 / EVERY_S)
    raw = np.stack([_walk(rng, steps) for _ in names])
    held = Held(
        np.concatenate([_walk(rng, 2 * steps) for _ in names])[:, None], np.repeat(np.arange(len(names)), 2 * steps), 2 * days * len(names)
    )
    asked = threshold or Threshold(alerts_per_day=0.02)
    fitted = calibrate.fit(held, asked, Scorer([_stage(Calibration(centre=0.0, threshold=1.0))], [Silent()], "all"))
    (calibration,), tail = fitted.stages, fitted.tail
    anomalous = np.zeros((len(names), steps), dtype=bool)
    for device in range(0, len(names), 2):
        begin = int(rng.integers(steps // 4, 3 * steps // 4))
        length = int(rng.integers(6, 40))
        anomalous[device, begin : begin + length] = True
        raw[device, begin : begin + length] += strength * rng.gamma(2.0, size=anomalous[device, begin : begin + length].shape)
    raw += shift * np.linspace(0, 1, steps) ** 3
    scores = calibration.apply(raw)
    # Readings of all devices in turn, as a gateway receives them.
    labelled = Labelled(
        devices=list(names) * steps,
        times=[START + EVERY_S * step + k for step in range(steps) for k in range(len(names))],
        values=[(4.0 + value, "closed", 0.0) for value in raw.T.ravel().tolist()],
        anomalous=anomalous.T.ravel().tolist(),
    )
    manifest = _manifest(name, feature, calibration)
    judged = judge(labelled, scores.T.ravel().astype(np.float32), manifest)
    run = Run(
        created=manifest.created,
        recipe=Recipe(
            name=name,
            detector=IsolationForest(),
            history=History(
                files=("fridges/*.csv",), device=Device(column="device"), time=EventTime(field="ts"), label=Label(column="label")
            ),
            features=(Number(name=feature), Category(name="door"), TimeOfDay()),
            window=manifest.window,
            split=Split(by="time", train=0.6, calibrate=0.2),
            threshold=asked,
        ),
        features=manifest.features,
        stages=(RunStage(name="forest", file="forest.skops", input="flat", output="score", calibration=calibration, smoothing=None),),
        combine="all",
        calibration=None,
        tail=tail,
        curves={"lstm_autoencoder": _curve(rng)},
        findings=findings,
        windows={"train": 40_000, "calibrate": 24_000, "test": len(judged.scores)},
        metrics={},
        trained_on=manifest.trained_on,
        libraries=manifest.libraries,
    )
    return evaluation(manifest, run, judged, labelled, look(judged, rng), {1: 41.7, 64: 3.12})


def evaluation(
    manifest: Manifest, run: Run | None, judged: Judged, labelled: Labelled, study: Study | None, us_per_window: dict[int, float]
) -> Evaluation:
    """What the evaluate command works out."""
    return Evaluation(
        manifest=manifest,
        run=run,
        judged=judged,
        labelled=labelled,
        metrics=evaluate.measure(judged.scores, judged.anomalous),
        episodes=evaluate.count_episodes(judged, labelled, manifest.window),
        drift=evaluate.find_drift(judged),
        study=study,
        us_per_window=us_per_window,
    )


def judge(labelled: Labelled, scores: Scores, manifest: Manifest) -> Judged:
    """What the agent's judge makes of a score for each reading from a device's STEPS-th on."""
    alarm = ScoreJudge(Alerts(), Model(name=manifest.name, version=manifest.version))
    at = np.flatnonzero(number(labelled.devices) >= STEPS - 1)
    alerts = alarm.judge([labelled.devices[k] for k in at.tolist()], np.array(labelled.times)[at], scores[at])
    kept = np.sort(np.random.default_rng(0).choice(len(at), min(4000, len(at)), replace=False))
    return Judged(
        devices=[labelled.devices[k] for k in at.tolist()],
        times=np.array(labelled.times)[at],
        scores=scores[at],
        anomalous=np.array(labelled.anomalous, dtype=bool)[at],
        positions=at,
        alerts=alerts,
        kept=kept,
        windows=np.zeros((len(kept), STEPS, 3), dtype=np.float32),
    )


def look(judged: Judged, rng: np.random.Generator) -> Study | None:
    """A study of a made-up latent space, in whose first two columns and error the score shows."""
    if not len(judged.kept):
        return None
    scores = judged.scores[judged.kept]
    latent = rng.normal(size=(len(scores), 8)).astype(np.float32)
    latent[:, :2] += np.sqrt(np.abs(scores))[:, None]
    return study(
        latent, scores * 2 + 0.1 * rng.normal(size=len(scores)), scores, judged.anomalous[judged.kept], scores >= 1.0, 0, steps=STEPS,
        devices=[judged.devices[k] for k in judged.kept.tolist()], numbers=number(judged.devices)[judged.kept],
    )  # fmt: skip


def without_labels(whole: Evaluation) -> Evaluation:
    """The same, had nobody labelled the readings."""
    labelled = whole.labelled._replace(anomalous=[False] * len(whole.labelled.anomalous))
    judged = whole.judged._replace(anomalous=np.zeros(len(whole.judged.anomalous), dtype=bool))
    return evaluation(whole.manifest, whole.run, judged, labelled, whole.study, dict(whole.us_per_window))


def first_windows(whole: Evaluation, count: int) -> Evaluation:
    """The same, had there been no more windows than that."""
    devices = len(set(whole.labelled.devices))
    upto = devices * (STEPS - 1) + count
    labelled = Labelled(
        whole.labelled.devices[:upto], whole.labelled.times[:upto], whole.labelled.values[:upto], whole.labelled.anomalous[:upto]
    )
    scores = np.zeros(upto, dtype=np.float32)
    scores[devices * (STEPS - 1) :] = whole.judged.scores[:count]
    return evaluation(whole.manifest, whole.run, judge(labelled, scores, whole.manifest), labelled, None, {})


def with_scores(whole: Evaluation, scores: Scores) -> Evaluation:
    """The same, had the detector given other scores, a number for each window."""
    every = np.zeros(len(whole.labelled.devices), dtype=np.float32)
    every[whole.judged.positions] = scores
    judged = judge(whole.labelled, every, whole.manifest)
    return evaluation(whole.manifest, whole.run, judged, whole.labelled, whole.study, dict(whole.us_per_window))


def _walk(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A raw score as smooth as overlapping windows make it, with a tail a little heavier than exponential."""
    noise = rng.normal(size=steps)
    walk = np.empty(steps)
    level = 0.0
    for step in range(steps):
        level = 0.8 * level + 0.6 * noise[step]
        walk[step] = level
    return 1.0 + np.abs(walk) ** 1.6


def _curve(rng: np.random.Generator) -> Curve:
    epochs = np.arange(30)
    loss = 0.04 + 0.9 * np.exp(-epochs / 6)
    return Curve(
        loss=tuple((loss + 0.004 * rng.random(30)).tolist()),
        validation_loss=tuple((loss * 1.1 + 0.02 * rng.random(30)).tolist()),
        baseline=0.61,
        windows_per_s=48_200.0,
    )


def _stage(calibration: Calibration) -> Stage:
    return Stage(name="forest", runtime="onnx", file="forest.onnx", input="flat", output="raw", calibration=calibration)


class Silent:
    """A runtime that nobody asks: scores are made here, not by a model."""

    def run(self, windows: Rows) -> dict[str, Rows]:
        raise AssertionError(f"asked for {len(windows)} windows")


def _manifest(name: str, feature: str, calibration: Calibration) -> Manifest:
    return Manifest(
        name=name,
        version="1.4.0",
        created=1_789_900_000,
        detector="isolation_forest",
        features=(
            Number(name=feature, mean=4.2, scale=1.13, minimum=-50.0, maximum=80.0),
            Category(name="door", values=("closed", "open"), usual="closed"),
            TimeOfDay(),
        ),
        window=WindowSpec(steps=STEPS),
        stages=(_stage(calibration),),
        trained_on=TrainedOn(
            recipe=DIGEST,
            sources=(
                Source(name="fridges/2026-08.csv", sha256=DIGEST, rows=61_004),
                Source(name="fridges/2026-09.csv", sha256=DIGEST, rows=58_121),
            ),
            windows=40_000,
            first=START - 60 * 86400,
            last=START - 20 * 86400,
        ),
        metrics={},
        libraries={"scikit-learn": "1.7.2", "numpy": "2.3.3", "vedette": "0.9.0"},
        files={"forest.onnx": FileEntry(size=812_331, sha256=DIGEST)},
    )  # fmt: skip


def renamed(whole: Evaluation, name: str, detector: str) -> Evaluation:
    """The same under another name."""
    return whole._replace(manifest=msgspec.structs.replace(whole.manifest, name=name, detector=detector))
