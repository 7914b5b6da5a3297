from pathlib import Path

import numpy as np
import pytest

from vedette.contract.errors import BundleError, HistoryError
from vedette_training import detectors
from vedette_training.dataset import Part
from vedette_training.recipe import DetectorSpec, IsolationForest, Lstm

SPECS: list[DetectorSpec] = [Lstm(units=4, epochs=1, batch=32), IsolationForest(trees=10, max_samples=32)]


@pytest.fixture(scope="module")
def part() -> Part:
    rng = np.random.default_rng(5)
    anomalous = np.arange(200) % 4 == 0
    windows = rng.normal(size=(200, 3, 2)) + 3 * anomalous[:, None, None]
    return Part(windows.astype(np.float32), anomalous)


@pytest.mark.parametrize("spec", SPECS)
def test_equal_seeds_give_equal_models_and_others_do_not(spec: DetectorSpec, part: Part) -> None:
    one, same, other = (detectors.find(spec).fit(part, seed).raw(part.windows) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("spec", SPECS)
def test_saved_model_gives_what_it_gave(spec: DetectorSpec, part: Part, tmp_path: Path) -> None:
    detector = detectors.find(spec)
    fitted = detector.fit(part, 1)
    fitted.save(tmp_path / detector.file)
    np.testing.assert_allclose(detector.load(tmp_path / detector.file).raw(part.windows), fitted.raw(part.windows), rtol=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_file_that_is_no_model_is_refused(spec: DetectorSpec, tmp_path: Path) -> None:
    detector = detectors.find(spec)
    (tmp_path / detector.file).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(BundleError, match=detector.file):
        detector.load(tmp_path / detector.file)


def test_forest_learns_from_normal_windows_alone(part: Part) -> None:
    detector = detectors.find(SPECS[1])
    wild = part.windows.copy()
    wild[part.anomalous] *= 1000
    np.testing.assert_array_equal(detector.fit(part, 1).raw(part.windows), detector.fit(Part(wild, part.anomalous), 1).raw(part.windows))


@pytest.mark.parametrize("anomalous", [True, False])
def test_lstm_refuses_one_class(part: Part, anomalous: bool) -> None:
    with pytest.raises(HistoryError, match="learns from both"):
        detectors.find(SPECS[0]).fit(Part(part.windows, np.full(200, anomalous)), 1)
