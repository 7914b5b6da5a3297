"""The bundle that ships with the demo is what its recipe and the simulator give."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np

import demo_bundle
from vedette.contract import manifest as manifests
from vedette.contract.bundle import open_bundle
from vedette.demo.command import BUNDLE
from vedette.runtimes import load_scorer
from vedette_training import recipe as recipes

MAKE_IT_ANEW = "the shipped bundle is out of date: make demo-bundle"


def test_it_learnt_from_todays_recipe_and_todays_simulator(tmp_path: Path) -> None:
    trained_on = open_bundle(BUNDLE).manifest.trained_on
    recipe = msgspec.json.encode(recipes.load(demo_bundle.RECIPE), order="deterministic")
    assert trained_on.recipe == hashlib.sha256(recipe).hexdigest(), MAKE_IT_ANEW
    (source,) = trained_on.sources
    assert source.sha256 == hashlib.sha256(demo_bundle.simulate(tmp_path).read_bytes()).hexdigest(), MAKE_IT_ANEW


def test_making_it_anew_gives_the_same_detector(tmp_path: Path) -> None:
    shipped, anew = open_bundle(BUNDLE), open_bundle(demo_bundle.build(tmp_path))
    assert anew.manifest.features == shipped.manifest.features, MAKE_IT_ANEW
    assert anew.manifest.trained_on == shipped.manifest.trained_on, MAKE_IT_ANEW
    if anew.manifest.libraries == shipped.manifest.libraries and anew.sha256 == shipped.sha256:
        return
    # Another processor or library rounds otherwise, and training carries that on: then the two must judge alike.
    agree = (load_scorer(anew).score(shipped.golden_windows) >= 1.0) == (shipped.golden_scores >= 1.0)
    assert np.mean(agree) >= 0.9, MAKE_IT_ANEW
    for name in ("roc_auc", "recall"):
        assert abs(anew.manifest.metrics[name] - shipped.manifest.metrics[name]) < 0.1, MAKE_IT_ANEW


def test_its_manifest_is_of_this_format_and_small() -> None:
    manifest = open_bundle(BUNDLE).manifest
    assert manifest.format == manifests.FORMAT
    assert BUNDLE.stat().st_size < 1_000_000
