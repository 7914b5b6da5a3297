"""Exported TFLite files on a gateway with tflite-runtime 2.14 and numpy 1.26, the only runtime that there is for 32-bit ARM."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exports import Exports
from vedette import runtimes
from vedette.contract import bundle as bundles
from vedette_training import run as runs

KINDS = (
    "lstm", "lstm as loops", "lstm_autoencoder", "lstm_autoencoder as loops", "lstm_autoencoder-deep", "lstm_autoencoder-steps",
    "hybrid-all", "hybrid-any", "hybrid-mean", "lstm-wide in float16", "lstm-wide in int8", "lstm_autoencoder-wide in int8",
)  # fmt: skip
OLDER = Path(__file__).parent / "older_runtime.py"


@pytest.mark.parametrize("kind", KINDS)
def test_bundle_loads_and_agrees_under_the_older_runtime(kind: str, exports: Exports, tflite_python: str, tmp_path: Path) -> None:
    exported = exports(kind)
    windows = runs.read(exported.folder)[1].windows[:150]
    (tmp_path / "pump.vedette").write_bytes(exported.packed.data)
    np.save(tmp_path / "pump.npy", windows)
    done = subprocess.run([tflite_python, OLDER, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1.26.4 2.14.0\n"), done.stderr

    bundle = bundles.read(exported.packed.data)
    expected: dict[str, Any] = {}
    for stage in bundle.manifest.stages:
        if stage.runtime == "litert":
            outputs = runtimes.load(stage, bundle.files[stage.file]).run(windows)
            expected |= {f"{stage.name}.{name}": values for name, values in outputs.items()}
    if "hybrid" not in kind:  # whose other stages need ONNX Runtime
        expected["score"] = runtimes.load_scorer(bundle).score(windows)
    found = np.load(tmp_path / "pump.npz")
    assert set(found) == set(expected)
    # Its int8 kernels round a window on the edge between two integers to the other one; the self-test has its own, stricter say on scores.
    tolerance = 2e-2 if "int8" in kind else 1e-4
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance * max(1.0, float(values.std())), err_msg=name)
