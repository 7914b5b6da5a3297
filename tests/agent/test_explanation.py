from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from bundles import make_bundle
from vedette.contract import bundle as bundles
from vedette.contract.errors import ScoreError
from vedette.contract.features import Number, Rows
from vedette.contract.scores import Calibration, Feed, Runtime, Scorer, Stage
from vedette.contract.windows import WindowSpec
from vedette.detector import Detector

FEATURES = (Number(name="noisy"), Number(name="quiet", mean=7.0), Number(name="both", averages=(4.0,)))
COLUMNS = 4  # the last is the average of `both`
BUNDLE = bundles.read(make_bundle(features=FEATURES, window=WindowSpec(steps=2)))
CALIBRATION = Calibration(centre=0.0, threshold=1.0)
STAGE = Stage(name="a", runtime="onnx", file="a", input="window", output="raw", calibration=CALIBRATION, feature_error="by_column")


class Tells:
    """A fake autoencoder: its error is the newest row's squares, and the noisy column is always given back badly."""

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        errors = windows[:, -1] ** 2 + np.array([50, 0, 0, 0], dtype=np.float32)
        return {"raw": errors.sum(axis=1), "by_column": errors, "pair": errors[:, :2], "odd": errors[:, :3]}


class Feeds:
    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        return {"raw": windows.sum(axis=1)}


class Quadratic:
    """A fake PCA: the newest row's squared distance along some axes."""

    axes = np.random.default_rng(3).normal(size=(COLUMNS, COLUMNS)).astype(np.float32)

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        return {"raw": ((windows[:, -1] @ self.axes) ** 2).sum(axis=1)}


def detector(stages: tuple[Stage, ...], runtimes: list[Runtime], kind: str = "lstm_autoencoder") -> Detector:
    manifest = msgspec.structs.replace(BUNDLE.manifest, detector=kind)
    calm = np.zeros_like(BUNDLE.golden_windows)
    return Detector(BUNDLE._replace(manifest=manifest, golden_windows=calm), Scorer(stages, runtimes, "all"))


def window(*newest: float) -> Rows:
    return np.array([[0] * COLUMNS, newest], dtype=np.float32)


def causes(subject: Detector, *newest: float) -> list[tuple[str, float]]:
    return [(cause.feature, cause.share) for cause in subject.explain(window(*newest), np.array([1.0, 2.0, 3.0]))]


def test_an_autoencoder_is_explained_by_what_it_gives_back_worse_than_usual() -> None:
    subject = detector((STAGE,), [Tells()])
    assert causes(subject, 0.0, 3.0, 1.0, 1.0) == [("quiet", 0.82), ("both", 0.18)]
    (first, _) = subject.explain(window(0.0, 3.0, 1.0, 1.0), np.array([1.0, 2.0, 3.0]))
    assert (first.observed, first.expected) == (2.0, 7.0)


def test_so_is_a_stage_that_an_autoencoder_feeds() -> None:
    encoder = msgspec.structs.replace(STAGE, calibration=None)
    fed = Stage(name="b", runtime="onnx", file="b", input=Feed(stage="a", outputs=("pair",)), output="raw", calibration=CALIBRATION)
    assert causes(detector((encoder, fed), [Tells(), Feeds()]), 0.0, 0.0, 2.0, 0.0) == [("both", 1.0)]


def test_beside_a_stage_that_tells_nothing_features_are_tried() -> None:
    other = Stage(name="b", runtime="onnx", file="b", input="window", output="raw", calibration=CALIBRATION)
    both = Scorer((STAGE, other), [Tells(), Quadratic()], "all")
    assert both.column_errors(window(1, 1, 1, 1)[None]) is None
    assert causes(detector((STAGE, other), [Tells(), Quadratic()]), 0.0, 3.0, 0.0, 0.0)[0][0] == "quiet"


def test_a_bundle_that_does_not_tell_is_explained_by_trying() -> None:
    assert causes(detector((msgspec.structs.replace(STAGE, feature_error=None),), [Tells()]), 0.0, 3.0, 1.0, 1.0)[0] == ("quiet", 0.82)


@pytest.mark.parametrize(("output", "message"), [("odd", "has shape"), ("none", "no output")])
def test_errors_of_other_columns_are_refused(output: str, message: str) -> None:
    subject = Scorer((msgspec.structs.replace(STAGE, feature_error=output),), [Tells()], "all")
    with pytest.raises(ScoreError, match=message):
        subject.column_errors(window(1, 1, 1, 1)[None])


def test_the_parts_of_pca_are_its_residuals_and_sum_to_the_score() -> None:
    stage = msgspec.structs.replace(STAGE, feature_error=None)
    subject = detector((stage,), [Quadratic()], "pca")
    newest = np.array([0.5, -1.0, 2.0, 1.5])
    spread = Quadratic.axes.astype(np.float64) @ Quadratic.axes.T.astype(np.float64)
    by_column = newest * (spread @ newest)
    expected = np.array([by_column[0], by_column[1], by_column[2] + by_column[3]])
    found = subject._residual_parts(window(*newest))
    np.testing.assert_allclose(found, 2 * np.maximum(expected, 0), rtol=1e-4)
    assert expected.sum() == pytest.approx(Quadratic().run(window(*newest)[None])["raw"][0], rel=1e-5)
