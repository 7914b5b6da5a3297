import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn import metrics
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from statsmodels.multivariate.manova import MANOVA
from statsmodels.stats.multitest import multipletests

from vedette_training.study import Study, apart, number, study

N, WIDTH = 900, 5


class Given:
    """A latent space in which anomalous windows stand apart in two of five directions and in the error."""

    def __init__(self, seed: int = 0, apart_by: float = 2.0) -> None:
        rng = np.random.default_rng(seed)
        self.anomalous = rng.random(N) < 0.1
        self.latent = rng.normal(size=(N, WIDTH)).astype(np.float32)
        self.latent[self.anomalous, :2] += apart_by
        self.error = (rng.gamma(2.0, size=N) + 3 * apart_by * self.anomalous).astype(np.float32)
        self.scores = self.error / np.float32(6)
        self.flagged = self.scores >= 1.0
        self.columns = np.column_stack([self.latent, self.error]).astype(np.float64)

    def study(self, **changed: object) -> Study:
        given = {"latent": self.latent, "error": self.error, "scores": self.scores, "anomalous": self.anomalous, "flagged": self.flagged}
        return study(**{**given, "seed": 0, **changed})  # type: ignore[arg-type] # because the arguments are a dict of anything


def test_clusters_are_those_of_scikit_learn() -> None:
    given = Given()
    found = given.study().clusters
    rows = StandardScaler().fit_transform(given.columns)
    reach = NearestNeighbors(n_neighbors=5).fit(rows).kneighbors(rows)[0][:, -1]
    labels = DBSCAN(eps=np.quantile(reach, 0.95), min_samples=5).fit(rows).labels_
    assert found is not None
    assert found.eps == pytest.approx(np.quantile(reach, 0.95), rel=1e-5)
    assert found.found == len(set(labels) - {-1})
    assert found.noise_ratio == pytest.approx(np.mean(labels == -1))
    assert found.adjusted_rand == pytest.approx(metrics.adjusted_rand_score(given.anomalous, labels))
    assert found.homogeneity == pytest.approx(metrics.homogeneity_score(given.anomalous, labels))
    assert found.completeness == pytest.approx(metrics.completeness_score(given.anomalous, labels))
    assert found.fowlkes_mallows == pytest.approx(metrics.fowlkes_mallows_score(given.anomalous, labels))


def test_silhouette_is_of_the_windows_in_clusters() -> None:
    rng = np.random.default_rng(0)
    latent = np.concatenate([rng.normal(k * 12, 1, size=(150, 2)) for k in range(2)])
    found = study(latent, np.zeros(300), np.zeros(300), np.zeros(300, bool), np.zeros(300, bool), 0).clusters
    assert found is not None
    assert found.found == 2
    assert found.silhouette is not None
    assert 0.7 < found.silhouette <= 1
    # One class of labels measures no cluster.
    assert (found.adjusted_rand, found.homogeneity, found.completeness, found.fowlkes_mallows) == (None, None, None, None)


def test_manova_is_that_of_statsmodels() -> None:
    given = Given()
    frame = pd.DataFrame(given.columns, columns=[f"y{k}" for k in range(WIDTH + 1)]).assign(flagged=given.flagged.astype(int))
    formula = " + ".join(f"y{k}" for k in range(WIDTH + 1)) + " ~ flagged"
    expected = MANOVA.from_formula(formula, frame).mv_test().results["flagged"]["stat"]
    found = given.study().verdicts
    assert [test.name for test in found.manova] == list(expected.index)
    assert (found.windows, found.flagged) == (N, given.flagged.sum())
    for test in found.manova:
        row = expected.loc[test.name].astype(float)
        got = (test.value, test.f, test.df_effect, test.df_error, test.p)
        assert got == pytest.approx(tuple(row[["Value", "F Value", "Num DF", "Den DF", "Pr > F"]]), rel=1e-6)


