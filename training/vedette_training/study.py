"""The study: statistics of what an autoencoder made of windows, its latent vector and its error, side by side as features.

Rules this module keeps: a figure that the data cannot give is absent, with the reason, never made up; every p-value is worked out from the
data and nothing else, so that the same windows give the same p-values; chance (which windows are drawn) comes from the seed.

How far the p-values can be trusted: windows overlap in time, so neighbours are nearly the same window counted twice, and p-values of all of
them would be far too small. The tests therefore take windows of a device that share no reading (see `apart`). Readings of one device remain
alike for longer than a window, so what is left is still on the small side. And the groups are the detector's own verdicts, which
it took from these features: a small p-value says what the verdict rests on, not that the verdict is right.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

MAX_CLUSTERED = 3000
MAX_POINTS = 1500
MAX_BOXES = 8
MAX_OUTLIERS = 12
MIN_SAMPLES = 5
ERROR = "error"

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]
Series = npt.NDArray[np.float64]


class Clusters(msgspec.Struct, frozen=True, kw_only=True):
    """DBSCAN on the standardised features, beside the labels; noise counts as a cluster of its own there.

    Attributes:
        windows: That were clustered.
        eps: By the detector's rule: 95 % of the windows are core samples.
        found: Clusters.
        noise_ratio: Share of the windows that are in none.
        adjusted_rand: None, as are the three after it, where the windows are of one class.
        silhouette: Of the windows that are in a cluster; None with fewer than two clusters.
    """

    windows: int
    eps: float
    found: int
    noise_ratio: float
    adjusted_rand: float | None
    homogeneity: float | None
    completeness: float | None
    fowlkes_mallows: float | None
    silhouette: float | None


class MultivariateTest(msgspec.Struct, frozen=True, kw_only=True):
    """One of MANOVA's four statistics, with the F distribution that it is set against."""

    name: str
    value: float
    f: float
    df_effect: float
    df_error: float
    p: float


class FeatureTest(msgspec.Struct, frozen=True, kw_only=True):
    """A one-way ANOVA of one feature by the verdict.

    Attributes:
        p: Of the F test; `p_corrected` by Benjamini and Hochberg (1995) over all features.
        eta_squared: Share of the feature's variance that lies between flagged and other windows.
        rank_correlation: Spearman's, with the score; None where the score is constant.
    """

    feature: str
    f: float
    p: float
    p_corrected: float
    eta_squared: float
    rank_correlation: float | None


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """Variance of the features between flagged windows and the others, on windows that share no reading.

    Attributes:
        windows: That were tested, of which so many were `flagged`.
        left_out: Features that do not vary.
        manova: Empty where `no_manova` says why.
        anova: Largest effect first; empty where `no_anova` says why.
    """

    windows: int
    flagged: int
    left_out: tuple[str, ...]
    manova: tuple[MultivariateTest, ...]
    no_manova: str | None
    anova: tuple[FeatureTest, ...]
    no_anova: str | None


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """Some windows along the first two principal components of the standardised features.

    Attributes:
        explained: Share of the variance along x and along y.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    anomalous: tuple[bool, ...]
    flagged: tuple[bool, ...]
    explained: tuple[float, float]


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A feature of the flagged windows, or of the others, in standard deviations from the mean of all.

    Attributes:
        low: The lowest value that is within 1.5 interquartile ranges of the box; `high` likewise (Tukey, 1977).
        outliers: Values beyond, `MAX_OUTLIERS` of them drawn evenly from `beyond`, the outermost always.
    """

    feature: str
    flagged: bool
    windows: int
    low: float
    first_quartile: float
    median: float
    third_quartile: float
    high: float
    outliers: tuple[float, ...]
    beyond: int


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """What the latent space looks like.

    Attributes:
        windows: That were looked at.
        features: `latent[0]`, …, `error`.
    """

    windows: int
    features: tuple[str, ...]
    clusters: Clusters | None
    verdicts: Verdicts
    projection: Projection
    boxes: tuple[Box, ...]


def study(
    latent: npt.NDArray[Any],
    error: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    anomalous: Mask,
    flagged: Mask,
    seed: int,
    *,
    steps: int = 1,
    devices: Sequence[str] | None = None,
    numbers: Places | None = None,
) -> Study:
    """Look at the latent space.

    Args:
        latent: float32 `(n, width)`.
        error: `(n,)` or `(n, 1)`.
        scores: `(n,)`, 1.0 at the threshold.
        anomalous: Labels, bool `(n,)`.
        flagged: Verdicts, bool `(n,)`.
        seed: Of the windows that are drawn.
        steps: Windows of one device that are so many apart share no reading: a window's steps over its stride, rounded up.
        devices: Whose window each of the n is; one device's where they are not given.
        numbers: Which of its device's windows each is, int `(n,)` (see `number`); in their order where they are not given.

    Raises:
        ValueError: there is no window, or a feature is not finite.
    """
    n = len(latent)
    columns = np.column_stack([np.asarray(latent, dtype=np.float64).reshape(n, -1), np.asarray(error, dtype=np.float64).reshape(n)])
    if not n or not np.isfinite(columns).all():
        raise ValueError("a study needs windows whose latent vectors and errors are finite")
    names = (*(f"latent[{k}]" for k in range(columns.shape[1] - 1)), ERROR)
    standard = _standardise(columns)
    devices = devices if devices is not None else [""] * n
    tested = np.flatnonzero(apart(devices, numbers if numbers is not None else number(devices), steps))
    verdicts = _test(names, standard[tested], np.asarray(scores, dtype=np.float64)[tested], flagged[tested])
    order = [test.feature for test in verdicts.anova] or list(names)
    return Study(
        windows=n,
        features=names,
        clusters=_cluster(standard, anomalous, np.random.default_rng(seed)),
        verdicts=verdicts,
        projection=_project(standard, anomalous, flagged, np.random.default_rng(seed + 1)),
        boxes=tuple(box for name in order[:MAX_BOXES] for box in _boxes(name, standard[:, names.index(name)], flagged)),
    )


