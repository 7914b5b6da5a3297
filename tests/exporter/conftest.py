import csv
from pathlib import Path

import numpy as np
import pytest

from vedette_training.command import train

_RECIPE = """
name: pump
detector: {detector}
history:
  device: {{column: device}}
  time: {{field: ts}}
  label: {{column: label}}
features:
  - {{kind: number, name: pressure}}
  - {{kind: category, name: mode}}
window: {{steps: 6}}
split: {{by: device, train: 0.5, calibrate: 0.25}}
threshold: {threshold}
seed: {seed}
"""
LSTM = "{kind: lstm, units: 8, epochs: 2, learning_rate: 0.01}"
FOREST = "{kind: isolation_forest, trees: 20, max_samples: 64}"


@pytest.fixture(scope="session")
def pumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pumps, 80 readings each; an anomalous one surges."""
    rng = np.random.default_rng(11)
    path = tmp_path_factory.mktemp("history") / "pumps.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["device", "ts", "pressure", "mode", "label"])
        for minute in range(80):
            for pump in range(6):
                label = int(30 <= (minute + 9 * pump) % 80 < 50)
                pressure = round(4 + rng.normal(0, 0.2 + label), 3)
                table.writerow([f"pump-{pump}", 60 * minute, pressure, "auto" if pump % 2 else "hand", label])
    return path


def _train(folder: Path, history: Path, detector: str, seed: int) -> Path:
    recipe, run = folder / f"pump-{seed}.yaml", folder / f"pump-{seed}.run"
    threshold = "{probability: 0.5}" if detector == LSTM else "{quantile: 0.95}"
    recipe.write_text(_RECIPE.format(detector=detector, threshold=threshold, seed=seed))
    train([str(recipe), "--history", str(history), "-o", str(run)])
    return run


@pytest.fixture(scope="session")
def lstm_run(tmp_path_factory: pytest.TempPathFactory, pumps: Path) -> Path:
    return _train(tmp_path_factory.mktemp("lstm"), pumps, LSTM, 1)


@pytest.fixture(scope="session")
def other_lstm_run(tmp_path_factory: pytest.TempPathFactory, pumps: Path) -> Path:
    return _train(tmp_path_factory.mktemp("lstm"), pumps, LSTM, 2)


@pytest.fixture(scope="session")
def forest_run(tmp_path_factory: pytest.TempPathFactory, pumps: Path) -> Path:
    return _train(tmp_path_factory.mktemp("forest"), pumps, FOREST, 1)


@pytest.fixture(scope="session")
def other_forest_run(tmp_path_factory: pytest.TempPathFactory, pumps: Path) -> Path:
    return _train(tmp_path_factory.mktemp("forest"), pumps, FOREST, 2)


@pytest.fixture(params=["lstm", "forest"])
def run(request: pytest.FixtureRequest) -> Path:
    """A run of each detector in turn."""
    path: Path = request.getfixturevalue(f"{request.param}_run")
    return path


@pytest.fixture(params=["lstm", "forest"])
def two_runs(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Two runs of a detector that differ in their seed."""
    return request.getfixturevalue(f"{request.param}_run"), request.getfixturevalue(f"other_{request.param}_run")
