import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

import evaluations
from vedette.contract.manifest import FileEntry
from vedette_training import report
from vedette_training.audit import headline
from vedette_training.evaluate import Evaluation
from vedette_training.recipe import Threshold
from vedette_training.report import axes, words
from vedette_training.study import study

ONE_RUN_BYTES = 1_500_000


class Page(HTMLParser):
    """What a browser would make of a report: its elements, their attributes, and the text that is not style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._in_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag == "style" or (self._in_style and tag != "style")

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def labels(self) -> str:
        return "\n".join(str(attributes["aria-label"]) for attributes in self.all("svg"))


@pytest.fixture(scope="module")
def whole() -> Evaluation:
    return evaluations.make(findings=evaluations.FINDINGS, strength=2.0)


@pytest.fixture(scope="module")
def html(whole: Evaluation) -> str:
    return report.render([whole])


def pictures(html: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", html, re.DOTALL)]


def test_artefact_is_the_first_thing_said(html: str, whole: Evaluation) -> None:
    assert whole.run
    first = Page(html[html.index("<main>") :]).text.strip()
    assert first.startswith(f"{headline(whole.run.findings)}")
    assert first.startswith("These results are an artefact: temp_condition")
    assert '<p class="artefact" role="alert">' in html


def test_sound_data_is_not_called_an_artefact() -> None:
    html = report.render([evaluations.make(days=2.0)])
    assert "artefact" not in Page(html).text
    assert 'class="artefact"' not in html


def test_sections_stand_in_the_readers_order(html: str) -> None:
    headings = ["Data audit", "Scores over time", "How well windows are told apart", "What was decided", "Scores and the threshold",
                "Is normal data still normal?", "Learning", "The latent space", "How it was made", "What the figures mean"]  # fmt: skip
    assert re.findall(r"<h2>(.*?)</h2>", html) == headings


def test_figures_are_those_of_the_evaluation(html: str, whole: Evaluation) -> None:
    text = Page(html).text.replace("\u00a0", " ")
    episodes, metrics = whole.episodes, whole.metrics
    assert f"{episodes.detected} of {episodes.labelled}" in text
    assert f"{metrics['roc_auc']:.3f}" in text
    assert f"{metrics['average_precision']:.3f}" in text
    assert f"recall {metrics['recall']:.1%}".replace("%", " %") in text
    assert text.count("missed") >= episodes.labelled - episodes.detected
    for finding in evaluations.FINDINGS:
        assert finding.text in text


def test_budget_stands_beside_what_the_test_gave_with_its_interval() -> None:
    three = evaluations.make(days=2.0)
    episodes = msgspec.structs.replace(three.episodes, false_alerts=3, device_days=120.0)
    assert three.run
    run = msgspec.structs.replace(three.run, recipe=msgspec.structs.replace(three.run.recipe, threshold=Threshold(alerts_per_day=0.01)))
    text = Page(report.render([three._replace(episodes=episodes, run=run)])).text.replace("\u00a0", " ")
    assert "Asked: 0.01 a day of one device. Test data: 3 false alerts in 120 device-days = 0.025 a day of one device" in text
    assert "0.0052 to 0.073" in text
    assert "in keeping with what was asked" in text


def test_same_evaluations_give_the_same_bytes(html: str, whole: Evaluation) -> None:
    assert report.render([whole]) == html


def test_a_users_own_matplotlibrc_changes_nothing(whole: Evaluation, html: str) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"axes.facecolor": "#ff0000", "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert report.render([whole]) == html


def test_one_run_is_small_enough_to_mail(html: str) -> None:
    assert len(html.encode()) < ONE_RUN_BYTES


def test_page_asks_for_nothing_and_runs_nothing(html: str) -> None:
    page = Page(html)
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert not {"script", "iframe", "img", "object", "embed", "form", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))
    assert "url(http" not in html
    assert "@import" not in html
    assert re.findall(r"https?://(?!www\.w3\.org/)", html) == []


def test_every_picture_says_what_it_shows_and_shares_no_id(html: str) -> None:
    page = Page(html)
    pictured = page.all("svg")
    assert len(pictured) > 20
    for attributes in pictured:
        assert attributes["role"] == "img"
        assert re.search(r"\d", attributes["aria-label"] or "")
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    assert targets <= set(ids)


def test_pictures_take_every_colour_and_the_font_from_the_page(html: str) -> None:
    style = html[html.index("<style>") : html.index("</style>")]
    for svg in re.findall(r"<svg .*?</svg>", html, re.DOTALL):
        assert not re.search(r"[\"' :;]#[0-9a-f]{3,8}\b(?!\))", svg.replace('href="#', 'href="'))
        assert "font-family" not in svg
        assert "font:" not in svg
        for name in set(re.findall(r"var\(--([\w-]+)\)", svg)):
            assert style.count(f"--{name}:") == 2, f"{name} is not defined for light and dark"


@pytest.mark.parametrize(
    ("room_s", "at_most", "texts"),
    [
        (3 * 86400, 9, ["22 Sep", "12:00", "23 Sep", "12:00", "24 Sep", "12:00"]),
        (3 * 86400, 4, ["22 Sep", "23 Sep", "24 Sep"]),
        (60, 4, ["14:13:30", "14:13:45", "14:14:00", "14:14:15"]),
        (200 * 86400, 9, ["Oct 2026", "Nov 2026", "Dec 2026", "Jan 2027", "Feb 2027", "Mar 2027", "Apr 2027"]),
        (40 * 365 * 86400, 4, ["Jan 2030", "Jan 2040", "Jan 2050", "Jan 2060"]),
    ],
)
def test_times_are_marked_where_they_are_round(room_s: float, at_most: int, texts: list[str]) -> None:
    ticks = axes.time_ticks(evaluations.START, evaluations.START + room_s, at_most)
    assert [text for _, text in ticks] == texts


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_the_paper(theme: str) -> None:
    style = (Path(report.__file__).parent / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[0 if theme == "light" else 1]))

    def luminance(name: str) -> float:
        parts = [int(colours[name][k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(name: str) -> float:
        low, high = sorted((luminance(name), luminance("paper")))
        return (high + 0.05) / (low + 0.05)

    # WCAG 2.1: 4.5 for text, 3 for what is drawn.
    for name in ("ink", "muted", "alert", "good", "warning", "normal"):
        assert contrast(name) >= 4.5, name
    for name in ("anomalous", *(f"series-{k}" for k in range(1, 7))):
        assert contrast(name) >= 3, name


HOSTILE = "<script>alert(1)</script>"


def test_hostile_names_are_text_wherever_they_stand() -> None:
    names = (HOSTILE, "</style><img src=x onerror=alert(1)>", "$\\frac{$", "{{ 7 * 7 }}", '" onload="alert(1)', "a\x00\x1b\ud800\u202eb")
    made = evaluations.make(device_names=names, days=3.0, feature="</style><script>alert(2)</script>")
    curve = next(iter(made.run.curves.values())) if made.run else None
    assert made.run
    assert curve
    run = msgspec.structs.replace(made.run, curves={f"</svg>{HOSTILE}": curve})
    html = report.render([made._replace(run=run)])
    page = Page(html)
    assert page.all("script") == page.all("img") == []
    assert HOSTILE in page.text
    assert "</style><img src=x onerror=alert(1)>" in page.text
    assert "$\\frac{$" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "</style><script>alert(2)</script>" in page.text
    assert HOSTILE in page.labels()
    assert not [attributes for _, attributes in page.elements if "onload" in attributes or "onerror" in attributes]
    assert not re.search("[\x00\x1b\ud800\u202e]", html)
    assert len(pictures(html)) == html.count("<svg ")
    html.encode()


def test_hostile_text_in_a_picture_stays_text(whole: Evaluation) -> None:
    rng = np.random.default_rng(0)
    found = study(rng.normal(size=(60, 2)), rng.random(60), rng.random(60), np.arange(60) > 40, np.arange(60) > 50, 0)
    boxes = tuple(msgspec.structs.replace(box, feature=f"</text></svg>{HOSTILE}") for box in found.boxes)
    html = report.render([whole._replace(study=msgspec.structs.replace(found, boxes=boxes))])
    assert Page(html).all("script") == []
    drawn = ["".join(text.itertext()) for picture in pictures(html) for text in picture.iter("text")]
    assert f"</text></svg>{HOSTILE}"[:39] in "".join(drawn)


def bare(whole: Evaluation) -> Evaluation:
    return whole._replace(run=None, study=None, us_per_window={})


def run_without(whole: Evaluation, **changes: object) -> Evaluation:
    assert whole.run
    return whole._replace(run=msgspec.structs.replace(whole.run, **changes))


def shaken(whole: Evaluation, scores: np.ndarray) -> Evaluation:
    return evaluations.with_scores(whole, scores.astype(np.float32))


@pytest.fixture(
    params=[
        "no labels", "anomalous only", "bundle only", "no alerts", "no study", "no tail", "empty tail", "one window", "no window",
        "few windows", "huge scores", "tiny scores", "equal scores", "negative scores", "one device", "no curve", "quantile",
        "no findings", "study of one class", "at one instant", "empty curve",
    ]
)  # fmt: skip
def lacking(request: pytest.FixtureRequest, whole: Evaluation) -> Evaluation:
    """The evaluation without one thing or another."""
    n = len(whole.judged.scores)
    assert whole.run
    assert whole.run.tail
    tail, study_ = whole.run.tail, whole.study
    assert study_
    none = np.zeros(n, dtype=bool)
    labelled = whole.labelled._replace(anomalous=[True] * len(whole.labelled.devices))
    kinds = {
        "no labels": lambda: evaluations.without_labels(whole),
        "anomalous only": lambda: evaluations.evaluation(
            whole.manifest, whole.run, whole.judged._replace(anomalous=~none), labelled, study_, {1: 3.0}
        ),
        "bundle only": lambda: bare(whole),
        "no alerts": lambda: shaken(whole, np.full(n, 0.5) + 1e-3 * np.arange(n) / n),
        "no study": lambda: whole._replace(study=None),
        "no tail": lambda: run_without(whole, tail=None),
        "empty tail": lambda: run_without(whole, tail=msgspec.structs.replace(tail, peaks=(), count=0, scale=1.0, shape=0.0)),
        "one window": lambda: evaluations.first_windows(whole, 1),
        "no window": lambda: evaluations.first_windows(whole, 0),
        "few windows": lambda: evaluations.first_windows(whole, 30),
        "huge scores": lambda: shaken(whole, whole.judged.scores.astype(np.float64) * 1e30),
        "tiny scores": lambda: shaken(whole, whole.judged.scores * 1e-30),
        "equal scores": lambda: shaken(whole, np.full(n, 1.0)),
        "negative scores": lambda: shaken(whole, -1e6 * np.abs(whole.judged.scores)),
        "one device": lambda: evaluations.make(device_names=("only",), days=3.0),
        "no curve": lambda: run_without(whole, curves={}),
        "quantile": lambda: evaluations.make(days=2.0, threshold=Threshold(quantile=0.99)),
        "no findings": lambda: run_without(whole, findings=()),
        "study of one class": lambda: whole._replace(
            study=study(np.ones((9, 2)), np.zeros(9), np.zeros(9), np.zeros(9, bool), np.zeros(9, bool), 0)
        ),
        "at one instant": lambda: whole._replace(judged=whole.judged._replace(times=np.full(n, evaluations.START))),
        "empty curve": lambda: run_without(
            whole, curves={"lstm": msgspec.structs.replace(next(iter(whole.run.curves.values())), loss=(), validation_loss=())}
        ),
    }
    return kinds[request.param]()


@pytest.mark.filterwarnings("error")
def test_what_is_missing_is_said_and_never_made_up(lacking: Evaluation) -> None:
    html = report.render([lacking])
    text = Page(html).text + Page(html).labels()
    assert not re.search(r"\b(nan|NaN|None|inf)\b", text)
    assert not re.search(r"[ML] ?-?nan|[ML] ?-?inf", html)
    assert "How it was made" in text
    for metric in ("roc_auc", "average_precision"):
        if metric not in lacking.metrics:
            assert "No curve: the test data holds windows of one class only." in text
    if lacking.run is None:
        assert "Not at hand: the audit is in the run" in text
    if not lacking.episodes.labelled:
        assert "the data holds no labelled episode" in text


@pytest.mark.filterwarnings("error")
def test_several_are_compared_first_and_told_apart() -> None:
    three = [
        evaluations.make(days=2.0),
        evaluations.make(days=2.0, strength=2.0, findings=evaluations.FINDINGS),
        evaluations.renamed(evaluations.make(days=2.0, seed=4), "other", "pca"),
    ]
    html = report.render([*three, bare(three[0])])
    page = Page(html)
    assert page.text.index("4 models compared") < page.text.index("Data audit")
    assert [attributes["id"] for attributes in page.all("article")] == ["r0", "r1", "r2", "r3"]
    assert len(set(re.findall(r"<h1 class=\"second\">(.*?)</h1>", html))) == 4
    assert "fridge 1.4.0, isolation_forest (2): These results are an artefact" in page.text
    assert "not judged on the same windows" in page.text
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_same_windows_need_no_caveat(whole: Evaluation) -> None:
    again = evaluations.renamed(evaluations.with_scores(whole, whole.judged.scores**2), "other", "pca")
    assert "not judged on the same windows" not in report.render([whole, again])


def test_variants_stand_beside_float32_with_what_they_take(whole: Evaluation) -> None:
    (stage,) = whole.manifest.stages
    narrow = msgspec.structs.replace(
        whole.manifest,
        stages=(msgspec.structs.replace(stage, precision="int8"),),
        files={"forest.onnx": FileEntry(size=204_800, sha256=evaluations.DIGEST)},
    )
    text = Page(report.render([whole, whole._replace(manifest=narrow, us_per_window={1: 30.0, 64: 2.5})])).text
    assert "fridge 1.4.0, int8" in text
    costs = text[text.index("What each takes of a gateway") :]
    average_precision = f"{whole.metrics['average_precision']:.4f}"
    for row in ("float32 onnx 793 KiB 41.7 3.12", f"int8 onnx 200 KiB 30 2.5 {average_precision}"):
        assert row in " ".join(costs.split())


def test_no_evaluation_makes_no_report() -> None:
    with pytest.raises(ValueError, match="at least one"):
        report.render([])


def test_report_is_written_as_utf_8(tmp_path: Path, whole: Evaluation, html: str) -> None:
    report.write(tmp_path / "report.html", [whole])
    assert (tmp_path / "report.html").read_bytes() == html.encode()


def test_drift_is_told_at_the_top() -> None:
    shifted = evaluations.make(days=3.0, shift=30.0)
    assert shifted.drift.verdict
    text = Page(report.render([shifted])).text
    assert text.index("Normal data has shifted") < text.index("episodes detected")


def test_thinned_lines_keep_their_peaks_and_break_where_a_device_was_silent() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(np.where(np.arange(20_000) == 12_000, 90_000.0, 60.0))
    scores = rng.random(20_000)
    scores[[77, 15_003]] = 9.0, -4.0
    xs, ys = axes.thin_line(times, scores, 3600.0, 300)
    assert len(xs) <= 2 * 300 + 2
    assert (np.nanmax(ys), np.nanmin(ys)) == (9.0, -4.0)
    assert np.isnan(ys).sum() == 1
    assert times[11_999] <= xs[np.flatnonzero(np.isnan(ys))[0]] <= times[12_000] + 600


def test_thinned_curves_keep_their_ends() -> None:
    x = np.linspace(0, 1, 50_000)
    thin_x, thin_y = axes.thin_curve(x, x**0.1)
    assert len(thin_x) <= 300
    assert (thin_x[0], thin_y[0], thin_x[-1], thin_y[-1]) == (0, 0, 1, 1)
    assert np.abs(np.interp(x, thin_x, thin_y) - x**0.1).max() < 0.01


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.025, "0.025"), (41.72, "41.7"), (12_345.6, "12,346"), (1.2e-12, "1.2e\u221212"), (0, "0"), (0.9999, "0.9999"), (None, "\u2013"),
     (float("nan"), "\u2013"), (float("inf"), "\u2013"), (-3.5, "\u22123.5"), (2e9, "2.0e9")],
)  # fmt: skip
def test_amounts_have_the_digits_that_mean_something(value: float | None, text: str) -> None:
    assert words.amount(value) == text


@pytest.mark.parametrize(("share", "text"), [(0.0, "0 %"), (1.0, "100 %"), (0.0001, "< 0.1 %"), (0.99999, "> 99.9 %"), (0.123, "12.3 %")])
def test_percentages_never_round_to_all_or_nothing(share: float, text: str) -> None:
    assert words.percent(share) == text.replace(" %", "\u00a0%")


def test_poisson_interval_is_the_exact_one() -> None:
    # Garwood's table: 0 events give 0 to 3.689, 3 give 0.619 to 8.767.
    assert words.rate_interval(0, 1.0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert words.rate_interval(3, 120.0) == pytest.approx((0.619 / 120, 8.767 / 120), abs=1e-4)
