"""What a gateway with the older runtime makes of bundles; run by its own interpreter, which has the agent, tflite-runtime and little else.

Given a folder, it scores for every NAME.vedette the windows in NAME.npy, and leaves all that came out in NAME.npz.
"""

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import numpy as np

from vedette import runtimes
from vedette.contract.bundle import Bundle, open_bundle, self_test
from vedette.contract.errors import ScoreError
from vedette.contract.features import Rows
from vedette.contract.scores import Stage
from vedette.runtimes.litert import LiteRT


def main(folder: Path) -> None:
    assert not any(name.startswith(("ai_edge_litert", "onnxruntime", "tensorflow")) for name in sys.modules)
    for path in sorted(folder.glob("*.vedette")):
        bundle, windows = open_bundle(path), np.load(path.with_suffix(".npy"))
        found: dict[str, Any] = {}
        stages = [stage for stage in bundle.manifest.stages if stage.runtime == "litert"]
        assert stages
        if len(stages) == len(bundle.manifest.stages):
            scorer = runtimes.load_scorer(bundle)
            self_test(bundle, scorer)
            found["score"] = scorer.score(windows)
        for stage in stages:
            found |= {f"{stage.name}.{name}": values for name, values in run(bundle, stage, windows).items()}
        np.savez(path.with_suffix(".npz"), **found)
    print(np.__version__, importlib.metadata.version("tflite-runtime"))


def run(bundle: Bundle, stage: Stage, windows: Rows) -> dict[str, Rows]:
    """A stage's outputs, the same whatever the batches."""
    runtime = runtimes.load(stage, bundle.files[stage.file])
    assert isinstance(runtime, LiteRT)
    outputs = dict(runtime.run(windows))
    rng = np.random.default_rng(0)
    for cuts in (range(1, len(windows)), [7, 8, 40], np.unique(rng.integers(1, len(windows), 9))):
        parts = [runtime.run(part) for part in np.split(windows, cuts)]
        for name, values in outputs.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), values)
    try:
        runtime.run(windows[:, 1:])
    except ScoreError:
        return outputs
    raise AssertionError(f"{stage.name} took windows that are a step short")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
