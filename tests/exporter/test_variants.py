"""Variants float16 and int8: what a gateway relies on, and what keeps a bad one from it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert.interpreter import Interpreter

from exports import Exports
from vedette.contract import bundle as bundles
from vedette.contract.adaptation import BINS, Adaptation
from vedette.contract.errors import BundleError
from vedette.contract.features import Rows
from vedette.contract.scores import Calibration, Feed, Precision, RawScores, Stage
from vedette.runtimes import load_scorer
from vedette_exporter import golden, onnx_narrow, parity
from vedette_exporter.choice import Choice
from vedette_exporter.pack import Packed, pack
from vedette_exporter.parity import Pair
from vedette_exporter.recalibrate import recalibrated
from vedette_exporter.variants import Variant, check
from vedette_training import run as runs

PRECISIONS: tuple[Precision, ...] = ("float16", "int8")
KINDS = ("lstm-wide", "lstm_autoencoder-wide", "one_class_svm", "dbscan", "pca", "hybrid-wide")
MakeRun = Callable[..., Path]

RNG = np.random.default_rng(5)
RAW = np.sort(RNG.gamma(2.0, size=2000))
CALIBRATION = Calibration(centre=float(np.median(RAW)), threshold=6.0)


@pytest.fixture(scope="module", params=[(kind, precision) for kind in KINDS for precision in PRECISIONS], ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, Precision]:
    """Each detector that has narrower forms, in each of them."""
    return cast("tuple[str, Precision]", request.param)


@pytest.fixture(scope="module")
def packed(case: tuple[str, Precision], exports: Exports) -> Packed:
    kind, precision = case
    return exports(f"{kind} in {precision}").packed


def test_gateway_takes_it_and_batches_of_any_size_give_equal_bits(packed: Packed, case: tuple[str, Precision], make_run: MakeRun) -> None:
    bundle = bundles.read(packed.data)
    scorer = load_scorer(bundle)
    bundles.self_test(bundle, scorer)
    assert bundle.manifest.precision == case[1]
    windows = runs.read(make_run(case[0]))[1].windows[:50]
    one_by_one = np.concatenate([load_scorer(bundle).raw(windows[i : i + 1]) for i in range(50)])
    np.testing.assert_array_equal(one_by_one, scorer.raw(windows))


def test_verdicts_are_those_of_float32(packed: Packed, case: tuple[str, Precision], make_run: MakeRun) -> None:
    kind, precision = case
    folder = make_run(kind)
    run, holdout = runs.read(folder)
    original = runs.scorer(run.stages, runs.load_models(folder, run), run.combine, run.calibration).combine(holdout.raw)
    scores = load_scorer(bundles.read(packed.data)).score(holdout.windows)
    np.testing.assert_allclose(scores, original, rtol=parity.NARROWER[precision].largest, atol=parity.NARROWER[precision].largest)
    clear = np.abs(original - 1) > parity.NARROWER[precision].largest
    assert clear.any()
    np.testing.assert_array_equal((scores >= 1)[clear], (original >= 1)[clear])


def test_models_are_smaller_and_set_beside_float32(packed: Packed, case: tuple[str, Precision]) -> None:
    exact, narrower = packed.variants
    assert (exact.precision, narrower.precision) == ("float32", case[1])
    assert narrower.model_bytes < exact.model_bytes
    assert exact.average_precision is not None
    card = bundles.read(packed.data).files["model-card.md"].decode()
    assert f"The weights are {case[1]}." in card
    assert f"| float32 | {exact.model_bytes / 1024:.0f} KiB | {exact.average_precision:.4f} |" in card


def test_what_changed_is_calibrated_by_its_own_scores(packed: Packed, case: tuple[str, Precision], make_run: MakeRun) -> None:
    for stage, described in zip(packed.manifest.stages, runs.read(make_run(case[0]))[0].stages, strict=True):
        assert (stage.calibration == described.calibration) == (described.calibration is None)


def test_weights_are_what_was_asked_for(packed: Packed, case: tuple[str, Precision]) -> None:
    bundle = bundles.read(packed.data)
    wanted = {"float16": np.float16, "int8": np.int8}[case[1]]
    for stage in bundle.manifest.stages:
        if stage.runtime == "litert":
            tensors = Interpreter(model_content=bundle.files[stage.file]).get_tensor_details()
            assert any(tensor["dtype"] is wanted for tensor in tensors)


def test_an_lstm_in_onnx_keeps_its_weights_narrow(make_run: MakeRun) -> None:
    for precision, share in (("float16", 0.65), ("int8", 0.45)):
        found = pack(make_run("lstm-wide"), None, None, Choice(runtime="onnx", precision=cast("Precision", precision)))
        exact, narrower = found.variants
        assert narrower.model_bytes < share * exact.model_bytes
        bundle = bundles.read(found.data)
        bundles.self_test(bundle, load_scorer(bundle))


def test_equal_runs_give_equal_bytes(make_run: MakeRun) -> None:
    first, second = (pack(make_run("lstm-wide"), None, None, Choice(precision="int8")).data for _ in range(2))
    assert first == second


def test_a_forest_has_no_narrower_form_and_is_refused_with_the_reason(make_run: MakeRun) -> None:
    for kind in ("isolation_forest", "isolation_forest-rotated"):
        with pytest.raises(BundleError, match="isolation_forest has no float16 form: its size is in its trees"):
            pack(make_run(kind), None, None, Choice(precision="float16"))


def test_a_forest_among_others_stays_float32(make_run: MakeRun) -> None:
    manifest = pack(make_run("hybrid-forest"), None, None, Choice(precision="int8")).manifest
    assert [(stage.name, stage.precision) for stage in manifest.stages] == [
        ("1_dbscan", "int8"),
        ("2_isolation_forest", "float32"),
    ]


class Gives:
    """A model whose raw score is a function of a window's first value."""

    def __init__(self, of: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> None:
        self.of = of

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        return {"raw": self.of(windows[:, 0, 0].astype(np.float64)).astype(np.float32)}


def narrower_pair(of: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], calibration: Calibration = CALIBRATION) -> Pair:
    stage = Stage(name="s", runtime="litert", file="m", input="window", output="raw", calibration=calibration, precision="int8")
    return Pair((stage,), "all", None, [Gives(lambda raw: raw)], [Gives(of)])