def number(devices: Sequence[str]) -> Places:
    """Count each device's windows: which of its own each one is, int `(n,)`."""
    counts: dict[str, int] = {}
    numbers = []
    for device in devices:
        numbers.append(counts.get(device, 0))
        counts[device] = numbers[-1] + 1
    return np.array(numbers, dtype=np.intp)


def apart(devices: Sequence[str], numbers: Places, steps: int) -> Mask:
    """Choose windows of which no two of one device are less than `steps` apart, from each device's first on: bool `(n,)`."""
    chosen = np.zeros(len(numbers), dtype=np.bool_)
    due: dict[str, int] = {}
    for place in np.argsort(numbers, kind="stable").tolist():
        device, mine = devices[place], int(numbers[place])
        if mine >= due.get(device, mine):
            chosen[place] = True
            due[device] = mine + steps
    return chosen


def _standardise(columns: Series) -> Series:
    """To mean 0 and deviation 1; a column that does not vary, but for rounding, becomes 0."""
    centred = columns - columns.mean(axis=0)
    spread = centred.std(axis=0)
    varies = spread > 1e-9 * np.maximum(np.abs(columns).max(axis=0), 1e-30)
    standard: Series = np.where(varies, centred / np.where(varies, spread, 1.0), 0.0)
    return standard


def _draw(n: int, at_most: int, rng: np.random.Generator) -> Places:
    """Positions of all of n, or of so many drawn at random, in their order."""
    return np.arange(n) if n <= at_most else np.sort(rng.choice(n, at_most, replace=False))


# Clusters ------------------------------------------------------------------------------------------------------------------------


def _cluster(standard: Series, anomalous: Mask, rng: np.random.Generator) -> Clusters | None:
    from sklearn import metrics
    from sklearn.cluster import DBSCAN

    from vedette_training.detectors.dbscan import knee

    chosen = _draw(len(standard), MAX_CLUSTERED, rng)
    if len(chosen) < MIN_SAMPLES:
        return None
    rows, labels = standard[chosen], anomalous[chosen]
    eps = knee(rows.astype(np.float32), MIN_SAMPLES)
    found = DBSCAN(eps=eps, min_samples=MIN_SAMPLES).fit(rows).labels_
    inside = found >= 0
    count = len(np.unique(found[inside]))
    both = labels.any() and not labels.all()
    homogeneity, completeness, _ = metrics.homogeneity_completeness_v_measure(labels, found) if both else (None, None, None)
    silhouette = float(metrics.silhouette_score(rows[inside], found[inside])) if 2 <= count < inside.sum() else None
    return Clusters(
        windows=len(rows),
        eps=eps,
        found=count,
        noise_ratio=float(1 - inside.mean()),
        adjusted_rand=float(metrics.adjusted_rand_score(labels, found)) if both else None,
        homogeneity=None if homogeneity is None else float(homogeneity),
        completeness=None if completeness is None else float(completeness),
        fowlkes_mallows=float(metrics.fowlkes_mallows_score(labels, found)) if both else None,
        silhouette=silhouette,
    )


# Variance by verdict -------------------------------------------------------------------------------------------------------------


def _test(names: Sequence[str], columns: Series, scores: Series, flagged: Mask) -> Verdicts:
    constant = [k for k in range(len(names)) if np.ptp(columns[:, k]) <= 1e-9]
    kept = [k for k in range(len(names)) if k not in constant]
    groups = f"{int(flagged.sum())} of {len(flagged)} windows that share no reading are flagged"
    no_anova = no_manova = None
    anova: tuple[FeatureTest, ...] = ()
    manova: tuple[MultivariateTest, ...] = ()
    if min(flagged.sum(), (~flagged).sum()) < 2:
        no_anova = no_manova = f"{groups}: each group needs two"
    elif not kept:
        no_anova = no_manova = "no feature varies"
    else:
        anova = _analyse_each([names[k] for k in kept], columns[:, kept], scores, flagged)
        manova, no_manova = _analyse_together(columns[:, kept], flagged)
        if not anova:
            no_anova = "within each group no feature varies"
    return Verdicts(
        windows=len(flagged),
        flagged=int(flagged.sum()),
        left_out=tuple(names[k] for k in constant),
        manova=manova,
        no_manova=no_manova,
        anova=anova,
        no_anova=no_anova,
    )


