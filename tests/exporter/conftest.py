"""Runs of every detector, small enough for seconds each, trained once a session on what six pumps sent."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from exports import Exports
from vedette.contract.features import Category, Number
from vedette.contract.manifest import Source, TrainedOn
from vedette.contract.windows import WindowSpec
from vedette_training import dataset, evaluate, fitting
from vedette_training import run as runs
from vedette_training.detectors import Detector, Workshop
from vedette_training.detectors.dbscan import Dbscan
from vedette_training.detectors.hybrid import Hybrid, Member
from vedette_training.detectors.isolation_forest import IsolationForest
from vedette_training.detectors.lstm import Lstm
from vedette_training.detectors.lstm_autoencoder import LstmAutoencoder
from vedette_training.detectors.one_class_svm import OneClassSvm
from vedette_training.detectors.pca import Pca
from vedette_training.history import History
from vedette_training.recipe import Device, EventTime, Label, Recipe, Split, Threshold
from vedette_training.recipe import History as HistorySpec
from vedette_training.run import Labelled, Run

SMALL = LstmAutoencoder(preset="small", units=4, epochs=2, batch=64)
FOREST = IsolationForest(trees=20, max_samples=64)
STEPS = LstmAutoencoder(preset="steps", units=4, epochs=1, batch=64, error="last")
SVM = OneClassSvm(nu=0.1)
WIDE = msgspec.structs.replace(STEPS, units=32)
"""Wide enough to have matrices of 1,024 weights, of which there are narrower forms."""

DETECTORS: dict[str, Detector] = {
    "lstm": Lstm(units=8, epochs=2, learning_rate=0.01),
    "lstm_autoencoder": SMALL,
    "lstm_autoencoder-deep": LstmAutoencoder(units=4, epochs=1, batch=64),
    "lstm_autoencoder-steps": STEPS,
    "isolation_forest": FOREST,
    "isolation_forest-rotated": IsolationForest(trees=20, max_samples=64, rotate=True),
    "one_class_svm": SVM,
    "dbscan": Dbscan(),
    "pca": Pca(components=2),
    "lstm-wide": Lstm(units=32, epochs=2, learning_rate=0.01),
    "lstm_autoencoder-wide": WIDE,
    "hybrid-wide": Hybrid(
        members=(Member(detector=SVM, input=("latent", "error")), Member(detector=Pca(components=2))), combine="any", autoencoder=WIDE
    ),
    "hybrid-forest": Hybrid(members=(Member(detector=Dbscan()), Member(detector=FOREST))),
    "hybrid-all": Hybrid(
        members=(Member(detector=Dbscan(), input=("latent", "error")), Member(detector=FOREST, input=("latent",))), autoencoder=SMALL
    ),
    "hybrid-any": Hybrid(
        members=(Member(detector=SVM, input=("error",)), Member(detector=Pca(components=2))), combine="any", autoencoder=SMALL
    ),
    "hybrid-mean": Hybrid(
        members=(Member(detector=FOREST, input=("latent", "error")), Member(detector=SVM, input=("latent",)), Member(detector=STEPS)),
        combine="mean",
        autoencoder=SMALL,
    ),
}

MakeRun = Callable[[str, int], Path]


def pumps(seed: int) -> History:
    """Six pumps, 80 readings each; an anomalous one surges."""
    rng = np.random.default_rng(seed)
    rows = [(minute, pump) for minute in range(80) for pump in range(6)]
    anomalous = np.array([30 <= (minute + 9 * pump) % 80 < 50 for minute, pump in rows])
    pressures = 4 + rng.normal(0, 0.2 + anomalous)
    return History(
        [f"pump-{pump}" for _, pump in rows],
        [60.0 * minute for minute, _ in rows],
        [(float(pressure), "auto" if pump % 2 else "hand") for pressure, (_, pump) in zip(pressures, rows, strict=True)],
        anomalous,
        (Source(name="pumps.csv", sha256=hashlib.sha256(b"pumps").hexdigest(), rows=len(rows)),),
    )


def train(folder: Path, detector: Detector, seed: int) -> None:
    """Leave a run in `folder`."""
    recipe = Recipe(
        name="pump",
        detector=detector,
        history=HistorySpec(device=Device(column="device"), time=EventTime(field="ts"), label=Label(column="label")),
        features=(Number(name="pressure"), Category(name="mode")),
        window=WindowSpec(steps=6),
        split=Split(by="device", train=0.5, calibrate=0.25),
        smoothing=3.0,
        threshold=Threshold(probability=0.5) if detector.learns_from_labels else Threshold(quantile=0.95),
        seed=seed,
    )
    history = pumps(seed)
    data = dataset.build(history, recipe)
    trained = fitting.fit(history, recipe, data, Workshop(seed))
    run = Run(
        created=1_790_000_000,
        recipe=recipe,
        features=data.features,
        stages=trained.stages,
        combine=trained.fitted.combine,
        calibration=trained.calibration,
        tail=trained.tail,
        curves=trained.fitted.curves,
        findings=(),
        windows={"train": len(data.train.windows), "calibrate": len(data.calibrate.windows), "test": len(data.test.windows)},
        metrics=evaluate.measure(trained.scores, data.test.anomalous),
        trained_on=TrainedOn(
            recipe=hashlib.sha256(msgspec.json.encode(recipe)).hexdigest(),
            sources=history.sources,
            windows=len(data.train.windows),
            first=data.first,
            last=data.last,
        ),
        libraries={"numpy": np.__version__},
    )
    runs.write(folder, run, trained.fitted, trained.holdout, Labelled.of(history, dataset.divide(history, recipe.split)["test"]))


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Gives the run of a detector by its name in DETECTORS, learnt from other pumps and with other chance for another seed."""
    made: dict[tuple[str, int], Path] = {}

    def make(name: str, seed: int = 1) -> Path:
        if (name, seed) not in made:
            made[name, seed] = tmp_path_factory.mktemp(name) / "pump.run"
            train(made[name, seed], DETECTORS[name], seed)
        return made[name, seed]

    return make


@pytest.fixture(scope="session")
def exports(make_run: MakeRun) -> Exports:
    """Their bundles."""
    return Exports(make_run)
