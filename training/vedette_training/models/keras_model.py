"""Keras models: windows in, named outputs out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from vedette.contract.errors import BundleError
from vedette.contract.features import Rows

_BATCH = 512


class KerasModel:
    """A functional model whose outputs are a dict by name; see `Model`."""

    suffix: ClassVar[str] = ".keras"
    libraries: ClassVar[tuple[str, ...]] = ("keras", "tensorflow-cpu", "tensorflow")

    def __init__(self, original: Any) -> None:
        self.original = original
        self._run = tf.function(lambda windows: original(windows, training=False), reduce_retracing=True)

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        """Outputs by name, float32 `(n, …)`, for windows float32 `(n, steps, columns)`."""
        parts: dict[str, list[npt.NDArray[np.float32]]] = {}
        for start in range(0, len(windows), _BATCH):
            for name, part in self._run(tf.constant(windows[start : start + _BATCH])).items():
                parts.setdefault(name, []).append(part.numpy())
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def save(self, path: Path) -> None:
        """Write a `.keras` file."""
        self.original.save(path)

    @classmethod
    def load(cls, path: Path) -> "KerasModel":
        """Read a `.keras` file; safe mode runs no code that a file brings.

        Raises:
            BundleError: it cannot be read.
        """
        try:
            return cls(keras.models.load_model(path, compile=False, safe_mode=True))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{path}: not a Keras model that can be read: {error}") from error
