"""The bench of bundles works, and what cannot be measured says why."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import figures
from bench.figures import Figures

BENCH = Path(__file__).parent


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Figures, str]:
    path = tmp_path_factory.mktemp("bundles") / "bundles.json"
    command = [sys.executable, str(BENCH / "bundles.py"), "--only", "conversion", "--quick", "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return figures.read(path), done.stdout


def test_every_cell_of_the_matrix_is_measured_or_says_why_not(quick: tuple[Figures, str]) -> None:
    found, printed = quick
    for detector in ("isolation_forest", "pca"):
        for runtime in ("litert", "onnx"):
            for precision in ("float32", "float16", "int8"):
                cell = [row for row in found.rows if row.name.startswith(f"{detector}, {runtime}, {precision}: ")]
                if runtime == "litert" or (detector == "isolation_forest" and precision != "float32"):
                    assert [row.runs for row in cell] == [0]
                    assert "ONNX only" in cell[0].name or f"has no {precision} form" in cell[0].name
                else:
                    figures_of_it = {row.name.rpartition(": ")[2] for row in cell}
                    assert {"parity", "model files", "average precision", "1 a call", "32 a call", "256 a call"} <= figures_of_it
                    assert all(row.value > 0 for row in cell if "flipped" not in row.name and "parity" not in row.name)
    assert "none of isolation_forest onnx float16: isolation_forest has no float16 form" in printed


def test_bars_are_those_of_the_issue(quick: tuple[Figures, str]) -> None:
    barred = {row.name: row.bar for row in quick[0].rows if row.bar is not None}
    assert barred["isolation_forest, onnx, float32: parity"] == 1e-4
    assert barred["isolation_forest, onnx, float32: 1 a call"] == 40.0
    assert barred["pca, onnx, int8: parity"] == 0.25
