"""The conversion matrix: every detector, in every runtime and precision, as a gateway would get it.

Rules this module keeps: a cell is a bundle that `vedette export` made of one training and read back; where there is none the cell says why;
the cells of a detector are timed in turn, in one process.
"""

import contextlib
import io
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from bench.figures import Row
from vedette import runtimes
from vedette.contract import bundle as bundles
from vedette.contract.errors import BundleError
from vedette.contract.features import Rows
from vedette.contract.scores import Precision, Scorer
from vedette.simulate.command import simulate
from vedette_exporter import timing
from vedette_exporter.choice import Choice, Runtime
from vedette_exporter.pack import Packed, pack
from vedette_training import run as runs
from vedette_training.command import train

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")
RUNTIMES: tuple[Runtime, ...] = ("litert", "onnx")
PARITY, FOREST_US = 1e-4, 40.0
"""Bars, issue 4's: of every float32 stage given the same input; of a row of an isolation forest of 100 trees, scored alone."""

_ONNX_ONLY = "scikit-learn's models convert to ONNX only"


class Subject(NamedTuple):
    """What is trained.

    Attributes:
        like: The shipped recipe that it differs from.
        detector: In YAML.
        steps: Of its windows.
        is_keras: Whether a part of it can run in LiteRT.
    """

    like: str
    detector: str
    steps: int
    is_keras: bool


SUBJECTS: Mapping[str, Subject] = {
    "lstm": Subject("cold-chain-lstm", "{kind: lstm, units: 64, epochs: 6, batch: 128, learning_rate: 0.003}", 30, is_keras=True),
    "lstm_autoencoder": Subject("cold-chain-isolation-forest", "{kind: lstm_autoencoder, preset: deep, epochs: 4}", 50, is_keras=True),
    "isolation_forest": Subject("cold-chain-isolation-forest", "{kind: isolation_forest, trees: 100}", 30, is_keras=False),
    "one_class_svm": Subject("cold-chain-isolation-forest", "{kind: one_class_svm, nu: 0.01, max_windows: 3000}", 30, is_keras=False),
    "dbscan": Subject("cold-chain-isolation-forest", "{kind: dbscan}", 30, is_keras=False),
    "pca": Subject("cold-chain-isolation-forest", "{kind: pca}", 30, is_keras=False),
    "hybrid": Subject(
        "cold-chain-hybrid",
        "{kind: hybrid, combine: any, autoencoder: {preset: small, epochs: 6}, members: "
        "[{detector: {kind: dbscan}, input: [latent, error]}, {detector: {kind: isolation_forest}, input: [latent]}]}",
        60,
        is_keras=True,
    ),
}


class Plan(NamedTuple):
    """What is measured on how much.

    Attributes:
        rounds: How often each cell's time is taken.
    """

    subjects: Sequence[str]
    history: Sequence[str]
    rounds: int


FULL = Plan(tuple(SUBJECTS), ("--devices", "40", "--duration", "3d"), 5)
QUICK = Plan(("isolation_forest", "pca"), ("--devices", "12", "--duration", "1d"), 2)


class Cell(NamedTuple):
    """One bundle. `us` maps windows a call to microseconds a window, one for each round."""

    detector: str
    runtime: Runtime
    precision: Precision
    packed: Packed
    us: Mapping[int, Sequence[float]]

    @property
    def parity(self) -> float:
        """Of float32 what a stage differs by given the same input; of a narrower variant what the score does."""
        measured = self.packed.parity
        return max(measured.stages.values()) if self.precision == "float32" else measured.largest_difference


class Missing(NamedTuple):
    """A bundle that there is none of."""

    detector: str
    runtime: Runtime
    precision: Precision
    why: str


def measure(folder: Path, *, quick: bool) -> tuple[list[Row], str]:
    """Train, export and time.

    Args:
        folder: For history and runs.
        quick: Two detectors, in seconds.

    Returns:
        Figures, and the matrix as text.
    """
    plan = QUICK if quick else FULL
    history = folder / "history.csv"
    with _quiet():
        simulate(["cold-chain", *plan.history, "--fault-rate", "1", "-o", str(history)])
    cells: list[Cell | Missing] = []
    for name in plan.subjects:
        _say(f"{name}: training")
        cells += _cells(name, _train(name, history, folder), plan.rounds)
    return [row for cell in cells for row in _rows(cell)], table(cells)


def _train(name: str, history: Path, folder: Path) -> Path:
    subject = SUBJECTS[name]
    recipe, trained = folder / f"{name}.yaml", folder / f"{name}.run"
    window = f"window: {{steps: {subject.steps}, max_gap_s: 600}}"
    recipe.write_text(f"like: {subject.like}\nname: {name}\ndetector: {subject.detector}\n{window}\ntrain_stride: 20\n")
    with _quiet():
        train([str(recipe), "--history", str(history), "-o", str(trained)])
    return trained


