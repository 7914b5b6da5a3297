import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vedette.contract.errors import BundleError, ScoreError
from vedette.contract.features import Category, Number, Rows
from vedette.contract.scores import Calibration, Scorer, Stage
from vedette_exporter import parity
from vedette_exporter.pack import pack

CALIBRATION = Calibration(centre=0.0, threshold=2.0)
WINDOWS = np.linspace(0, 4, 600, dtype=np.float32).reshape(600, 1, 1)
FEATURES = (Number(name="pressure", mean=4.0, scale=0.5, fill=5.0), Category(name="mode", values=("auto", "hand")))


class Model:
    """Gives a window's first value, `wrong` at some place."""

    def __init__(self, *, at: int | None = None, wrong: float = 0.0, by_batch: float = 0.0) -> None:
        self.at, self.wrong, self.by_batch = at, wrong, by_batch

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        raw = windows[:, 0, 0].copy()
        if self.at is not None and len(raw) == len(WINDOWS):
            raw[self.at] += self.wrong
        return {"raw": raw + np.float32(self.by_batch if len(raw) == 7 else 0)}


def check(model: Model, original: npt.NDArray[np.float32] = WINDOWS[:, 0, 0]) -> parity.Parity:
    stage = Stage(name="s", runtime="onnx", file="m", input="window", output="raw", calibration=CALIBRATION)
    return parity.check(WINDOWS, original, CALIBRATION, Scorer([stage], [model], "all"))[0]


def test_equal_models_pass() -> None:
    measured = check(Model())
    assert (measured.windows, measured.batch_sizes) == (600, (1, 2, 7, 32))
    assert measured.largest_difference < 1e-6


def test_one_window_in_hundreds_that_scores_differently_is_found() -> None:
    with pytest.raises(BundleError, match=r"1 of 600 windows score differently after conversion, by up to 0\.0005"):
        check(Model(at=10, wrong=0.001))


def test_score_that_is_no_number_is_refused_on_either_side() -> None:
    with pytest.raises(ScoreError):
        check(Model(at=10, wrong=np.nan))
    with pytest.raises(BundleError, match="by up to nan"):
        check(Model(), np.where(np.arange(600) == 10, np.nan, WINDOWS[:, 0, 0]).astype(np.float32))


def test_score_that_depends_on_the_size_of_the_batch_is_refused_however_little() -> None:
    with pytest.raises(BundleError, match="scores change in batches of 7"):
        check(Model(by_batch=1e-6))


def test_model_of_another_training_is_refused(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    run, other = two_runs
    tampered = shutil.copytree(run, tmp_path / "tampered.run")
    (model,) = other.glob("model.*")
    shutil.copy(model, tampered)
    with pytest.raises(BundleError, match=r"parity: \d+ of \d+ windows score differently .* no bundle was made"):
        pack(tampered, None, None)


def test_few_held_out_windows_are_used_again_with_noise() -> None:
    rng = np.random.default_rng(0)
    windows = parity.enough_windows(WINDOWS[:3], rng)
    assert windows.shape == (parity.MIN_WINDOWS, 1, 1)
    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows[:3], WINDOWS[:3])
    assert len(np.unique(windows)) == parity.MIN_WINDOWS
    assert parity.enough_windows(WINDOWS, rng) is WINDOWS


def test_extremes_hold_what_history_does_not() -> None:
    windows = parity.extremes(FEATURES, (4, 3), np.random.default_rng(0))
    assert windows.dtype == np.float32
    for wanted in (np.zeros((4, 3)), np.full((4, 3), 10), np.full((4, 3), -10), np.tile([2, 0, 0], (4, 1))):  # nothing sent: the fill
        assert (windows == wanted).all(axis=(1, 2)).any()
