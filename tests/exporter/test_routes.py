"""Which of several conversions is taken. The models are ONNX graphs written here, loaded by the gateway's own runtime."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vedette.contract.errors import BundleError
from vedette.contract.scores import Calibration, Stage
from vedette.runtimes.onnx import Onnx
from vedette_exporter import routes
from vedette_exporter.parity import Recorder
from vedette_exporter.routes import Route

STAGE = Stage(name="s", runtime="onnx", file="m", input="flat", output="raw", calibration=Calibration(centre=0.0, threshold=2.0))
ROWS = np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32)


def model(factor: float = 2.0, *, other: float = 1.0, rounds: int = 1, batch: str | int = "n") -> bytes:
    """Gives `factor` x the first column as `raw` and `other` x it as `other`, after so many products of the whole by one."""
    arrays = {"start": [0], "end": [1], "axis": [1], "unit": np.eye(64, dtype=np.float32), "factor": np.array([factor, other], np.float32)}
    nodes = [helper.make_node("MatMul", [f"rows_{i}" if i else "rows", "unit"], [f"rows_{i + 1}"]) for i in range(rounds)]
    nodes += [
        helper.make_node("Slice", [f"rows_{rounds}", "start", "end", "axis"], ["first"]),
        helper.make_node("Mul", ["first", "factor"], ["both"]),
        helper.make_node("Split", ["both"], ["raw", "other"], axis=1, num_outputs=2),
    ]
    constants = [onnx.numpy_helper.from_array(np.asarray(values), name) for name, values in arrays.items()]
    given = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [batch, 64])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 1]) for name in ("raw", "other")]
    graph = helper.make_graph(nodes, "model", [given], outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def original() -> Recorder:
    recorder = Recorder(Onnx(model()))
    recorder.run(ROWS)
    return recorder


def choose(original: Recorder, *ways: tuple[str, Callable[[], bytes]], max_bytes: int = 2**20) -> routes.Chosen:
    return routes.choose(STAGE, [Route(*way) for way in ways], original, feeds=False, max_bytes=max_bytes)


def test_clearly_quicker_route_is_taken_wherever_it_stands(original: Recorder) -> None:
    slow, quick = ("slow", lambda: model(rounds=60)), ("quick", model)
    for ways in ((slow, quick), (quick, slow)):
        chosen = choose(original, *ways)
        assert [one.route for one in chosen.tried if one.is_taken] == ["quick"]
        assert chosen.model == model()
        assert all(set(one.us_per_window) == {1, 32} for one in chosen.tried)


def test_the_first_is_taken_of_routes_that_are_equally_quick(original: Recorder) -> None:
    assert [one.is_taken for one in choose(original, ("first", model), ("second", model), ("third", model)).tried] == [True, False, False]


@pytest.mark.parametrize(
    ("us", "expected"),
    [
        ([{}], 0),
        ([{1: 100.0, 32: 10.0}, {1: 81.0, 32: 8.1}], 0),
        ([{1: 100.0, 32: 10.0}, {1: 79.0, 32: 7.9}], 1),
        ([{1: 100.0, 32: 10.0}, {1: 79.0, 32: 7.9}, {1: 70.0, 32: 7.0}], 1),
        ([{1: 100.0, 32: 10.0}, {1: 200.0, 32: 2.0}], 1),
    ],
)
def test_a_later_route_must_be_quicker_by_a_fifth(us: list[dict[int, float]], expected: int) -> None:
    assert routes.quickest(us) == expected


def test_route_that_does_not_pass_is_dropped_with_its_reason(original: Recorder) -> None:
    def cannot() -> bytes:
        raise BundleError("there is no such operator")

    chosen = choose(
        original,
        ("impossible", cannot),
        ("no model", lambda: b"no model"),
        ("wrong", lambda: model(2.001)),
        ("wrong elsewhere", lambda: model(other=1.001)),
        ("of one batch", lambda: model(batch=3)),
        ("right", model),
    )
    impossible, garbage, wrong, elsewhere, fixed, right = chosen.tried
    assert impossible.refused == "there is no such operator"
    assert str(garbage.refused).startswith("ONNX Runtime refuses the model")
    assert "windows score differently after conversion" in str(wrong.refused)
    assert "windows score differently after conversion" in str(elsewhere.refused)
    assert str(fixed.refused).startswith("ONNX Runtime, input of shape")
    assert (right.refused, right.is_taken, chosen.model) == (None, True, model())


def test_there_is_no_bundle_where_no_route_passes(original: Recorder) -> None:
    limit = len(model(2.001))
    with pytest.raises(
        BundleError, match=rf"stage s: no conversion passes: a: parity: .* differently .*; b: \d+ bytes are more than the {limit}"
    ):
        choose(original, ("a", lambda: model(2.001)), ("b", lambda: model(rounds=9)), max_bytes=limit)
