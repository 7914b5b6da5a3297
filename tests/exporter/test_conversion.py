"""Converters by themselves, on what a detector's training rarely meets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from vedette.contract.errors import BundleError, ScoreError
from vedette.runtimes.litert import LiteRT
from vedette.runtimes.onnx import Onnx
from vedette_exporter import keras_onnx, keras_tflite, sklearn_onnx
from vedette_training.detectors.dbscan import CoreDistance
from vedette_training.detectors.one_class_svm import LogKernel
from vedette_training.models.keras_model import KerasModel
from vedette_training.models.sklearn_model import SklearnModel

Rows = npt.NDArray[np.float32]


def rows(count: int = 200, width: int = 6, seed: int = 2) -> Rows:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def exported(model: Any, given: Rows) -> Rows:
    """What the converted model gives, float32 `(n,)`."""
    outputs = Onnx(sklearn_onnx.convert(model, given.shape[1])).run(given)
    assert list(outputs) == ["strangeness"]
    assert outputs["strangeness"].shape == (len(given), 1)
    return outputs["strangeness"][:, 0]


def original(model: Any, given: Rows) -> Rows:
    return SklearnModel(model).run(given)["strangeness"]


@pytest.mark.parametrize(("samples", "max_features"), [(2, 1.0), (3, 1.0), (200, 0.5)])
def test_forest_of_any_make_is_exact(samples: int, max_features: float) -> None:
    given = rows().round(1)  # so that values meet thresholds
    forest = IsolationForest(n_estimators=30, max_samples=samples, max_features=max_features, random_state=1).fit(given)
    strangeness = exported(forest, given)
    np.testing.assert_allclose(strangeness, original(forest, given), atol=1e-6)
    assert (strangeness > 0).all()


def test_pipeline_in_a_pipeline_converts_as_a_whole() -> None:
    given = rows() * np.float32(3) + np.float32(100)
    turned = make_pipeline(PCA(4, whiten=True), IsolationForest(n_estimators=30, random_state=1))
    model = Pipeline([("scale", StandardScaler()), ("detect", turned)]).fit(given.astype(np.float64))
    np.testing.assert_allclose(exported(model, given), original(model, given), atol=1e-6)


def test_scaled_columns_are_rounded_as_scikit_learn_rounds_them() -> None:
    given = rows(2000) * np.float32(1e-3) + np.float32(0.7)
    scale = StandardScaler().fit(given.astype(np.float64))
    scaled = scale.transform(given)
    # At a core sample the distance is 0 only if every bit is equal.
    model = Pipeline([("scale", scale), ("detect", CoreDistance(scaled.astype(np.float32), 1.0))])
    np.testing.assert_array_equal(exported(model, given), np.zeros(len(given)))


def test_log_kernel_does_not_saturate_however_far_a_window_is() -> None:
    kernel = LogKernel(rows(50), np.linspace(0.1, 1, 50), 0.3)
    far = rows(20) * np.float32(10.0) ** np.arange(-3, 7, 0.5, dtype=np.float32)[:, None]
    np.testing.assert_allclose(exported(kernel, far), original(kernel, far), rtol=1e-6, atol=1e-6)
    assert exported(kernel, far)[-1] > 1e9


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_core_distance_finds_the_nearest_even_where_all_are_far_out(offset: float) -> None:
    cores = rows(300) + np.float32(offset)
    given = np.concatenate([cores, rows(100, seed=3) + np.float32(offset)])
    distance = CoreDistance(cores, 0.5)
    np.testing.assert_allclose(exported(distance, given), original(distance, given), rtol=1e-5)
    assert (exported(distance, given)[:300] == 0).all()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32])
def test_row_gets_equal_bits_in_any_batch(size: int) -> None:
    given = rows(515, 50)
    for model in (LogKernel(rows(80, 50), np.ones(80), 0.02), CoreDistance(rows(90, 50), 2.0)):
        runtime = Onnx(sklearn_onnx.convert(model, 50))
        parts = [runtime.run(given[start : start + size])["strangeness"] for start in range(0, 515, size)]
        np.testing.assert_array_equal(np.concatenate(parts), runtime.run(given)["strangeness"])


@pytest.mark.parametrize("last", [LocalOutlierFactor(novelty=True), PCA()])
def test_estimator_without_a_converter_is_refused(last: Any) -> None:
    with pytest.raises(BundleError, match=f"no conversion to ONNX for {type(last).__name__}"):
        sklearn_onnx.convert(make_pipeline(StandardScaler(), last).fit(rows()), 6)


def autoencoder(weights: list[Any] | None = None, units: int = 4) -> keras.Model:
    layers = keras.layers
    window = keras.Input((5, 3), name="window")
    found = layers.LayerNormalization()(layers.LSTM(units, return_sequences=True)(window))
    latent = layers.Bidirectional(layers.LSTM(units))(found)
    back = layers.TimeDistributed(layers.Dense(3))(layers.LSTM(units, return_sequences=True)(layers.RepeatVector(5)(latent)))
    by_column = keras.ops.mean(keras.ops.square(window - back), axis=1)
    error = keras.ops.mean(by_column, axis=1, keepdims=True)
    model = keras.Model(window, {"error": error, "feature_error": by_column, "latent": latent})
    if weights:
        model.set_weights(weights)
    return model


Convert = Callable[[Any], bytes]
UNROLLED: Convert = keras_tflite.convert_unrolled
LOOPS: Convert = keras_tflite.convert_loops
TO_ONNX: Convert = keras_onnx.convert


# Rows of five and of seven numbers begin anywhere in memory, and ONNX Runtime's own means round by where they do.
@pytest.mark.parametrize(
    ("convert", "load", "units"), [(UNROLLED, LiteRT, 4), (LOOPS, LiteRT, 4), (LOOPS, LiteRT, 7), (TO_ONNX, Onnx, 4), (TO_ONNX, Onnx, 7)]
)
def test_keras_model_gives_every_output_that_it_gave_in_batches_of_any_size(convert: Convert, load: type, units: int) -> None:
    model = autoencoder(units=units)
    windows = rows(64, 15).reshape(64, 5, 3)
    runtime = load(convert(model))
    outputs, expected = runtime.run(windows), KerasModel(model).run(windows)
    shapes = {name: values.shape for name, values in outputs.items()}
    assert shapes == {"error": (64, 1), "feature_error": (64, 3), "latent": (64, 2 * units)}
    for name, values in outputs.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
        for size in (1, 2, 3, 7, 32):
            parts = [runtime.run(windows[start : start + size])[name] for start in range(0, 64, size)]
            np.testing.assert_array_equal(np.concatenate(parts), values)


@pytest.mark.parametrize("convert", [UNROLLED, LOOPS, TO_ONNX])
def test_equal_models_give_equal_bytes_whatever_keras_made_before_them(convert: Convert, tmp_path: Path) -> None:
    model = autoencoder()
    again = autoencoder(model.get_weights())
    assert [layer.name for layer in model.layers] != [layer.name for layer in again.layers]
    again.save(tmp_path / "again.keras")
    loaded = KerasModel.load(tmp_path / "again.keras").original
    assert convert(model) == convert(again) == convert(loaded)


@pytest.mark.parametrize("convert", [UNROLLED, LOOPS, TO_ONNX])
def test_original_is_left_as_it_was(convert: Convert) -> None:
    model = autoencoder()
    before = model.get_config()
    convert(model)
    assert model.get_config() == before


def test_recurrent_layer_that_no_onnx_operator_computes_is_refused() -> None:
    window = keras.Input((5, 3), name="window")
    state = keras.layers.LSTM(4, activation="softplus", recurrent_activation="relu")(window)
    with pytest.raises(BundleError, match="export it with --runtime litert"):
        keras_onnx.convert(keras.Model(window, {"log_odds": keras.layers.Dense(1)(state)}))


def test_converted_model_with_a_fixed_batch_is_refused() -> None:
    fixed = keras.Model(inputs := keras.Input((4, 2), batch_size=1), keras.layers.LSTM(3)(inputs))
    converted = tf.lite.TFLiteConverter.from_keras_model(fixed).convert()
    with pytest.raises(BundleError, match="takes batches of 1, not of any size"):
        keras_tflite.check(converted)
    with pytest.raises(BundleError, match="takes batches of 1, not of 1, 32"):
        keras_tflite.check(converted, (1, 32))


@pytest.mark.parametrize("convert", [UNROLLED, LOOPS])
def test_model_that_needs_flex_operators_is_refused(convert: Convert) -> None:
    class Flexible(keras.layers.Layer):  # type: ignore[misc] # because keras is untyped
        def call(self, x: object) -> object:
            return tf.linalg.inv(x)

    window = keras.Input((3, 3))
    model = keras.Model(window, {"log_odds": Flexible()(window)})
    with pytest.raises(BundleError, match="no built-in operators for this model: MatrixInverse"):
        convert(model)


def test_flex_operator_is_found_in_a_loop() -> None:
    def invert_again_and_again(x: Any) -> Any:
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.linalg.inv(y)), (0, x))[1]

    function = tf.function(invert_again_and_again, input_signature=[tf.TensorSpec((1, 3, 3), tf.float32, name="window")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with pytest.raises(BundleError, match="needs FlexMatrixInverse"):
        keras_tflite.check(converter.convert(), (1,))


def test_model_with_loops_gives_equal_bits_whatever_sizes_of_batches_went_before() -> None:
    runtime = LiteRT(keras_tflite.convert_loops(autoencoder()))
    windows = rows(200, 15).reshape(200, 5, 3)
    expected = np.concatenate([runtime.run(windows[i : i + 1])["error"] for i in range(200)])
    for size in np.random.default_rng(0).integers(1, 200, 40).tolist():
        np.testing.assert_array_equal(runtime.run(windows[:size])["error"], expected[:size])


def test_model_without_a_signature_for_a_single_window_is_refused_by_the_runtime() -> None:
    inputs = keras.Input((4, 2), batch_size=2)
    fixed = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, keras.layers.Dense(3)(inputs))).convert()
    with pytest.raises(ScoreError, match="takes batches of 2 only, and of a single window not at all"):
        LiteRT(fixed)


@pytest.mark.parametrize("convert", [UNROLLED, LOOPS])
def test_windows_of_another_shape_are_refused_by_the_runtime(convert: Convert) -> None:
    runtime = LiteRT(convert(autoencoder()))
    for shape in ((1, 4, 3), (1, 5, 2), (1, 1, 3)):
        with pytest.raises(ScoreError):
            runtime.run(np.zeros(shape, np.float32))


def test_nearest_core_sample_is_found_among_many_that_are_nearly_as_near() -> None:
    rng = np.random.default_rng(3)
    centre = rng.normal(size=12)
    centre *= 6 / np.linalg.norm(centre)
    cores = (centre + rng.normal(0, 1e-3, (400, 12))).astype(np.float32)
    given = (cores[:200] + rng.normal(0, 2e-4, (200, 12))).astype(np.float32)
    distance = CoreDistance(cores, eps=0.5)
    np.testing.assert_allclose(exported(distance, given), original(distance, given), atol=1e-6)


def test_exported_dbscan_agrees_with_scikit_learns_at_ties() -> None:
    """On a grid, with every distance exact: windows at exactly eps, cores that stand twice, and several equally near."""
    eps = 5.0  # (3, 4) and (5, 0) are exactly so far from the origin
    given = np.random.default_rng(4).integers(0, 90, (500, 2)).astype(np.float32)
    given = np.concatenate([given, given[::9]])
    clusters = DBSCAN(eps=eps, min_samples=5).fit(given)
    cores = clusters.components_
    apart = np.linalg.norm(given[:, None].astype(np.float64) - cores, axis=2)
    nearest = apart.min(axis=1)
    assert len(np.unique(cores, axis=0)) < len(cores)
    assert (nearest == eps).sum() > 5
    assert ((apart == nearest[:, None]).sum(axis=1) > 1)[nearest > 0].sum() > 10
    assert 20 < (clusters.labels_ == -1).sum() < 500

    distances = exported(CoreDistance(cores, eps), given)
    np.testing.assert_array_equal(distances > 1, clusters.labels_ == -1)
    np.testing.assert_array_equal(distances == 1, nearest == eps)
    np.testing.assert_array_equal(distances == 0, np.isin(np.arange(len(given)), clusters.core_sample_indices_))
    np.testing.assert_allclose(distances, nearest / eps, rtol=1e-6)
