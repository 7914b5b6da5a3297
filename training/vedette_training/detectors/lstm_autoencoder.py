"""An LSTM autoencoder, in Keras: windows that it cannot give back are unlike those that it learnt to.

Its outputs are the latent vector, the mean squared error, and that of every column by itself, which says what was given back badly.
"""

from typing import Annotated, Any, Literal

import msgspec

from vedette_training.detectors import Fitted, FittedStage, Settings, Workshop
from vedette_training.windows import Part

Count = Annotated[int, msgspec.Meta(ge=1)]
ERROR, FEATURE_ERROR, LATENT = "error", "feature_error", "latent"


class LstmAutoencoder(Settings, frozen=True, kw_only=True, tag="lstm_autoencoder"):
    """The project's second notebook's: residual LSTM blocks, a bidirectional LSTM to the latent vector, and LSTM blocks back.

    Attributes:
        preset: `deep` has the notebook's four blocks each way, `medium` two, `small` one. `steps` is another, much smaller one: an
            LSTM, a narrow latent vector for every step, an LSTM back.
        units: Of every LSTM; the latent vector is twice as long (`steps`: 5).
        error: Mean squared error of the whole window or of its newest reading.
        learning_rate: Adam's. The notebook's 0.05 learns nothing, nor does 0.0001.
        epochs: At most; training ends when `patience` epochs in a row have not lowered the validation loss, and the best weights
            are kept.
        validation: Share of the training windows, the last ones, that are only watched.
    """

    preset: Literal["deep", "medium", "small", "steps"] = "deep"
    units: Count = 16
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.02
    error: Literal["window", "last"] = "window"
    epochs: Count = 20
    batch: Count = 64
    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 0.005
    validation: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    patience: Count = 5

    def fit(self, part: Part, workshop: Workshop) -> Fitted:
        """Train on the normal windows."""
        import keras

        from vedette_training import learning
        from vedette_training.models.keras_model import KerasModel

        learning.set_seed(workshop.seed)
        autoencoder, latent = self.build(part.windows.shape)
        curve = learning.learn(
            autoencoder,
            learning.Lesson(part.normal),
            learning.Schedule(
                epochs=self.epochs,
                batch=self.batch,
                learning_rate=self.learning_rate,
                validation=self.validation,
                loss="reconstruction",
                patience=self.patience,
            ),
            workshop,
        )
        window = autoencoder.input
        squares = keras.ops.square(window - autoencoder.output)
        by_column = keras.ops.mean(squares, axis=1) if self.error == "window" else squares[:, -1]
        error = keras.ops.mean(by_column, axis=1, keepdims=True)
        model = keras.Model(window, {ERROR: error, FEATURE_ERROR: by_column, LATENT: latent})
        return Fitted((FittedStage("lstm_autoencoder", KerasModel(model), "window", ERROR),), curves={"lstm_autoencoder": curve})

    def build(self, shape: tuple[int, int]) -> tuple[Any, Any]:
        """An untrained keras.Model for windows of this shape (steps, columns), and the tensor of its latent vector."""
        import keras
        from keras import layers

        steps, columns = shape
        window = keras.Input(shape, name="window")
        if self.preset == "steps":
            narrow = layers.Dense(_NARROW)(layers.LSTM(self.units, return_sequences=True)(window))
            back = layers.LSTM(self.units, return_sequences=True)(narrow)
            return keras.Model(window, layers.Dense(columns)(back)), narrow[:, -1]
        found = window
        for _ in range(_BLOCKS[self.preset]):
            block = self._block(found)
            same = found if found.shape[-1] == self.units else layers.Dense(self.units)(found)
            found = layers.Add()([block, same])
        latent = layers.Bidirectional(layers.LSTM(self.units))(found)
        back = layers.RepeatVector(steps)(latent)
        for _ in range(_BLOCKS[self.preset]):
            back = self._block(back)
        return keras.Model(window, layers.Dense(columns)(back)), latent

    def _block(self, sequence: Any) -> Any:
        from keras import layers

        return layers.LayerNormalization()(layers.Dropout(self.dropout)(layers.LSTM(self.units, return_sequences=True)(sequence)))


_BLOCKS = {"deep": 4, "medium": 2, "small": 1}
_NARROW = 5
