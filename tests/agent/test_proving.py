from pathlib import Path
from unittest import mock

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

from bundles import make_bundle
from vedette.contract import bundle as bundles
from vedette.contract.errors import DigestError, ScoreError, SelfTestError
from vedette.proving import prove

AXES = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
LARGEST = helper.make_node("ReduceMax", ["window", "axes"], ["largest"], keepdims=0)


def with_model(path: Path, nodes: list[onnx.NodeProto], *constants: onnx.TensorProto) -> Path:
    """A whole bundle of the right digests whose model is `nodes`, from `window` to `raw`."""
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["n", 1, 1])
    raw = helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "model", [window], [raw], initializer=[AXES, *constants])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made = bundles.read(make_bundle())
    files = bundles.with_golden({"model.onnx": model.SerializeToString()}, made.golden_windows, made.golden_scores)
    path.write_bytes(bundles.write(msgspec.structs.replace(made.manifest, files=bundles.entries(files)), files))
    return path


def test_a_good_bundle_proves_itself(tmp_path: Path) -> None:
    path = tmp_path / "fridge.vedette"
    path.write_bytes(make_bundle())
    proof = prove(path)
    assert proof.sha256 == bundles.open_bundle(path).sha256
    assert (proof.windows, proof.largest_difference) == (32, 0.0)
    assert proof.us_per_window > 0
    assert 10e6 < proof.peak_bytes < 512e6


def test_the_memory_of_whoever_asks_for_the_proof_is_not_the_bundles(tmp_path: Path) -> None:
    path = tmp_path / "fridge.vedette"
    path.write_bytes(make_bundle())
    held = b"x" * 600_000_000
    assert prove(path).peak_bytes < len(held) / 2


def test_a_damaged_bundle_is_refused_as_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "fridge.vedette"
    path.write_bytes(make_bundle()[:-200] + b"x" * 200 + make_bundle()[-71:])
    with pytest.raises(DigestError, match=r"fridge\.vedette: damaged"):
        prove(path)


def test_a_model_that_scores_otherwise_is_refused(tmp_path: Path) -> None:
    path = with_model(tmp_path / "x.vedette", [LARGEST, helper.make_node("Neg", ["largest"], ["raw"])])
    with pytest.raises(SelfTestError, match=r"fridge 1\.0\.0 scores its golden windows differently"):
        prove(path)


def test_a_model_that_gives_no_number_is_refused(tmp_path: Path) -> None:
    nodes = [LARGEST, helper.make_node("Neg", ["largest"], ["minus"]), helper.make_node("Log", ["minus"], ["raw"])]
    with pytest.raises(ScoreError, match="did not give one finite number a window"):
        prove(with_model(tmp_path / "x.vedette", nodes))


def test_a_model_that_eats_memory_is_refused(tmp_path: Path) -> None:
    nodes = [
        LARGEST,
        helper.make_node("Cast", ["largest"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Sub", ["whole", "whole"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["many", "zero"], ["shape"]),  # not a constant, or the runtime would work it out when it loads
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", ["largest", "most"], ["raw"]),
    ]
    path = with_model(tmp_path / "x.vedette", nodes, helper.make_tensor("many", TensorProto.INT64, [1], [400_000_000]))
    with pytest.raises(ScoreError, match="ONNX Runtime, input of shape"):
        prove(path)


def test_a_model_that_never_ends_is_stopped(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, ["n"]),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("after", TensorProto.FLOAT, ["n"])],
    )
    constants = [helper.make_tensor("turns", TensorProto.INT64, [], [2**60]), helper.make_tensor("yes", TensorProto.BOOL, [], [True])]
    path = with_model(
        tmp_path / "x.vedette", [LARGEST, helper.make_node("Loop", ["turns", "yes", "largest"], ["raw"], body=body)], *constants
    )
    with pytest.raises(SelfTestError, match="did not score the golden windows within 2 s here"):
        prove(path, timeout_s=2)


def test_a_crash_is_told_by_its_name_and_takes_nothing_along(tmp_path: Path) -> None:
    path = tmp_path / "fridge.vedette"
    path.write_bytes(make_bundle())
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    with (
        mock.patch("sys.executable", str(crashing)),
        pytest.raises(SelfTestError, match=r"crash the runtime here \(SIGSEGV\); it must not"),
    ):
        prove(path)
    crashing.write_text("#!/bin/sh\necho no room >&2\nexit 3\n")
    with (
        mock.patch("sys.executable", str(crashing)),
        pytest.raises(SelfTestError, match=r"could not be tried here \(exit code 3\): no room"),
    ):
        prove(path)
