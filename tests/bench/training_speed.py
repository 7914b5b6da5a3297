"""`make bench-training`: the LSTM autoencoder's training beside the way in which the project's second notebook did it.

Both have the same network, windows, validation part and optimiser, in one process, one after the other. The notebook's way: a Keras
Sequence that slices 16 windows a step out of an array. First it trains for a while and says what validation loss it has come to; then
ours trains all its epochs, and what counts is when it was as low. The notebook's Adam(0.05) learns nothing on either data, so it gets
our rate: what is compared is how it is trained, not what.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import numpy.typing as npt

from bench import entities, figures, machine
from bench.figures import Figures, Row
from vedette.contract.errors import HistoryError
from vedette.contract.windows import WindowSpec
from vedette.simulate.command import simulate
from vedette_training import dataset, history, learning, recipe, windows
from vedette_training.detectors import Workshop
from vedette_training.detectors.lstm_autoencoder import LstmAutoencoder
from vedette_training.learning import Lesson, Schedule
from vedette_training.windows import Windows

BAR = 5.0
LEARNT = 0.6
NOTEBOOK_BATCH = 16
STEPS = 50
_VALIDATION = 0.2
_EPOCHS = 15
_CHUNK = 40


class Way(NamedTuple):
    """How fast one way trained, and to what validation loss in how long."""

    windows_per_s: float
    loss: float
    seconds: float


class _Generator(keras.utils.PyDataset):  # type: ignore[misc] # because keras is untyped
    """The notebook's: windows sliced one after the other, in steps of 16."""

    def __init__(self, data: npt.NDArray[np.float32], starts: npt.NDArray[np.intp]) -> None:
        super().__init__()
        self._data, self._starts = data, starts

    def __len__(self) -> int:
        return len(self._starts) // NOTEBOOK_BATCH

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        chosen = self._starts[index * NOTEBOOK_BATCH : (index + 1) * NOTEBOOK_BATCH]
        batch = np.array([self._data[start : start + STEPS] for start in chosen])
        return batch, batch


def train_as_the_notebook(found: Windows, seconds: float) -> Way:
    """Train through a generator for so many seconds, compiling not counted."""
    learnt = len(found) - int(len(found) * _VALIDATION)
    watched = found[learnt:].gather()
    learning.set_seed(1)
    model = _network(found)
    model.compile(keras.optimizers.Adam(LstmAutoencoder().learning_rate), loss="mse", jit_compile=False)
    starts = np.random.default_rng(1).permutation(found.ends[:learnt] - STEPS + 1)
    model.fit(_Generator(found.rows, starts[: 2 * NOTEBOOK_BATCH]), shuffle=False, verbose=0)
    done, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        some = starts[(done + np.arange(_CHUNK * NOTEBOOK_BATCH)) % learnt]
        model.fit(_Generator(found.rows, some), shuffle=False, verbose=0)
        done += len(some) // NOTEBOOK_BATCH * NOTEBOOK_BATCH
    took_s = time.monotonic() - began
    return Way(done / took_s, float(model.evaluate(watched, watched, batch_size=512, verbose=0)), took_s)


def train_as_we_do(found: Windows, loss: float) -> tuple[Way, float]:
    """Train until the validation loss is as low, compiling counted in; and the lowest of all epochs beside that of predicting the mean."""
    settings = LstmAutoencoder()
    learning.set_seed(1)
    schedule = Schedule(_EPOCHS, settings.batch, settings.learning_rate, _VALIDATION, "reconstruction")
    curve = learning.learn(_network(found), Lesson(found), schedule, Workshop(1))
    epochs = next((epoch for epoch, reached in enumerate(curve.validation_loss, 1) if reached <= loss), None)
    if epochs is None:
        raise HistoryError(f"after {_EPOCHS} epochs our validation loss is {min(curve.validation_loss):.4f}, theirs {loss:.4f}")
    assert curve.baseline
    way = Way(curve.windows_per_s, curve.validation_loss[epochs - 1], sum(curve.epoch_s[:epochs]))
    return way, min(curve.validation_loss) / curve.baseline


def _network(found: Windows) -> Any:
    return LstmAutoencoder().build(found.shape)[0]


def read(name: str) -> Windows | None:
    """Windows of 50 steps: one SMD machine's training rows, or the simulated identity provider's log. None where there is none."""
    if name == "smd":
        entity = next(entities.read("smd"), None)
        if entity is None:
            return None
        spread = entity.train.std(axis=0)
        rows = ((entity.train - entity.train.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
        times = (60.0 * np.arange(len(rows))).tolist()
        return windows.cut(["machine"] * len(rows), times, rows, np.zeros(len(rows), np.bool_), WindowSpec(steps=STEPS)).windows
    asked = recipe.load("login-events-autoencoder")
    with tempfile.TemporaryDirectory() as folder:
        simulate(["login-events", "-o", folder])
        files = [Path(folder) / "train_logs.json", Path(folder) / "test_logs.json"]
        return dataset.build(history.read(asked, files), asked).train.normal


def measure(name: str, found: Windows, seconds: float) -> tuple[Row, ...]:
    """Both ways on the same windows."""
    theirs = train_as_the_notebook(found, seconds)
    ours, learnt = train_as_we_do(found, theirs.loss)
    said = {
        f"windows/s beside the notebook's way, {name}": (ours.windows_per_s / theirs.windows_per_s, "ratio", BAR, "higher"),
        f"time to the same validation loss, notebook's way / ours, {name}": (theirs.seconds / ours.seconds, "ratio", None, "higher"),
        f"validation loss beside predicting the mean, {name}": (learnt, "ratio", LEARNT, "lower"),
        f"windows/s, ours, {name}": (ours.windows_per_s, "1/s", None, "higher"),
        f"windows/s, the notebook's way, {name}": (theirs.windows_per_s, "1/s", None, "higher"),
        f"training time, ours, {name}": (ours.seconds, "s", None, "lower"),
    }
    return tuple(
        Row(name=text, value=value, unit=unit, bar=bar, better=better, runs=1, spread=(value, value))  # type: ignore[arg-type] # because a literal in a dict is plain text to mypy
        for text, (value, unit, bar, better) in said.items()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write build/figures/training.json."""
    options = argparse.ArgumentParser(description="Training speed of the LSTM autoencoder beside the notebook's way.")
    options.add_argument("--seconds", type=float, default=90.0, help="for which the notebook's way trains (default: %(default)s)")
    options.add_argument("--data", choices=("smd", "login-events"), nargs="+", default=["smd", "login-events"])
    given = options.parse_args(arguments)
    rows: list[Row] = []
    for name in given.data:
        found = read(name)
        if found is None:
            print(f"{name}: skipped, {entities.missing('smd')}", file=sys.stderr)
            continue
        rows += measure(name, found, given.seconds)
        print(figures.table([figures.Line("training", row) for row in rows]), flush=True)
    versions = machine.versions(sys.executable, ["tensorflow-cpu", "keras", "numpy"])
    result = Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=tuple(rows))
    figures.write(result, figures.FOLDER / "training.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