def test_anova_is_that_of_statsmodels_with_its_correction_largest_effect_first() -> None:
    given = Given()
    found = given.study().verdicts.anova
    expected = {}
    for k in range(WIDTH + 1):
        name = "error" if k == WIDTH else f"latent[{k}]"
        fitted = sm.OLS(given.columns[:, k], sm.add_constant(given.flagged.astype(float))).fit()
        correlation = stats.spearmanr(given.columns[:, k], given.scores).statistic
        expected[name] = (fitted.fvalue, fitted.f_pvalue, fitted.rsquared, correlation)
    corrected = dict(zip(expected, multipletests([p for _, p, _, _ in expected.values()], method="fdr_bh")[1], strict=True))
    assert {test.feature for test in found} == set(expected)
    for test in found:
        assert (test.f, test.p, test.eta_squared, test.rank_correlation) == pytest.approx(expected[test.feature], rel=1e-5)
        assert test.p_corrected == pytest.approx(corrected[test.feature], rel=1e-5)
    assert list(found) == sorted(found, key=lambda test: -test.eta_squared)


def test_p_values_are_uniform_where_nothing_is_to_be_found() -> None:
    rng = np.random.default_rng(11)
    univariate, multivariate = [], []
    for trial in range(250):
        latent, flagged = rng.normal(size=(120, 2)), rng.random(120) < 0.3
        found = study(latent, rng.normal(size=120), rng.random(120), flagged, flagged, trial).verdicts
        univariate += [test.p for test in found.anova]
        multivariate.append(found.manova[0].p)
    assert len(univariate) == 750
    assert stats.kstest(multivariate, "uniform").pvalue > 0.01
    assert stats.kstest(univariate, "uniform").pvalue > 0.01


def test_same_windows_give_the_same_study_whatever_the_global_chance() -> None:
    np.random.seed(1)
    first = Given().study()
    np.random.seed(2)
    assert Given().study() == first
    # What is drawn for pictures depends on the seed; what is tested does not.
    assert Given().study(seed=5).verdicts == first.verdicts


def test_shuffled_verdicts_lose_what_real_ones_show() -> None:
    given = Given()
    real = given.study().verdicts
    assert real.manova[0].p < 1e-20
    smallest = [given.study(flagged=np.random.default_rng(k).permutation(given.flagged)).verdicts for k in range(20)]
    assert np.median([verdicts.manova[0].p for verdicts in smallest]) > 0.2
    assert np.median([min(test.p_corrected for test in verdicts.anova) for verdicts in smallest]) > 0.2


def test_windows_that_are_tested_share_no_reading() -> None:
    rng = np.random.default_rng(0)
    devices = [f"d{k}" for k in rng.integers(0, 4, size=2000)]
    numbers = number(devices)
    kept = np.sort(rng.choice(2000, 800, replace=False))
    mask = apart([devices[k] for k in kept], numbers[kept], 7)
    chosen = kept[mask]
    for device in set(devices):
        mine = [numbers[k] for k in chosen if devices[k] == device]
        assert min(np.diff(mine)) >= 7
        assert len(mine) > 30
    assert apart(["a"] * 5, np.arange(5), 1).all()


def test_overlapping_windows_are_thinned_before_they_are_tested() -> None:
    # Every window six times, as overlapping ones nearly are: the tests must not count it six times.
    given = Given(apart_by=0.1)
    six = {name: np.repeat(getattr(given, name), 6, axis=0) for name in ("latent", "error", "scores", "anomalous", "flagged")}
    thinned, once = given.study(**six, steps=6).verdicts, given.study().verdicts
    assert (thinned.windows, thinned.flagged) == (once.windows, once.flagged)
    assert [test.p for test in thinned.manova] == pytest.approx([test.p for test in once.manova])
    assert [test.p for test in thinned.anova] == pytest.approx([test.p for test in once.anova])
    assert given.study(**six, steps=1).verdicts.windows == 6 * N


@pytest.mark.parametrize("flagged", [np.zeros(N, bool), np.ones(N, bool), np.arange(N) == 3])
def test_a_group_of_less_than_two_gives_no_test_and_the_reason(flagged: np.ndarray) -> None:
    found = Given().study(flagged=flagged).verdicts
    assert (found.manova, found.anova) == ((), ())
    assert found.no_manova == found.no_anova == f"{flagged.sum()} of {N} windows that share no reading are flagged: each group needs two"


