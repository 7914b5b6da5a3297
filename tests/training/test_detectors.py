"""One suite for every detector: what the rest of the workstation relies on."""

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from vedette.contract.errors import BundleError, HistoryError
from vedette.contract.scores import Calibration
from vedette.contract.windows import WindowSpec
from vedette_training import detectors, models, run, windows
from vedette_training.detectors import AnyDetector, Detector, Fitted, Workshop
from vedette_training.detectors.dbscan import Dbscan
from vedette_training.detectors.hybrid import Hybrid, Member
from vedette_training.detectors.isolation_forest import IsolationForest
from vedette_training.detectors.lstm import Lstm
from vedette_training.detectors.lstm_autoencoder import LstmAutoencoder
from vedette_training.detectors.one_class_svm import OneClassSvm
from vedette_training.detectors.pca import Pca
from vedette_training.windows import Part

SMALL = LstmAutoencoder(preset="small", units=4, epochs=2, batch=32)
FOREST = IsolationForest(trees=10, max_samples=32)
SPECS: dict[str, Detector] = {
    "lstm": Lstm(units=4, epochs=1, batch=32),
    "lstm_autoencoder": SMALL,
    "lstm_autoencoder, a latent vector every step": LstmAutoencoder(preset="steps", units=4, epochs=2, batch=32, error="last"),
    "isolation_forest": FOREST,
    "isolation_forest, rotated": IsolationForest(trees=10, max_samples=32, rotate=True),
    "one_class_svm": OneClassSvm(nu=0.1, max_windows=50),
    "dbscan": Dbscan(max_windows=80),
    "pca": Pca(components=2),
    "hybrid, all": Hybrid(
        members=(Member(detector=Dbscan(), input=("latent", "error")), Member(detector=FOREST, input=("latent",))), autoencoder=SMALL
    ),
    "hybrid, any": Hybrid(
        members=(Member(detector=OneClassSvm(nu=0.1), input=("error",)), Member(detector=Pca())), combine="any", autoencoder=SMALL
    ),
}
every = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def cut(rows: npt.NDArray[np.float32], anomalous: npt.NDArray[np.bool_]) -> Part:
    return windows.cut(["a"] * len(rows), list(range(len(rows))), rows, anomalous, WindowSpec(steps=3))


@pytest.fixture(scope="module")
def part() -> Part:
    rng = np.random.default_rng(5)
    anomalous = np.arange(200) // 10 % 4 == 0
    return cut((rng.normal(size=(200, 4)) + 3 * anomalous[:, None]).astype(np.float32), anomalous)


def raw(fitted: Fitted, part: Part) -> npt.NDArray[np.float64]:
    calibrations = (Calibration(centre=0, threshold=1),) * sum(stage.has_say for stage in fitted.stages)
    scorer = run.scorer(run.stages_of(fitted, None, calibrations), [s.model for s in fitted.stages], fitted.combine, None)
    return scorer.raw(part.windows.gather())


@every
def test_equal_seeds_give_equal_models(spec: Detector, part: Part) -> None:
    one, same = (raw(spec.fit(part, Workshop(1)), part) for _ in range(2))
    np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("spec", [SPECS[name] for name in ("lstm", "lstm_autoencoder", "isolation_forest", "dbscan")])
def test_another_seed_gives_another_model(spec: Detector, part: Part) -> None:
    one, other = (raw(spec.fit(part, Workshop(seed)), part) for seed in (1, 2))
    assert (one != other).any()


@every
def test_saved_models_give_what_they_gave(spec: Detector, part: Part, tmp_path: Path) -> None:
    fitted = spec.fit(part, Workshop(1))
    for stage in fitted.stages:
        path = tmp_path / f"{stage.name}{stage.model.suffix}"
        stage.model.save(path)
        if stage.input in {"window", "flat"}:
            given = part.windows.gather() if stage.input == "window" else part.windows.flat(0)
            for name, output in models.load(path).run(given).items():
                np.testing.assert_allclose(output, stage.model.run(given)[name], rtol=1e-6, atol=1e-6)


