"""An LSTM classifier, in Keras: windows to the probability of being anomalous."""

import os
from pathlib import Path
from typing import Any, ClassVar, Self

# Before TensorFlow is imported: it would greet every run with a page about instruction sets. Without oneDNN, which gains
# nothing on models of this size, results also depend less on the processor.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from vedette.contract.errors import BundleError, HistoryError
from vedette.contract.features import Rows
from vedette_training.dataset import Part
from vedette_training.detectors import RawScores
from vedette_training.recipe import Lstm

_SCORING_BATCH = 1024


class FittedLstm:
    """A trained classifier; see `Fitted`."""

    higher_is_stranger = True

    def __init__(self, original: Any) -> None:
        self.original = original

    def raw(self, windows: Rows) -> RawScores:
        """Probabilities, float32 `(n,)`."""
        probabilities: RawScores = self.original.predict(windows, batch_size=_SCORING_BATCH, verbose=0)[:, 0]
        return probabilities

    def save(self, path: Path) -> None:
        """Write a `.keras` file."""
        self.original.save(path)


class LstmDetector:
    """The LSTM that a recipe describes; see `Detector`."""

    file: ClassVar[str] = "model.keras"
    libraries: ClassVar[tuple[str, ...]] = ("keras", "tensorflow-cpu", "tensorflow")

    def __init__(self, spec: Lstm) -> None:
        self._spec = spec

    def fit(self, part: Part, seed: int) -> FittedLstm:
        """Train on normal and anomalous windows.

        Raises:
            HistoryError: the training part holds one class only.
        """
        if part.anomalous.all() or not part.anomalous.any():
            raise HistoryError(
                f"all {len(part.anomalous)} training windows are {'anomalous' if part.anomalous.any() else 'normal'}: "
                "an lstm learns from both; split otherwise, or train an isolation_forest"
            )
        spec = self._spec
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        model = self._build(part.windows.shape[1:])
        model.fit(
            part.windows,
            part.anomalous.astype(np.float32),
            batch_size=spec.batch,
            epochs=spec.epochs,
            validation_split=spec.validation,
            class_weight={0: spec.class_weights.normal, 1: spec.class_weights.anomalous},
            callbacks=[_Progress(spec.epochs)],
            verbose=0,
        )
        return FittedLstm(model)

    def load(self, path: Path) -> FittedLstm:
        """Read a `.keras` file; safe mode runs no code that a file brings."""
        try:
            return FittedLstm(keras.models.load_model(path, compile=False, safe_mode=True))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{path}: not a Keras model that can be read: {error}") from error

    def _build(self, shape: tuple[int, ...]) -> Any:
        spec = self._spec
        model = keras.Sequential(
            [
                keras.Input(shape, name="window"),
                # Unrolled, because only then does the exported model take a batch of any size with built-in operators
                # alone.
                keras.layers.LSTM(spec.units, unroll=True),
                keras.layers.Dropout(spec.dropout),
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
        # Without XLA: compiling the unrolled steps would take longer than it saves.
        model.compile(keras.optimizers.Adam(spec.learning_rate), loss="binary_crossentropy", jit_compile=False)
        return model


class _Progress(keras.callbacks.Callback):  # type: ignore[misc] # because keras is untyped
    """A bar over the epochs with the latest losses."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs
        self._bar: tqdm[Self] | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 because Keras passes it
        """Show the bar, on a terminal."""
        self._bar = tqdm(total=self._epochs, desc="training", unit=" epochs", disable=None, leave=False)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 because Keras passes it
        """Move on."""
        assert self._bar is not None
        self._bar.set_postfix({name: f"{value:.4f}" for name, value in (logs or {}).items()}, refresh=False)
        self._bar.update()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 because Keras passes it
        """Take the bar away."""
        assert self._bar is not None
        self._bar.close()