def test_features_that_repeat_others_give_no_manova_and_the_reason() -> None:
    given = Given()
    latent = np.column_stack([given.latent, given.latent[:, 0] * 2 - given.latent[:, 1]])
    found = given.study(latent=latent).verdicts
    assert found.manova == ()
    assert found.no_manova
    assert "rank 6" in found.no_manova
    assert len(found.anova) == WIDTH + 2


def test_features_that_do_not_vary_are_left_out_and_named() -> None:
    given = Given()
    latent = np.column_stack([given.latent, np.full(N, 0.7, dtype=np.float32)])
    found = given.study(latent=latent)
    assert found.verdicts.left_out == (f"latent[{WIDTH}]",)
    assert found.verdicts.anova == given.study().verdicts.anova
    still = study(np.ones((40, 3)), np.zeros(40), np.arange(40.0), np.arange(40) > 30, np.arange(40) > 30, 0)
    assert still.verdicts.no_anova == "no feature varies"
    assert still.projection.explained == (0.0, 0.0)


def test_feature_that_the_verdict_fully_decides_has_no_f() -> None:
    flagged = np.arange(60) >= 40
    found = study(flagged[:, None].astype(float), flagged.astype(float), flagged.astype(float), flagged, flagged, 0).verdicts
    assert (found.manova, found.anova) == ((), ())
    assert found.no_anova == "within each group no feature varies"


def test_too_few_windows_for_a_manova_say_so() -> None:
    rng = np.random.default_rng(0)
    found = study(rng.normal(size=(8, 9)), rng.random(8), rng.random(8), np.arange(8) > 5, np.arange(8) > 5, 0).verdicts
    assert found.no_manova == "8 windows that share no reading are too few for 10 features"
    assert len(found.anova) == 10


def test_projection_is_scikit_learns_up_to_sign() -> None:
    given = Given()
    found = given.study().projection
    pca = PCA(2).fit(StandardScaler().fit_transform(given.columns))
    expected = pca.transform(StandardScaler().fit_transform(given.columns))
    assert found.explained == pytest.approx(pca.explained_variance_ratio_, rel=1e-6)
    for got, axis in ((found.x, 0), (found.y, 1)):
        assert np.abs(got) == pytest.approx(np.abs(expected[:, axis]), abs=1e-3)
    assert found.flagged == tuple(given.flagged.tolist())
    assert found.anomalous == tuple(given.anomalous.tolist())


def test_projection_of_many_windows_is_of_some() -> None:
    rng = np.random.default_rng(0)
    found = study(rng.normal(size=(5000, 2)), rng.random(5000), rng.random(5000), rng.random(5000) < 0.1, rng.random(5000) < 0.1, 0)
    assert len(found.projection.x) == len(found.projection.flagged) == 1500
    assert found.clusters is not None
    assert found.clusters.windows == 3000


def test_boxes_are_quartiles_with_tukeys_whiskers_of_the_leading_features() -> None:
    given = Given()
    found = given.study()
    assert [box.feature for box in found.boxes[::2]] == [test.feature for test in found.verdicts.anova]
    values = StandardScaler().fit_transform(given.columns)[:, -1]
    for box in found.boxes[:2]:
        mine = values[given.flagged == box.flagged]
        first, median, third = np.quantile(mine, [0.25, 0.5, 0.75])
        assert (box.first_quartile, box.median, box.third_quartile) == pytest.approx((first, median, third))
        inside = mine[(mine >= first - 1.5 * (third - first)) & (mine <= third + 1.5 * (third - first))]
        assert (box.low, box.high) == pytest.approx((inside.min(), inside.max()))
        assert box.beyond == len(mine) - len(inside)
        assert len(box.outliers) <= 12
        if mine.max() > third + 1.5 * (third - first):
            assert box.outliers[-1] == pytest.approx(mine.max())


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(spoilt: float) -> None:
    latent = np.zeros((4, 2))
    latent[1, 1] = spoilt
    with pytest.raises(ValueError, match="finite"):
        study(latent, np.zeros(4), np.zeros(4), np.zeros(4, bool), np.zeros(4, bool), 0)
