"""A gateway that lacks a model runtime says which, and what to do."""

import importlib.metadata
import sys
from typing import Literal

import pytest
from packaging.requirements import Requirement

from vedette.contract.errors import ScoreError
from vedette.contract.scores import Calibration, Stage
from vedette.runtimes import load


@pytest.mark.parametrize(
    ("runtime", "modules", "advice"),
    [
        ("onnx", ["onnxruntime", "vedette.runtimes.onnx"], "; there is none for 32-bit ARM, which runs TFLite models only"),
        ("litert", ["ai_edge_litert.interpreter", "tflite_runtime", "vedette.runtimes.litert"], ""),
    ],
)
def test_a_runtime_that_is_not_there_is_named_with_what_to_do(
    runtime: Literal["onnx", "litert"], modules: list[str], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in modules[:-1]:
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, modules[-1], raising=False)
    calibration = Calibration(centre=0.0, threshold=1.0)
    stage = Stage(name="only", runtime=runtime, file="model", input="window", output="raw", calibration=calibration)
    with pytest.raises(ScoreError) as raised:
        load(stage, b"")
    assert str(raised.value) == f"stage only needs the {runtime} runtime, which is not installed: pip install 'vedette[gateway]'{advice}"


@pytest.mark.parametrize(
    ("machine", "brought"),
    [("x86_64", {"ai-edge-litert", "onnxruntime"}), ("aarch64", {"ai-edge-litert", "onnxruntime"}), ("armv7l", {"tflite-runtime"})],
)
def test_a_gateway_gets_the_runtimes_that_are_made_for_its_processor(machine: str, brought: set[str]) -> None:
    asked = [Requirement(text) for text in importlib.metadata.requires("vedette") or []]
    environment = {"extra": "gateway", "platform_machine": machine, "python_version": "3.11"}
    wanted = [each for each in asked if each.marker is None or each.marker.evaluate(environment)]
    assert {each.name for each in wanted} & {"ai-edge-litert", "onnxruntime", "tflite-runtime"} == brought
    assert any("2.4.6" not in each.specifier for each in wanted if each.name == "numpy") == (machine == "armv7l")