def _analyse_each(names: Sequence[str], columns: Series, scores: Series, flagged: Mask) -> tuple[FeatureTest, ...]:
    from scipy.stats import f_oneway, spearmanr
    from statsmodels.stats.multitest import multipletests

    # Without variance within the groups there is no F.
    within = [k for k in range(len(names)) if max(np.ptp(columns[flagged, k]), np.ptp(columns[~flagged, k])) > 1e-9]
    if not within:
        return ()
    tests = [f_oneway(columns[flagged, k], columns[~flagged, k]) for k in within]
    corrected = multipletests([float(test.pvalue) for test in tests], method="fdr_bh")[1]
    df_error = len(flagged) - 2
    varies = np.ptp(scores) > 0
    found = [
        FeatureTest(
            feature=names[k],
            f=float(test.statistic),
            p=float(test.pvalue),
            p_corrected=float(p),
            # SS_between / SS_total, with one degree of freedom between two groups.
            eta_squared=float(test.statistic / (test.statistic + df_error)),
            rank_correlation=float(spearmanr(columns[:, k], scores).statistic) if varies else None,
        )
        for k, test, p in zip(within, tests, corrected, strict=True)
    ]
    return tuple(sorted(found, key=lambda test: (-test.eta_squared, test.feature)))


def _analyse_together(columns: Series, flagged: Mask) -> tuple[tuple[MultivariateTest, ...], str | None]:
    from statsmodels.multivariate.manova import MANOVA

    n, width = columns.shape
    if n < width + 3:
        return (), f"{n} windows that share no reading are too few for {width} features"
    # The covariance within the groups is what is inverted.
    residuals = columns.copy()
    for group in (flagged, ~flagged):
        residuals[group] -= columns[group].mean(axis=0)
    if (rank := int(np.linalg.matrix_rank(residuals, tol=1e-6 * np.sqrt(n)))) < width:
        return (), f"the {width} features are of rank {rank} within the groups: some are sums of others, and the matrix has no inverse"
    try:
        fitted = MANOVA(columns, np.column_stack([np.ones(n), flagged]))
        table = fitted.mv_test([("flagged", np.array([[0.0, 1.0]]))]).results["flagged"]["stat"]
    except (ValueError, np.linalg.LinAlgError) as error:
        return (), f"the matrices cannot be solved: {error}"
    rows = [(str(name), [float(value) for value in row]) for name, row in zip(table.index, table.to_numpy(), strict=True)]
    places = [list(table.columns).index(column) for column in ("Value", "F Value", "Num DF", "Den DF", "Pr > F")]
    tests = []
    for name, row in rows:
        value, f, df_effect, df_error, p = (row[place] for place in places)
        tests.append(MultivariateTest(name=name, value=value, f=f, df_effect=df_effect, df_error=df_error, p=p))
    if not all(np.isfinite([test.f, test.p]).all() for test in tests):
        return (), "the groups are so far apart that F is not finite"
    return tuple(tests), None


# Pictures ------------------------------------------------------------------------------------------------------------------------


def _project(standard: Series, anomalous: Mask, flagged: Mask, rng: np.random.Generator) -> Projection:
    _, strengths, axes = np.linalg.svd(standard, full_matrices=False)
    # A component's sign is arbitrary: its largest weight is taken as positive, so that the same windows give the same picture.
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    chosen = _draw(len(standard), MAX_POINTS, rng)
    points = np.zeros((len(chosen), 2))
    shares = np.zeros(2)
    width = min(2, len(axes))
    points[:, :width] = standard[chosen] @ axes[:width].T
    shares[:width] = strengths[:width] ** 2 / max(float((strengths**2).sum()), 1e-30)
    return Projection(
        x=tuple(points[:, 0].round(4).tolist()),
        y=tuple(points[:, 1].round(4).tolist()),
        anomalous=tuple(anomalous[chosen].tolist()),
        flagged=tuple(flagged[chosen].tolist()),
        explained=(float(shares[0]), float(shares[1])),
    )


def _boxes(name: str, values: Series, flagged: Mask) -> list[Box]:
    return [_box(name, values[group], is_flagged) for is_flagged, group in ((False, ~flagged), (True, flagged)) if group.any()]


def _box(name: str, values: Series, is_flagged: bool) -> Box:
    first, median, third = (float(quartile) for quartile in np.quantile(values, [0.25, 0.5, 0.75]))
    reach = 1.5 * (third - first)
    inside = values[(values >= first - reach) & (values <= third + reach)]
    outside = np.sort(values[(values < first - reach) | (values > third + reach)])
    drawn = outside[np.unique(np.linspace(0, len(outside) - 1, MAX_OUTLIERS).round().astype(int))] if len(outside) else outside
    return Box(
        feature=name,
        flagged=is_flagged,
        windows=len(values),
        low=float(inside.min()),
        first_quartile=first,
        median=median,
        third_quartile=third,
        high=float(inside.max()),
        outliers=tuple(drawn.tolist()),
        beyond=len(outside),
    )
