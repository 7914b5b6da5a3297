"""An LSTM classifier, in Keras: from labelled windows to the log-odds of being anomalous."""

from typing import Annotated, Any

import msgspec
import numpy as np

from vedette.contract.errors import HistoryError
from vedette_training.detectors import Fitted, FittedStage, Settings, Workshop
from vedette_training.windows import Part

Count = Annotated[int, msgspec.Meta(ge=1)]
Weight = Annotated[float, msgspec.Meta(gt=0)]
OUTPUT = "log_odds"


class ClassWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a window of each class counts in the loss."""

    normal: Weight = 1.0
    anomalous: Weight = 1.0


class Lstm(Settings, frozen=True, kw_only=True, tag="lstm"):
    """LSTM -> dropout -> one sigmoid unit, learnt from labels by binary cross-entropy.

    What it gives is the log-odds, from which the sigmoid makes the probability: a probability of nearly one has no room left to say
    how strange a window is.

    Attributes:
        units: Like dropout, epochs and batch, as in the project's first notebook; the learning rate is Adam's own
            default.
        validation: Share of the training windows, the last ones, that are only watched.
    """

    units: Count = 64
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.3
    epochs: Count = 30
    batch: Count = 64
    learning_rate: Weight = 0.001
    class_weights: ClassWeights = ClassWeights()
    validation: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.2

    @property
    def learns_from_labels(self) -> bool:
        """It learns what anomalous windows look like."""
        return True

    def fit(self, part: Part, workshop: Workshop) -> Fitted:
        """Train on normal and anomalous windows.

        Raises:
            HistoryError: the training part holds one class only.
        """
        if part.anomalous.all() or not part.anomalous.any():
            raise HistoryError(
                f"all {len(part.anomalous)} training windows are {'anomalous' if part.anomalous.any() else 'normal'}: "
                "an lstm learns from both; split otherwise, or train an isolation_forest"
            )
        from vedette_training import learning
        from vedette_training.models.keras_model import KerasModel

        learning.set_seed(workshop.seed)
        weights = np.where(part.anomalous, self.class_weights.anomalous, self.class_weights.normal).astype(np.float32)
        model = self._build(part.windows.shape)
        curve = learning.learn(
            model,
            learning.Lesson(part.windows, part.anomalous.astype(np.float32), weights),
            learning.Schedule(
                epochs=self.epochs, batch=self.batch, learning_rate=self.learning_rate, validation=self.validation, loss="log_odds"
            ),
            workshop,
        )
        return Fitted((FittedStage("lstm", KerasModel(model), "window", OUTPUT),), curves={"lstm": curve})

    def _build(self, shape: tuple[int, int]) -> Any:
        import keras

        window = keras.Input(shape, name="window")
        state = keras.layers.Dropout(self.dropout)(keras.layers.LSTM(self.units)(window))
        return keras.Model(window, {OUTPUT: keras.layers.Dense(1, name=OUTPUT)(state)})