@every
def test_windows_far_from_all_that_was_learnt_are_stranger(spec: Detector, part: Part) -> None:
    if spec.learns_from_labels:
        pytest.skip(reason="a classifier knows only what it was shown")
    if spec == SPECS["hybrid, all"]:
        pytest.skip(reason="a latent vector is bounded: what is far as a window need not be far there")
    far = cut(
        np.full((20, 4), 25, dtype=np.float32) * np.where(np.arange(20) % 2, -1, 1).astype(np.float32)[:, None], np.zeros(20, np.bool_)
    )
    fitted = spec.fit(part, Workshop(1))
    ordinary = np.quantile(raw(fitted, part)[~part.touched], 0.9, axis=0)
    assert (raw(fitted, far).min(axis=0) >= ordinary).all()


@every
def test_spec_comes_back_from_a_recipe(spec: Detector) -> None:
    assert msgspec.json.decode(msgspec.json.encode(spec), type=AnyDetector) == spec


def test_forest_learns_from_normal_windows_alone(part: Part) -> None:
    wild = part.windows.rows.copy()
    wild[part.windows.ends[part.anomalous]] *= 1000
    other = part._replace(windows=windows.Windows(wild, part.windows.ends, part.windows.steps))
    np.testing.assert_array_equal(raw(FOREST.fit(part, Workshop(1)), part), raw(FOREST.fit(other, Workshop(1)), part))


@pytest.mark.parametrize("anomalous", [True, False])
def test_lstm_refuses_one_class(part: Part, anomalous: bool) -> None:
    with pytest.raises(HistoryError, match="learns from both"):
        SPECS["lstm"].fit(part._replace(anomalous=np.full(len(part.windows), anomalous)), Workshop(1))


@pytest.mark.parametrize("suffix", [".keras", ".skops", ".pickle"])
def test_file_that_is_no_model_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(BundleError, match=path.name):
        models.load(path)


def test_resumed_training_ends_where_an_uninterrupted_one_does(part: Part, tmp_path: Path) -> None:
    whole = msgspec.structs.replace(SMALL, epochs=4)
    expected = whole.fit(part, Workshop(1))
    msgspec.structs.replace(SMALL, epochs=2).fit(part, Workshop(1, tmp_path))
    resumed = whole.fit(part, Workshop(1, tmp_path))
    np.testing.assert_array_equal(raw(resumed, part), raw(expected, part))
    assert resumed.curves["lstm_autoencoder"].loss == expected.curves["lstm_autoencoder"].loss


def test_log_kernel_orders_windows_as_the_machine_it_was_made_of() -> None:
    from sklearn.svm import OneClassSVM

    from vedette_training.detectors.one_class_svm import LogKernel

    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    machine = OneClassSVM(nu=0.1).fit(rows)
    np.testing.assert_allclose(np.exp(LogKernel.of(machine).score_samples(rows)), machine.score_samples(rows), rtol=1e-5)
    assert np.isfinite(LogKernel.of(machine).score_samples(rows * np.float32(1e4))).all()


def test_core_distance_calls_strange_what_dbscan_calls_noise() -> None:
    from sklearn.cluster import DBSCAN

    from vedette_training.detectors.dbscan import CoreDistance

    rows = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    clusters = DBSCAN(eps=0.4, min_samples=5).fit(rows)
    distance = -CoreDistance(clusters.components_, 0.4).score_samples(rows)
    assert ((distance > 1) == (clusters.labels_ == -1)).all()


def test_every_detector_of_the_package_is_in_this_suite() -> None:
    assert {spec.kind for spec in SPECS.values()} == {kind.__struct_config__.tag for kind in detectors.AnyDetector.__args__}  # type: ignore[attr-defined] # because it is a Protocol to mypy and a union at run time