def _cells(name: str, trained: Path, rounds: int) -> list[Cell | Missing]:
    """A detector's row of the matrix."""
    made: dict[tuple[Runtime, Precision], Packed | str] = {}
    for runtime in RUNTIMES:
        for precision in PRECISIONS:
            _say(f"{name}: {runtime}, {precision}")
            try:
                with _quiet():
                    unable = runtime == "litert" and not SUBJECTS[name].is_keras
                    made[runtime, precision] = _ONNX_ONLY if unable else pack(trained, None, None, Choice(runtime, precision))
            except BundleError as error:
                made[runtime, precision] = str(error)
    found = {place: packed for place, packed in made.items() if isinstance(packed, Packed)}
    timed = dict(zip(found, _time([_read(packed) for packed in found.values()], runs.read(trained)[1].windows, rounds), strict=True))
    return [
        Cell(name, runtime, precision, what, timed[runtime, precision])
        if isinstance(what, Packed)
        else Missing(name, runtime, precision, what)
        for (runtime, precision), what in made.items()
    ]


def _read(packed: Packed) -> Scorer:
    """As a gateway does, self-test included."""
    opened = bundles.read(packed.data)
    scorer = runtimes.load_scorer(opened)
    bundles.self_test(opened, scorer)
    return scorer


def _time(scorers: Sequence[Scorer], windows: Rows, rounds: int) -> Iterator[Mapping[int, Sequence[float]]]:
    taken = [timing.us_per_window(scorers, windows) for _ in range(rounds)]
    for number in range(len(scorers)):
        yield {size: [each[number][size] for each in taken] for size in timing.SIZES}


def _rows(cell: Cell | Missing) -> Iterator[Row]:
    name = f"{cell.detector}, {cell.runtime}, {cell.precision}"
    if isinstance(cell, Missing):
        yield Row(name=f"{name}: none: {cell.why}", value=0.0, unit="bundles", runs=0)
        return
    variant, parity = cell.packed.variants[-1], cell.packed.parity
    bar = PARITY if cell.precision == "float32" else parity.allowed.largest
    yield Row(name=f"{name}: parity", value=cell.parity, unit="of a score", bar=bar, better="lower", runs=1)
    yield Row(name=f"{name}: verdicts flipped", value=100 * parity.verdicts_flipped / parity.windows, unit="% of windows", runs=1)
    yield Row(name=f"{name}: model files", value=variant.model_bytes / 1024, unit="KiB", runs=1)
    if variant.average_precision is not None:
        yield Row(name=f"{name}: average precision", value=variant.average_precision, unit="held-out windows", runs=1)
    for size, us in cell.us.items():
        limit: tuple[float, Literal["lower"]] | tuple[None, None] = (None, None)
        if (cell.detector, size) == ("isolation_forest", 1):
            limit = (FOREST_US, "lower")
        yield Row(
            name=f"{name}: {size} a call",
            value=statistics.median(us),
            unit="us/window",
            bar=limit[0],
            better=limit[1],
            runs=len(us),
            spread=(min(us), max(us)),
        )


def table(cells: Sequence[Cell | Missing]) -> str:
    """The matrix, a line a cell; what there is none of below, once for each reason."""
    lines = [("detector", "runtime", "weights", "parity", "flipped", "KiB", *(f"us, {size} a call" for size in timing.SIZES), "AP")]
    for cell in cells:
        if isinstance(cell, Cell):
            variant, parity = cell.packed.variants[-1], cell.packed.parity
            times = (f"{statistics.median(us):.1f}" for us in cell.us.values())
            precision = "" if variant.average_precision is None else f"{variant.average_precision:.4f}"
            flipped, size = f"{parity.verdicts_flipped} of {parity.windows}", f"{variant.model_bytes / 1024:.0f}"
            lines.append((cell.detector, cell.runtime, cell.precision, f"{cell.parity:.1e}", flipped, size, *times, precision))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(_aligned, range(len(line)), line, widths)) for line in lines]
    missing = [cell for cell in cells if isinstance(cell, Missing)]
    reasons: dict[str, dict[str, None]] = {}
    for one in missing:
        # A reason that holds for every precision is said once.
        everywhere = all(other.why == one.why for other in missing if (other.detector, other.runtime) == (one.detector, one.runtime))
        count = sum((other.detector, other.runtime) == (one.detector, one.runtime) for other in missing)
        precision = "" if everywhere and count == len(PRECISIONS) else f" {one.precision}"
        reasons.setdefault(one.why, {})[f"{one.detector} {one.runtime}{precision}"] = None
    return "\n".join([*text, "", *(f"none of {', '.join(which)}: {why}" for why, which in reasons.items())])


def _aligned(column: int, text: str, width: int) -> str:
    return text.ljust(width) if column < 3 else text.rjust(width)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what training and converting print."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)
