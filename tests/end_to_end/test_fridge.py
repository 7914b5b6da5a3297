"""The whole line on a real file: train, export, publish through mosquitto, score, alert; and nothing differs on the way."""

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from agents import Agent, Watcher, vedette, write_config
from brokers import Mosquitto
from vedette.contract.bundle import Bundle, open_bundle
from vedette.contract.features import Category, Number
from vedette.contract.tables import read_table, row_payload

STREAM = {
    "name": "fridges",
    "topic": "lab/fridge/{device}",
    "model": "fridge",
    "payload": {"time": {"field": "ts"}, "repeats": "keep"},  # as the recipe has it
}


class Trained(NamedTuple):
    run: Path
    bundle: Bundle
    path: Path


@pytest.fixture(scope="module", params=["fridge-lstm", "fridge-isolation-forest"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fridge_60k: Path) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    run, path = folder / "run", folder / "fridge.vedette"
    done = vedette("train", request.param, "--history", fridge_60k, "-o", run, "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert 0.45 < metrics["roc_auc"] < 0.55, "stripped, the fridge file tells nobody anything"
    done = vedette("export", run, "-o", path, "--name", "fridge", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parity"]["windows"] >= 500
    return Trained(run, open_bundle(path), path)


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_live_scores_and_alerts_equal_a_replay_and_the_original_model(
    tmp_path: Path, trained: Trained, fridge_60k: Path, broker: Mosquitto, protocol: int | str
) -> None:
    assert vedette("model", "install", trained.path, "--state-dir", tmp_path / "state").returncode == 0
    config = write_config(
        tmp_path,
        broker.url,
        broker={"url": broker.url, "protocol": protocol},
        streams=[STREAM],
        alerts={"raise": "1 of 1", "clear": "2 of 3", "cooldown": 0, "update": 0},  # as many as can be
        stats_every="500ms",
        state_every=0,
        limits={"rate": None},  # one device sends a month's readings at once
    )
    payloads = [row_payload(cells) for _, cells in read_table(fridge_60k)]
    with Watcher(broker) as watcher, Agent(config, "--scores", tmp_path / "live.jsonl") as agent:
        watcher.wait_online()
        watcher.publish("lab/fridge/kitchen", *payloads)
        watcher.wait(lambda: watcher.counters().get("received") == len(payloads), timeout_s=120)
        assert agent.stop() == 0
        watcher.wait(lambda: watcher.last("vedette/gw-1/status") == b"offline")
        live_alerts, counters = watcher.alerts(), watcher.counters()

    replayed = vedette("replay", "--json", "-c", config, "--device", "kitchen", "--scores", tmp_path / "replay.jsonl", fridge_60k)
    assert replayed.returncode == 0, replayed.stderr
    *replay_alerts, replay_counters = map(json.loads, replayed.stdout.splitlines())

    assert (tmp_path / "live.jsonl").read_bytes() == (tmp_path / "replay.jsonl").read_bytes()
    assert live_alerts == replay_alerts
    assert len(live_alerts) > 0
    assert counters == replay_counters["streams"]["fridges"]

    # All rows accounted for.
    assert counters["received"] == counters["readings"] == len(payloads)
    assert counters["scored"] + counters["late"] == len(payloads)
    assert counters["failed"] == counters["waiting"] == 0

    scores = [json.loads(line)["score"] for line in (tmp_path / "live.jsonl").read_text().splitlines()]
    expected = original_scores(trained, fridge_60k)
    assert len(scores) == len(expected) == counters["scored"]
    difference = np.abs(np.array(scores) - expected) / np.maximum(1.0, np.abs(expected))
    assert difference.max() <= 1e-4


def test_text_as_published_and_stripped_gives_the_same_scores(tmp_path: Path, trained: Trained, fridge_60k: Path) -> None:
    stripped = strip(fridge_60k, tmp_path / "stripped.csv")
    assert vedette("model", "install", trained.path, "--state-dir", tmp_path / "state").returncode == 0
    config = write_config(tmp_path, "mqtt://localhost", streams=[STREAM])
    for table in (fridge_60k, stripped):
        done = vedette("replay", "-c", config, "--device", "kitchen", "--scores", tmp_path / f"{table.stem}.jsonl", table)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "stripped.jsonl").read_bytes() == (tmp_path / f"{fridge_60k.stem}.jsonl").read_bytes()


def test_training_on_text_as_published_and_stripped_gives_the_same_model(tmp_path: Path, fridge_60k: Path) -> None:
    stripped = strip(fridge_60k, tmp_path / "stripped.csv")
    raw = []
    for name, table in (("raw", fridge_60k), ("stripped", stripped)):
        assert vedette("train", "fridge-isolation-forest", "--history", table, "-o", tmp_path / name).returncode == 0
        raw.append(np.load(tmp_path / name / "holdout.npz")["raw"])
    np.testing.assert_array_equal(*raw)


def strip(table: Path, to: Path) -> Path:
    with table.open(encoding="utf-8-sig", newline="") as source, to.open("w", newline="") as file:
        csv.writer(file).writerows([cell.strip() for cell in row] for row in csv.reader(source))
    assert to.read_text() != table.read_text(encoding="utf-8-sig")
    return to


def original_scores(trained: Trained, file: Path) -> npt.NDArray[np.float64]:
    """What Keras or scikit-learn say of the file's rows, with the features worked out here anew and not by the contract."""
    manifest = trained.bundle.manifest
    number, category = manifest.features
    assert isinstance(number, Number)
    assert isinstance(category, Category)
    rows, newest = [], -1.0
    with file.open(encoding="utf-8-sig") as lines:
        for row in csv.DictReader(lines):
            ts = float(row["ts"])
            if 0 < newest - ts <= manifest.window.max_gap_s:
                continue  # late
            newest = ts
            condition = row["temp_condition"].strip().lower()
            scaled = (float(row["fridge_temperature"]) - number.mean) / number.scale
            rows.append([scaled, *(float(condition == value) for value in category.values)])
    windows = np.array(rows, dtype=np.float32)
    calibration = manifest.stages[0].calibration
    assert calibration
    raw = _predict(trained, windows).astype(np.float64)
    scores: npt.NDArray[np.float64] = (raw - calibration.centre) / (calibration.threshold - calibration.centre)
    return scores


def _predict(trained: Trained, windows: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    if trained.bundle.manifest.detector == "lstm":
        import keras

        model = keras.models.load_model(trained.run / "lstm.keras", compile=False)
        predicted: npt.NDArray[np.float32] = model.predict(windows[:, None, :], batch_size=1024, verbose=0)["log_odds"][:, 0]
        return predicted
    import skops.io

    file = trained.run / "isolation_forest.skops"
    forest = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    sampled: npt.NDArray[np.float64] = -forest.score_samples(windows)
    return sampled
