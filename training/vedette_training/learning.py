"""Learning in epochs, with Keras: for the detectors that are networks.

Rules this module keeps: windows are gathered batch by batch from the rows, never all at once; equal seed and history give equal
weights, and so does a training that was interrupted and resumed; on a terminal a bar shows loss and time left.
"""

import json
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from vedette_training.detectors import Curve, Workshop
from vedette_training.models.block_lstm import quickened
from vedette_training.windows import Windows

_PROGRESS = "progress.json"
_WEIGHTS, _BEST = "weights-{}.weights.h5", "best-{}.weights.h5"

_PRIME = 7919

Column = npt.NDArray[np.float32]


class Lesson(NamedTuple):
    """What is to be learnt: to give windows back, or to tell their labels.

    Attributes:
        labels: float32 `(n,)`, 1 for anomalous; None where a window is its own target.
        weights: float32 `(n,)`: how much each counts.
    """

    windows: Windows
    labels: Column | None = None
    weights: Column | None = None


class Schedule(NamedTuple):
    """How it is learnt; `patience` None goes through all epochs and keeps the last weights, not the best."""

    epochs: int
    batch: int
    learning_rate: float
    validation: float
    loss: Literal["log_odds", "reconstruction"]
    patience: int | None = None


def set_seed(seed: int) -> None:
    """Make what follows repeatable, initial weights included."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def learn(model: Any, lesson: Lesson, schedule: Schedule, workshop: Workshop) -> Curve:
    """Fit a Keras model; its weights are changed in place.

    Args:
        model: keras.Model of one window. Its one output is log-odds `(n, 1)` in a dict, or the window given back.
        lesson: In the order of time: the last ones are validation.
        schedule: Epochs and so on.
        workshop: Its checkpoints, if there are any of this training, are gone on from.
    """
    loss = keras.losses.BinaryCrossentropy(from_logits=True) if schedule.loss == "log_odds" else "mse"
    learner = quickened(model)
    # Without XLA: compiling recurrent layers takes longer than it saves.
    learner.compile(keras.optimizers.Adam(schedule.learning_rate), loss=loss, jit_compile=False)
    count = len(lesson.windows)
    learnt = count - int(count * schedule.validation)
    learner.optimizer.build(learner.trainable_variables)  # or a checkpoint would find no place for its state
    data = _Data(lesson, schedule.batch)
    watched = data.read(np.arange(learnt, count)) if learnt < count else None
    progress = _Progress(workshop.checkpoints, learner)
    epochs_before = len(progress.losses)
    learning_s: list[float] = []
    epoch_s: list[float] = []
    with tqdm(total=schedule.epochs, initial=epochs_before, desc="training", unit=" epochs", disable=None, leave=False) as bar:
        for epoch in range(epochs_before, schedule.epochs):
            if schedule.patience is not None and progress.epochs_without_gain() >= schedule.patience:
                break
            _seed_epoch(learner, workshop.seed, epoch)
            started = time.monotonic()
            order = np.random.default_rng((workshop.seed, epoch)).permutation(learnt)
            loss_now = learner.fit(data.read(order), shuffle=False, verbose=0, callbacks=[_Step(bar)]).history["loss"][0]
            learning_s.append(time.monotonic() - started)
            validation_loss = float(learner.evaluate(watched, verbose=0)) if watched else None
            progress.add(learner, loss_now, validation_loss)
            shown = {"loss": loss_now} | ({} if validation_loss is None else {"validation": validation_loss})
            bar.set_postfix({name: f"{value:.4f}" for name, value in shown.items()}, refresh=False)
            bar.update()
            epoch_s.append(time.monotonic() - started)
    if schedule.patience is not None and watched:
        progress.restore_best(learner)
    model.set_weights(learner.get_weights())
    return Curve(
        loss=tuple(progress.losses),
        validation_loss=tuple(progress.validation_losses),
        baseline=data.baseline(learnt) if watched else None,
        windows_per_s=round(learnt / float(np.median(learning_s)), 1) if learning_s else 0.0,
        epoch_s=tuple(epoch_s),
    )


def _seed_epoch(model: Any, seed: int, epoch: int) -> None:
    """Make an epoch's dropout depend on its number alone: a checkpoint does not hold how far the generators were."""
    for number, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.array([seed + _PRIME * number, epoch << 20], dtype=np.uint64).astype(np.uint32))


