from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.ensemble import IsolationForest

from vedette.contract.errors import BundleError
from vedette.contract.features import FeatureEncoder
from vedette.contract.features import fit as fit_features
from vedette.runtimes.litert import LiteRT
from vedette.runtimes.onnx import Onnx
from vedette_exporter import keras_tflite, sklearn_onnx
from vedette_training import history
from vedette_training import recipe as recipes


@pytest.fixture(scope="module")
def fridge_rows(fridge_60k: Path) -> np.ndarray:
    """Every tenth row of the fridge file, scaled."""
    recipe = recipes.load("fridge-lstm")
    values = history.read(recipe, [fridge_60k]).values[::10]
    encoder = FeatureEncoder(fit_features(recipe.features, values))
    return encoder.transform(encoder.encode(values))


def lstm(steps: int, columns: int, *, unroll: bool) -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((steps, columns)), keras.layers.LSTM(16, unroll=unroll), keras.layers.Dense(1, activation="sigmoid")]
    )


def test_tflite_gives_what_keras_gives_on_fridge_rows(fridge_rows: np.ndarray) -> None:
    model = lstm(1, fridge_rows.shape[1], unroll=True)
    windows = fridge_rows[:, None, :]
    exported = LiteRT(keras_tflite.convert(model, "probability")).run(windows)["probability"]
    np.testing.assert_allclose(exported, model.predict(windows, verbose=0), atol=1e-4)


def test_onnx_gives_what_scikit_learn_gives_on_fridge_rows(fridge_rows: np.ndarray) -> None:
    forest = IsolationForest(random_state=1).fit(fridge_rows)
    exported = Onnx(sklearn_onnx.convert(forest, fridge_rows.shape[1])).run(fridge_rows)["score_samples"]
    np.testing.assert_allclose(exported[:, 0], forest.score_samples(fridge_rows), atol=1e-5)


@pytest.mark.parametrize(("samples", "max_features"), [(2, 1.0), (3, 1.0), (200, 0.5)])
def test_forest_of_any_make_is_exact(samples: int, max_features: float) -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(200, 6)).round(1).astype(np.float32)  # rounded, so that values meet thresholds
    forest = IsolationForest(n_estimators=30, max_samples=samples, max_features=max_features, random_state=1).fit(rows)
    exported = Onnx(sklearn_onnx.convert(forest, 6)).run(rows)["score_samples"]
    np.testing.assert_allclose(exported[:, 0], forest.score_samples(rows), atol=1e-6)


def test_forest_computes_nothing_but_its_score() -> None:
    forest = IsolationForest(n_estimators=5, random_state=1).fit(np.random.default_rng(0).normal(size=(50, 2)))
    assert list(Onnx(sklearn_onnx.convert(forest, 2)).run(np.zeros((3, 2), np.float32))) == ["score_samples"]


def test_converted_model_with_a_fixed_batch_is_refused() -> None:
    fixed = keras.Model(inputs := keras.Input((4, 2), batch_size=1), lstm(4, 2, unroll=False)(inputs))
    converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
    with pytest.raises(BundleError, match="batches of one size only"):
        keras_tflite.check(converter.convert())


def test_model_that_needs_flex_operators_is_refused() -> None:
    class Flexible(keras.layers.Layer):  # type: ignore[misc] # because keras is untyped
        def call(self, x: object) -> object:
            return tf.linalg.inv(x)

    model = keras.Sequential([keras.Input((3, 3)), Flexible()])
    with pytest.raises(BundleError, match="no built-in operators for this model: MatrixInverse"):
        keras_tflite.convert(model, "probability")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with pytest.raises(BundleError, match="needs FlexMatrixInverse"):
        keras_tflite.check(converter.convert())