def moved(pair: Pair, raw: npt.NDArray[np.float64] = RAW) -> Pair:
    windows = raw.astype(np.float32).reshape(-1, 1, 1)
    original: RawScores = raw[:, None]
    return recalibrated(pair, original, pair.scorer(pair.exported).raw(windows))


def test_a_bias_and_a_slope_are_calibrated_away() -> None:
    noise = np.random.default_rng(1)
    pair = moved(narrower_pair(lambda raw: 0.3 + 1.13 * raw + noise.normal(0, 0.02, len(raw))))
    windows = RAW.astype(np.float32).reshape(-1, 1, 1)
    expected, scores = (pair.original_scorer(pair.original).score(windows), pair.scorer(pair.exported).score(windows))
    np.testing.assert_allclose(scores, expected, atol=0.02)


def test_a_threshold_beyond_all_held_out_windows_lies_where_the_line_leads() -> None:
    calibration = Calibration(centre=CALIBRATION.centre, threshold=50.0)
    pair = moved(narrower_pair(lambda raw: 1.1 * raw, calibration))
    assert pair.exported_stages
    found = pair.exported_stages[0].calibration
    assert found
    assert found.threshold == pytest.approx(55.0, rel=0.01)
    assert found.centre == pytest.approx(1.1 * calibration.centre, rel=0.01)


def test_one_wild_window_does_not_move_the_threshold() -> None:
    pair = moved(narrower_pair(lambda raw: np.where(np.arange(len(raw)) == len(raw) - 1, 1e6, raw)))
    assert pair.exported_stages
    found = pair.exported_stages[0].calibration
    assert found
    assert found.threshold == pytest.approx(CALIBRATION.threshold, rel=1e-5)


def test_surprisals_stay_what_they_were() -> None:
    seed = np.histogram(np.log10(RAW / 2), BINS, (-2, 4))[0] / len(RAW)
    adaptation = Adaptation(origin=0.1, unit=1.0, seed=tuple(seed.tolist()), weight=2000.0, half_life=500.0)
    calibration = Calibration(centre=0.3, threshold=2.0, adaptation=adaptation)
    pair = moved(narrower_pair(lambda raw: 0.2 + 1.2 * raw, calibration))
    windows = RAW.astype(np.float32).reshape(-1, 1, 1)
    expected, scores = (pair.original_scorer(pair.original).score(windows), pair.scorer(pair.exported).score(windows))
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_scores_that_do_not_rise_with_the_originals_are_refused() -> None:
    with pytest.raises(BundleError, match="do not rise with the original's"):
        moved(narrower_pair(lambda raw: -raw))
    with pytest.raises(BundleError, match="nothing to recalibrate by"):
        moved(narrower_pair(lambda raw: raw, Calibration(centre=CALIBRATION.centre, threshold=1e6)))


