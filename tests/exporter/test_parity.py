from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from vedette.contract.adaptation import BINS, Adaptation
from vedette.contract.errors import BundleError, ScoreError
from vedette.contract.features import Categories, Category, DayOfWeek, Elapsed, FeatureEncoder, Number, Rows, TimeOfDay
from vedette.contract.scores import Calibration, Feed, Stage
from vedette_exporter import golden, parity
from vedette_exporter.parity import Pair

CALIBRATION = Calibration(centre=0.0, threshold=2.0)
WINDOWS = np.linspace(0, 4, 600, dtype=np.float32).reshape(600, 1, 1)
EXPECTED = WINDOWS[:, 0].astype(np.float64)
FEATURES = (Number(name="pressure", mean=4.0, scale=0.5, fill=5.0), Category(name="mode", values=("auto", "hand")))
STAGE = Stage(name="s", runtime="onnx", file="m", input="window", output="raw", calibration=CALIBRATION)


class Model:
    """Gives a window's first value, `wrong` near some value, or off in batches of seven."""

    def __init__(self, *, near: float | None = None, wrong: float = 0.0, by_batch: float = 0.0) -> None:
        self.near, self.wrong, self.by_batch = near, wrong, by_batch

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        raw = windows.reshape(len(windows), -1)[:, 0].copy()
        if self.near is not None:
            raw[np.abs(raw - self.near) < 0.003] += self.wrong
        return {"raw": raw + np.float32(self.by_batch if len(raw) == 7 else 0)}


class Steps:
    """Jumps where its input passes a whole multiple of `width`, as a forest does at its cuts."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        return {"raw": (np.floor(windows[:, 0] / self.width) * self.height).astype(np.float32)}


class Encoder:
    """Gives a window's first value, `off` by a little."""

    def __init__(self, off: float = 0.0) -> None:
        self.off = off

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        return {"latent": windows[:, 0] + np.float32(self.off)}


def single(model: Model) -> Pair:
    return Pair((STAGE,), "all", None, [Model()], [model])


def hybrid(*, off: float, width: float = 0.5, height: float = 0.004, judged: Steps | None = None) -> Pair:
    stages = (
        Stage(name="encoder", runtime="litert", file="e", input="window", output="latent"),
        Stage(name="s", runtime="onnx", file="m", input=Feed(stage="encoder", outputs=("latent",)), output="raw", calibration=CALIBRATION),
    )
    steps = Steps(width, height)
    return Pair(stages, "all", None, [Encoder(), steps], [Encoder(off), judged or steps])


def expected_of(pair: Pair) -> npt.NDArray[np.float64]:
    return pair.scorer(pair.original).raw(WINDOWS)


def test_equal_models_pass() -> None:
    measured, scores = parity.check(single(Model()), WINDOWS, EXPECTED)
    assert (measured.windows, measured.batch_sizes, measured.share_beyond) == (600, (1, 2, 7, 32), 0.0)
    assert measured.largest_difference < 1e-6
    np.testing.assert_allclose(scores, EXPECTED[:, 0] / 2, rtol=1e-6)


def test_one_window_in_hundreds_that_scores_differently_is_found() -> None:
    with pytest.raises(BundleError, match=r"stage s: 1 of 600 windows score differently .* by up to 0\.0005"):
        parity.check(single(Model(near=float(WINDOWS[10, 0, 0]), wrong=0.001)), WINDOWS, EXPECTED)


def test_model_that_changed_since_its_training_is_found() -> None:
    with pytest.raises(BundleError, match=r"300 of 600 windows score differently"):
        parity.check(single(Model()), WINDOWS, EXPECTED[:300] + 0.001)


def test_score_that_is_no_number_is_refused_on_either_side() -> None:
    with pytest.raises(ScoreError):
        parity.check(single(Model(near=0.5, wrong=np.nan)), WINDOWS, EXPECTED)
    with pytest.raises(BundleError, match="by up to nan"):
        parity.check(single(Model()), WINDOWS, np.where(np.arange(600)[:, None] == 10, np.nan, EXPECTED))


