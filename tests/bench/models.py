"""Bundles of the size that is measured, made here: what a model has learnt does not change what it costs.

Run as a program, `models.py STATE_DIR` installs the one-step models as an operator would; benches do so in a process of its own,
because TensorFlow is large, has threads, and talks.
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bundles as small
from vedette.contract.features import FeatureSpec, Number
from vedette.contract.scores import Calibration, Stage
from vedette.contract.windows import WindowSpec

LSTM, DEVIATION = "lstm-1", "deviation-1"
"""The one-step models: an LSTM(64) over two features in LiteRT, and a largest deviation in ONNX Runtime that costs next to nothing."""

FEATURES: FeatureSpec = (
    Number(name="temperature", minimum=-50.0, maximum=80.0, mean=4.0, scale=1.0),
    Number(name="humidity", minimum=0.0, maximum=100.0, mean=55.0, scale=5.0),
)


def lstm_bundle(name: str, steps: int, units: int = 64) -> bytes:
    """An LSTM classifier over FEATURES, untrained, exported as a trained one is.

    Its threshold lies above what a sigmoid can give: alerts are rare on a gateway, so a bench of the hot path has none.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from vedette_exporter import keras_tflite

    keras.utils.set_random_seed(1)
    layers = keras.layers
    inputs = keras.Input((steps, len(FEATURES)), name="window")
    hidden = layers.Dropout(0.3)(layers.LSTM(units)(inputs))
    model = keras.Model(inputs, {"log_odds": layers.Dense(1)(hidden)})
    stage = Stage(
        name="lstm",
        runtime="litert",
        file="model.tflite",
        input="window",
        output="log_odds",
        calibration=Calibration(centre=0.0, threshold=2.0),
    )
    return small.pack(stage, keras_tflite.convert_unrolled(model), name, "1.0.0", FEATURES, WindowSpec(steps=steps))


def install_one_step(state_dir: Path) -> None:
    """Put LSTM and DEVIATION into a state folder.

    Raises:
        RuntimeError: with the last of what the program said.
    """
    made = subprocess.run([sys.executable, __file__, str(state_dir)], capture_output=True, text=True, check=False, timeout=120)
    if made.returncode:
        raise RuntimeError(f"the models cannot be made: {made.stderr.strip().splitlines()[-1]}")


def main(state_dir: Path) -> None:
    """Make and install the one-step models."""
    small.install(state_dir, lstm_bundle(LSTM, steps=1))
    small.install(state_dir, small.make_bundle(name=DEVIATION, features=FEATURES[:1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