class _Data:
    """Batches of a lesson, gathered as they are needed."""

    def __init__(self, lesson: Lesson, batch: int) -> None:
        self._lesson, self._batch = lesson, batch
        self._rows = tf.constant(lesson.windows.rows)
        self._offsets = tf.range(1 - lesson.windows.steps, 1, dtype=tf.int64)

    def read(self, order: npt.NDArray[np.intp]) -> Any:
        """The windows at these positions, in this order."""
        lesson = self._lesson
        ends = tf.data.Dataset.from_tensor_slices(lesson.windows.ends[order].astype(np.int64)).batch(self._batch)
        if lesson.labels is None:
            return ends.map(self._window_twice).prefetch(2)
        columns = [lesson.labels[order], np.ones(len(order), np.float32) if lesson.weights is None else lesson.weights[order]]
        rest = tf.data.Dataset.from_tensor_slices(tuple(columns)).batch(self._batch)
        return tf.data.Dataset.zip(ends, rest).map(lambda e, r: (self._window(e), r[0][:, None], r[1])).prefetch(2)

    def baseline(self, learnt: int) -> float:
        """The validation loss of a model that knows nothing but the training part's mean."""
        lesson = self._lesson
        if lesson.labels is not None:
            weights = np.ones_like(lesson.labels) if lesson.weights is None else lesson.weights
            share = np.clip(np.average(lesson.labels[:learnt], weights=weights[:learnt]), 1e-7, 1 - 1e-7)
            labels = lesson.labels[learnt:]
            return float((weights[learnt:] * -(labels * np.log(share) + (1 - labels) * np.log(1 - share))).mean())
        rows, steps = lesson.windows.rows, lesson.windows.steps
        # Every row of a window counts, as often as windows hold it.
        mean = rows[lesson.windows.ends[:learnt]].mean(axis=0)
        squares = np.concatenate([[0.0], np.cumsum(((rows - mean) ** 2).mean(axis=1, dtype=np.float64))])
        ends = lesson.windows.ends[learnt:]
        return float(((squares[ends + 1] - squares[ends + 1 - steps]) / steps).mean())

    def _window(self, ends: Any) -> Any:
        return tf.gather(self._rows, ends[:, None] + self._offsets)

    def _window_twice(self, ends: Any) -> tuple[Any, Any]:
        window = self._window(ends)
        return window, window


class _Progress:
    """What a training has reached; kept in a folder, if there is one, so that a cut-off training can go on.

    Weights are written under a new name first and progress.json, which names them, is then replaced: it never points at half a file.
    """

    def __init__(self, folder: Path | None, model: Any) -> None:
        self._folder = folder
        self.losses: list[float] = []
        self.validation_losses: list[float] = []
        self._best: Any = None
        if folder is None or not (folder / _PROGRESS).is_file():
            return
        kept = json.loads((folder / _PROGRESS).read_text())
        self.losses, self.validation_losses = kept["loss"], kept["validation_loss"]
        if self.validation_losses:
            model.load_weights(folder / _BEST.format(self._best_epoch()))
            self._best = model.get_weights()
        model.load_weights(folder / _WEIGHTS.format(len(self.losses)))

    def add(self, model: Any, loss: float, validation_loss: float | None) -> None:
        """Take note of an epoch."""
        self.losses.append(loss)
        if validation_loss is not None:
            self.validation_losses.append(validation_loss)
        is_best = validation_loss is not None and self._best_epoch() == len(self.losses)
        if is_best:
            self._best = model.get_weights()
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        current = {self._folder / _WEIGHTS.format(len(self.losses))}
        if self.validation_losses:
            current.add(self._folder / _BEST.format(self._best_epoch()))
        for path in current:
            if not path.exists():
                model.save_weights(path)
        partial = self._folder / f"{_PROGRESS}.partial"
        partial.write_text(json.dumps({"loss": self.losses, "validation_loss": self.validation_losses}))
        partial.replace(self._folder / _PROGRESS)
        for path in set(self._folder.glob("*.weights.h5")) - current:
            path.unlink()

    def epochs_without_gain(self) -> int:
        """Since the lowest validation loss."""
        return len(self.validation_losses) - self._best_epoch() if self.validation_losses else 0

    def restore_best(self, model: Any) -> None:
        """Give the model the weights of the lowest validation loss."""
        model.set_weights(self._best)

    def _best_epoch(self) -> int:
        return int(np.argmin(self.validation_losses)) + 1


class _Step(keras.callbacks.Callback):  # type: ignore[misc] # because keras is untyped
    """Shows the loss inside an epoch, which may last minutes."""

    def __init__(self, bar: "tqdm[Any]") -> None:
        super().__init__()
        self._bar = bar

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Show the batch and its loss."""
        if not self._bar.disable and logs:
            self._bar.set_postfix({"batch": batch + 1, "loss": f"{logs['loss']:.4f}"})
