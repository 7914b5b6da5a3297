"""The LSTM of one operation beside Keras' own."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from vedette_training.detectors.lstm_autoencoder import LstmAutoencoder
from vedette_training.models.block_lstm import BlockLSTM, quickened

STEPS, COLUMNS = 30, 7


def windows(spread: float = 1.0) -> Any:
    return tf.constant(np.random.default_rng(0).normal(0, spread, (64, STEPS, COLUMNS)).astype(np.float32))


def gradients(model: Any, some: Any) -> list[Any]:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(some, training=False) - some) ** 2)
    return [gradient.numpy() for gradient in tape.gradient(loss, model.trainable_variables)]


@pytest.mark.parametrize("preset", ["deep", "small", "steps"])
@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_outputs_and_gradients_are_those_of_keras(preset: str, spread: float) -> None:
    keras.utils.set_random_seed(1)
    model = LstmAutoencoder(preset=preset).build((STEPS, COLUMNS))[0]  # type: ignore[arg-type] # because a parameter is any text
    quick = quickened(model)
    some = windows(spread)
    np.testing.assert_allclose(quick(some), model(some), atol=1e-4)
    for ours, theirs in zip(gradients(quick, some), gradients(model, some), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


def test_every_lstm_becomes_one_operation() -> None:
    quick = quickened(LstmAutoencoder().build((STEPS, COLUMNS))[0])
    (both,) = [layer for layer in quick.layers if isinstance(layer, keras.layers.Bidirectional)]
    found = [both.forward_layer, both.backward_layer, *(layer for layer in quick.layers if isinstance(layer, keras.layers.LSTM))]
    assert len(found) == 10
    assert all(isinstance(layer, BlockLSTM) for layer in found)


def test_what_the_kernel_does_not_compute_stays_keras_own() -> None:
    window = keras.Input((STEPS, COLUMNS))
    model = keras.Model(window, keras.layers.LSTM(4, activation="relu")(window))
    quick = quickened(model)
    assert not any(isinstance(layer, BlockLSTM) for layer in quick.layers)
    np.testing.assert_array_equal(quick(windows()), model(windows()))
