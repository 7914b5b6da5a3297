"""Bundles of the size that is measured, made here: what a model has learnt does not change what it costs.

Run as a program, `models.py STATE_DIR NAME…` installs the named ones as an operator would; benches do so in a process of its own,
because TensorFlow is large, has threads, and talks. Each model's own file lies beside its bundle, for programs that do without one.

Rules this module keeps: a threshold lies above what the model can give, so that a bench of the hot path has no alerts; DEVIATION alone,
whose score can be worked out by hand, gives them when it is asked to.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bundles as small
from vedette.contract.features import FeatureSpec, Number
from vedette.contract.scores import Calibration, Stage
from vedette.contract.windows import WindowSpec

LSTM, DEVIATION, FOREST = "lstm-1", "deviation-1", "forest-1"
"""The one-step models over two features: an LSTM(64) in LiteRT, a largest deviation in ONNX Runtime that costs next to nothing (it looks at
the temperature alone), and an isolation forest of 100 trees in ONNX Runtime.
"""

LSTM_30, AUTOENCODER_50, DEVIATION_5 = "lstm-30", "lstm-ae-50", "deviation-5"
"""Windows: an LSTM(64) over 30 steps, the notebook's LSTM autoencoder over 50, and the largest deviation of 5."""

STEPS: Mapping[str, int] = {LSTM: 1, DEVIATION: 1, FOREST: 1, LSTM_30: 30, AUTOENCODER_50: 50, DEVIATION_5: 5}

FEATURES: FeatureSpec = (
    Number(name="temperature", minimum=-50.0, maximum=80.0, mean=4.0, scale=1.0),
    Number(name="humidity", minimum=0.0, maximum=100.0, mean=55.0, scale=5.0),
)

_UNREACHABLE = 1000.0


class Made(NamedTuple):
    """A model as its bundle and as its own file."""

    bundle: bytes
    model: bytes


def model_file(state_dir: Path, name: str) -> Path:
    """Where `install` leaves a model's own file."""
    return state_dir / "files" / f"{name}.{'tflite' if name.startswith('lstm') else 'onnx'}"


def install(state_dir: Path, names: Sequence[str]) -> None:
    """Put models into a state folder.

    Raises:
        RuntimeError: with the last of what the program said.
    """
    command = [sys.executable, __file__, str(state_dir), *names]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if made.returncode:
        raise RuntimeError(f"the models cannot be made: {made.stderr.strip().splitlines()[-1]}")


def _lstm(name: str, steps: int) -> Made:
    keras = _keras()
    layers = keras.layers
    inputs = keras.Input((steps, len(FEATURES)), name="window")
    hidden = layers.Dropout(0.3)(layers.LSTM(64)(inputs))
    return _litert(name, steps, keras.Model(inputs, {"log_odds": layers.Dense(1)(hidden)}), "log_odds")


def _autoencoder(name: str, steps: int) -> Made:
    """With the outputs that training gives it."""
    keras = _keras()
    from vedette_training.detectors.lstm_autoencoder import ERROR, FEATURE_ERROR, LATENT, LstmAutoencoder

    autoencoder, latent = LstmAutoencoder().build((steps, len(FEATURES)))
    by_column = keras.ops.mean(keras.ops.square(autoencoder.input - autoencoder.output), axis=1)
    error = keras.ops.mean(by_column, axis=1, keepdims=True)
    model = keras.Model(autoencoder.input, {ERROR: error, FEATURE_ERROR: by_column, LATENT: latent})
    return _litert(name, steps, model, ERROR)


def _forest(name: str, steps: int) -> Made:
    """scikit-learn's default of 100 trees, fitted to noise."""
    import numpy as np
    from sklearn.ensemble import IsolationForest

    from vedette_exporter import sklearn_onnx
    from vedette_training.models.sklearn_model import OUTPUT

    width = steps * len(FEATURES)
    rows = np.random.default_rng(1).normal(size=(2048, width)).astype(np.float32)
    model = sklearn_onnx.convert(IsolationForest(n_estimators=100, random_state=1).fit(rows), width)
    stage = Stage(name="forest", runtime="onnx", file="model.onnx", input="flat", output=OUTPUT, calibration=_calibration())
    return Made(small.pack(stage, model, name, "1.0.0", FEATURES, WindowSpec(steps=steps)), model)


def _deviation(name: str, steps: int) -> Made:
    bundle = small.make_bundle(name=name, features=FEATURES[:1], window=WindowSpec(steps=steps))
    return Made(bundle, small.largest_deviation_model(steps, 1))


def _litert(name: str, steps: int, keras_model: Any, output: str) -> Made:
    from vedette_exporter import keras_tflite

    model = keras_tflite.convert_unrolled(keras_model)
    stage = Stage(name="lstm", runtime="litert", file="model.tflite", input="window", output=output, calibration=_calibration())
    return Made(small.pack(stage, model, name, "1.0.0", FEATURES, WindowSpec(steps=steps)), model)


def _calibration() -> Calibration:
    return Calibration(centre=0.0, threshold=_UNREACHABLE)


def _keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(1)
    return keras


_MAKERS: Mapping[str, Callable[[str, int], Made]] = {
    LSTM: _lstm,
    LSTM_30: _lstm,
    AUTOENCODER_50: _autoencoder,
    FOREST: _forest,
    DEVIATION: _deviation,
    DEVIATION_5: _deviation,
}


def main(state_dir: Path, names: Sequence[str]) -> None:
    """Make and install models."""
    for name in names:
        made = _MAKERS[name](name, STEPS[name])
        small.install(state_dir, made.bundle)
        path = model_file(state_dir, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made.model)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