def test_score_that_depends_on_the_size_of_the_batch_is_refused_however_little() -> None:
    with pytest.raises(BundleError, match="scores change in batches of 7"):
        parity.check(single(Model(by_batch=1e-6)), WINDOWS, EXPECTED)


def test_rounding_ahead_of_a_fed_stage_may_carry_few_windows_over_a_cut() -> None:
    # Of 600 windows one, at 2, meets a cut; an encoder that is off by a millionth takes it over.
    pair = hybrid(off=-1e-6, width=4.0)
    measured, _ = parity.check(pair, WINDOWS, expected_of(pair))
    assert measured.stages["s"] == 0
    assert 0 < measured.share_beyond <= parity.FED_SHARE
    assert 1e-4 < measured.largest_difference <= parity.FED_LARGEST


def test_fed_stage_that_differs_on_the_same_input_is_refused_however_rarely() -> None:
    pair = hybrid(off=0.0, width=4.0, judged=Steps(4.0, 0.0045))
    with pytest.raises(BundleError, match=r"stage s: \d+ of 600 windows score differently after conversion, given the same input"):
        parity.check(pair, WINDOWS, expected_of(pair))


def test_encoder_that_is_off_by_more_than_rounding_is_refused() -> None:
    pair = hybrid(off=1e-3)
    with pytest.raises(BundleError, match="stage encoder: 600 of 600"):
        parity.check(pair, WINDOWS, expected_of(pair))


def test_fed_stage_is_refused_where_many_windows_cross_a_cut_or_one_jumps_far() -> None:
    many = hybrid(off=-5e-5, width=20 * 4 / 599)
    with pytest.raises(BundleError, match=r"allowed 0\.0001, or 0\.05 on 0\.5%"):
        parity.check(many, WINDOWS, expected_of(many))
    far = hybrid(off=-1e-6, width=4.0, height=0.5)
    with pytest.raises(BundleError, match=r"2 of 600 windows .* by up to 0\.25"):
        parity.check(far, WINDOWS, expected_of(far))


def test_golden_windows_stay_clear_of_cuts() -> None:
    pair = hybrid(off=0.0)
    scores = pair.scorer(pair.exported).score(WINDOWS)
    on_cuts = np.flatnonzero(np.abs(WINDOWS[:, 0, 0] / 0.5 - np.round(WINDOWS[:, 0, 0] / 0.5)) < 1e-6)
    chosen = golden.choose(pair, WINDOWS, scores, np.random.default_rng(0))
    assert len(on_cuts) > 1
    assert not set(chosen) & set(on_cuts[1:].tolist())  # the first is 0, which no relative error moves
    assert len(chosen) == golden.WINDOWS


def test_golden_windows_span_the_scores_where_nothing_is_fed() -> None:
    pair = single(Model())
    chosen = golden.choose(pair, WINDOWS, pair.scorer(pair.exported).score(WINDOWS), np.random.default_rng(0))
    assert (len(chosen), chosen[0], chosen[-1]) == (golden.WINDOWS, 0, 599)


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


def test_capped_surprisals_hide_no_difference() -> None:
    adaptation = Adaptation(origin=0.0, unit=1e-3, seed=(1.0, *[0.0] * (BINS - 1)), weight=100.0, half_life=100.0, cap=2.0)
    stage = msgspec.structs.replace(STAGE, calibration=Calibration(centre=0.0, threshold=1.0, adaptation=adaptation))
    pair = Pair((stage,), "all", None, [Model()], [Model(near=3.0, wrong=0.5)])
    expected, found = (pair.scorer(models).score(WINDOWS) for models in (pair.original, pair.exported))
    np.testing.assert_array_equal(expected, found)
    with pytest.raises(BundleError, match="stage s: 1 of 600 windows"):
        parity.check(pair, WINDOWS, EXPECTED)


def test_extremes_are_numbers_whatever_the_features() -> None:
    features = (*FEATURES, Categories(name="roles", values=("a", "b")), TimeOfDay(), DayOfWeek(), Elapsed())
    columns = len(FeatureEncoder(features).columns)
    assert np.isfinite(parity.extremes(features, (4, columns), np.random.default_rng(0))).all()