def test_what_no_narrower_stage_has_a_part_in_keeps_its_calibration() -> None:
    calibration = Calibration(centre=1.0, threshold=3.0)
    stages = (
        Stage(name="narrow", runtime="litert", file="n", input="window", output="raw", precision="float16"),
        Stage(name="fed", runtime="onnx", file="f", input=Feed(stage="narrow", outputs=("raw",)), output="raw", calibration=calibration),
        Stage(name="apart", runtime="onnx", file="a", input="last", output="raw", calibration=calibration),
    )
    pair = recalibrated(Pair(stages, "any", None, [], []), np.column_stack([RAW, RAW]), np.column_stack([1.1 * RAW, RAW]))
    assert pair.exported_stages
    _, fed, apart = pair.exported_stages
    assert apart.calibration == calibration
    assert fed.calibration
    assert fed.calibration.threshold == pytest.approx(3.3, rel=0.01)


WINDOWS = np.linspace(0, 8, 800, dtype=np.float32).reshape(-1, 1, 1)


@pytest.mark.parametrize(
    ("of", "fault"),
    [
        (lambda raw: raw * (1 + 0.1 * np.sin(37 * raw)), r"windows score differently .* \(allowed 0\.05, or 0\.25 on 1\.0%\)"),
        (lambda raw: np.minimum(raw, 5.5), "windows score differently"),
        (lambda raw: raw + np.where(np.abs(raw - 6) < 0.15, np.where(raw < 6, 0.15, -0.15), 0), "over the threshold on one side only"),
        (lambda raw: np.where(raw > 7, np.nan, raw), "did not give one finite number"),
    ],
    ids=["wild", "cut off", "verdicts", "nan"],
)
def test_a_variant_that_judges_otherwise_is_refused(of: Callable[..., Any], fault: str) -> None:
    with pytest.raises(Exception, match=fault):
        parity.check(narrower_pair(of), WINDOWS, WINDOWS[:, :, 0].astype(np.float64))


def test_a_variant_within_its_allowance_passes_and_says_what_that_was() -> None:
    pair = narrower_pair(lambda raw: raw * (1 + 0.02 * np.sin(37 * raw) * (np.abs(raw - 6) > 0.2)))
    measured, _ = parity.check(pair, WINDOWS, WINDOWS[:, :, 0].astype(np.float64))
    assert measured.allowed == parity.NARROWER["int8"]
    assert 0.01 < measured.largest_difference < 0.05


def test_a_variant_that_finds_less_is_refused() -> None:
    scorer: Any = None
    exact = Variant("float32", 1000, 0.8, scorer)
    check(exact, Variant("int8", 300, 0.795, scorer))
    with pytest.raises(BundleError, match="int8 makes these models no smaller"):
        check(exact, Variant("int8", 1000, 0.8, scorer))
    check(exact._replace(average_precision=None), Variant("int8", 300, None, scorer))
    with pytest.raises(BundleError, match=r"int8: average precision .* falls from 0\.8000 to 0\.7800 .* float16 or float32"):
        check(exact, Variant("int8", 300, 0.78, scorer))


def test_golden_windows_of_integers_stand_still() -> None:
    """Where the raw score jumps at every integer, windows beside one are no golden ones."""
    calibration = Calibration(centre=0.0, threshold=2.0)
    pair = narrower_pair(lambda raw: np.floor(raw + 1e-7) * 0.1 + raw, calibration)
    windows = np.concatenate([np.arange(8.0), np.linspace(0.3, 7.3, 40)]).astype(np.float32).reshape(-1, 1, 1)
    chosen = golden.choose(pair, windows, pair.scorer(pair.exported).score(windows), np.random.default_rng(0))
    assert not set(chosen) & set(range(1, 8))
    assert chosen


def test_narrow_weights_are_the_nearest_that_there_are() -> None:
    weights = RNG.normal(size=(60, 7)).astype(np.float32) * np.float32(10.0) ** np.arange(-3, 4, dtype=np.float32)
    weights[:, 3] = 0
    half, eighth = onnx_narrow.narrow(weights, "float16"), onnx_narrow.narrow(weights, "int8")
    assert [str(found.stored.dtype) for found in (half, eighth)] == ["float16", "int8"]
    np.testing.assert_allclose(half.used, weights, rtol=2**-11, atol=1e-7)
    assert (np.abs(eighth.used - weights) <= np.abs(weights).max(axis=0) / 254 * 1.001).all()
    np.testing.assert_array_equal(onnx_narrow.narrow(weights, "float32").used, weights)


def test_a_gateway_allows_integers_more_and_floats_no_more_than_before(make_run: MakeRun) -> None:
    bundle = bundles.read(pack(make_run("lstm-wide"), None, None, Choice(precision="int8")).data)
    off = bundle._replace(golden_scores=bundle.golden_scores + np.float32(5e-4))
    bundles.self_test(off, load_scorer(off))
    stages = tuple(msgspec.structs.replace(stage, precision="float16") for stage in bundle.manifest.stages)
    with pytest.raises(BundleError, match="scores its golden windows differently"):
        bundles.self_test(off._replace(manifest=msgspec.structs.replace(bundle.manifest, stages=stages)), load_scorer(off))
