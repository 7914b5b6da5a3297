"""Small real bundles for tests: an ONNX model whose score can be worked out by hand."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from vedette.contract import bundle as bundles
from vedette.contract.features import Category, FeatureEncoder, FeatureSpec, Number
from vedette.contract.manifest import Manifest, Source, TrainedOn
from vedette.contract.scores import Calibration, Scorer, Stage
from vedette.contract.windows import WindowSpec
from vedette.runtimes import load

TEMPERATURE = Number(name="temperature", minimum=-50.0, maximum=80.0, mean=4.0, scale=1.0)
DOOR = Category(name="door", values=("closed", "open"), usual="closed")


def largest_deviation_model(steps: int, columns: int) -> bytes:
    """A model whose raw output is the largest absolute value in the window: |temperature - 4| for TEMPERATURE alone."""
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["n", steps, columns])
    raw = helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["n"])
    nodes = [
        helper.make_node("Abs", ["window"], ["distance"]),
        helper.make_node("ReduceMax", ["distance", "axes"], ["raw"], keepdims=0),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    graph = helper.make_graph(nodes, "largest_deviation", [window], [raw], initializer=[axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_bundle(
    *,
    name: str = "fridge",
    version: str = "1.0.0",
    features: FeatureSpec = (TEMPERATURE,),
    window: WindowSpec | None = None,
    threshold: float = 4.0,
) -> bytes:
    """A bundle whose score is the window's largest deviation in sigma, over `threshold`."""
    window = window or WindowSpec()
    columns = len(FeatureEncoder(features).columns)
    stage = Stage(
        name="deviation",
        runtime="onnx",
        file="model.onnx",
        input="window",
        output="raw",
        calibration=Calibration(centre=0.0, threshold=threshold),
    )
    return pack(stage, largest_deviation_model(window.steps, columns), name, version, features, window)


def pack(stage: Stage, model: bytes, name: str, version: str, features: FeatureSpec, window: WindowSpec) -> bytes:
    """A bundle of one stage, with noise for golden windows."""
    shape = (window.steps, len(FeatureEncoder(features).columns))
    golden = np.random.default_rng(0).normal(size=(32, *shape)).astype(np.float32)
    scores = Scorer([stage], [load(stage, model)], "all").score(golden)
    files = bundles.with_golden({stage.file: model}, golden, scores)
    digest = hashlib.sha256(b"test").hexdigest()
    manifest = Manifest(
        name=name,
        version=version,
        created=1_790_000_000,
        detector="lstm" if stage.runtime == "litert" else "isolation_forest",
        features=features,
        window=window,
        stages=(stage,),
        trained_on=TrainedOn(recipe=digest, sources=(Source(name="test", sha256=digest, rows=1),), windows=1, first=0.0, last=1.0),
        metrics={},
        libraries={},
        files=bundles.entries(files),
    )
    return bundles.write(manifest, files)


def install(state_dir: Path, data: bytes) -> None:
    """Put a bundle into a store as an operator would."""
    from vedette.store import Store

    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / "given.vedette"
    path.write_bytes(data)
    Store(state_dir).install(path)
