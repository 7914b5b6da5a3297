"""Routes: where a model converts in several ways, each passes the gate by itself, and the quickest is taken.

Rules this module keeps: what is compared and timed is the gateway's own runtime; a route is refused with its reason, and only where all of
them are is there no bundle. Timings differ from one export to the next, and equal runs shall give equal bytes: routes have an order, and a
later one is taken only where it is quicker by a clear margin.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vedette import runtimes
from vedette.contract.errors import BundleError, ScoreError
from vedette.contract.features import Rows
from vedette.contract.scores import Runtime, Stage
from vedette_exporter import parity
from vedette_exporter.parity import Recorder

MARGIN = 0.8
"""A later route must take less than this share of the time. One export's figures differ from another's by up to a tenth."""

BATCHES = (1, 32)
"""Sizes that are timed. What counts is the geometric mean: a gateway scores one by one when it is idle, and in batches when it is not."""

_TURNS, _RUNS = 7, 7


class Route(NamedTuple):
    """A way to convert a model.

    Attributes:
        name: In a word.
        convert: Gives the file's bytes, or raises BundleError.
    """

    name: str
    convert: Callable[[], bytes]


class Tried(NamedTuple):
    """What came of a route.

    Attributes:
        route: Its name.
        bytes: Size of the file; 0 where there is none.
        us_per_window: By size of batch, on this machine; empty where there was nothing to compare with.
        refused: Why it cannot be taken; None where it can.
        is_taken: Whether this is the one.
    """

    route: str
    bytes: int
    us_per_window: Mapping[int, float]
    refused: str | None
    is_taken: bool


class Chosen(NamedTuple):
    """A stage's model file, loaded, and how it was come by."""

    model: bytes
    runtime: Runtime
    tried: tuple[Tried, ...]


def choose(stage: Stage, routes: Sequence[Route], original: Recorder, *, feeds: bool, max_bytes: int, first: bool = False) -> Chosen:
    """Convert a stage's model by each route and take the quickest that scores as the original does.

    Args:
        stage: As it will be in the bundle.
        routes: The preferred one first.
        original: What the stage's original was given and gave.
        feeds: Whether the stage feeds others.
        max_bytes: No larger file is taken.
        first: Take the first that passes, and try no other.

    Raises:
        BundleError: no route passes.
    """
    tried: list[Tried] = []
    passed: dict[int, tuple[bytes, Runtime]] = {}
    for number, route in enumerate(routes):
        if first and passed:
            break
        size, refused = 0, None
        try:
            model = route.convert()
            size = len(model)
            if size > max_bytes:
                raise BundleError(f"{size} bytes are more than the {max_bytes} that are allowed")
            runtime = runtimes.load(stage, model)
            parity.check_stage(stage, original, runtime, feeds=feeds)
            passed[number] = model, runtime
        except (BundleError, ScoreError) as error:
            refused = str(error)
        tried.append(Tried(route.name, size, {}, refused, is_taken=False))
    if not passed:
        reasons = "; ".join(f"{one.route}: {one.refused}" for one in tried)
        raise BundleError(f"stage {stage.name}: no conversion passes: {reasons}; no bundle was made")
    if len(passed) > 1:
        timed = time_us([runtime for _, runtime in passed.values()], original.inputs)
        for number, us in zip(passed, timed, strict=True):
            tried[number] = tried[number]._replace(us_per_window=us)
    taken = list(passed)[quickest([tried[number].us_per_window for number in passed])]
    tried[taken] = tried[taken]._replace(is_taken=True)
    return Chosen(*passed[taken], tuple(tried))


def quickest(timed: Sequence[Mapping[int, float]]) -> int:
    """The position of the first, or of a later one that is quicker by MARGIN than whatever would be taken without it."""
    best = 0
    for number, us in enumerate(timed):
        if _cost(us) < MARGIN * _cost(timed[best]):
            best = number
    return best


def _cost(us: Mapping[int, float]) -> float:
    return float(np.exp(np.mean(np.log(list(us.values()))))) if us else 0.0


def time_us(models: Sequence[Runtime], inputs: Rows) -> list[dict[int, float]]:
    """Microseconds a window by size of batch, one of BATCHES, of models in turn, which have all run before.

    The fastest run is what counts: whatever else the machine does only adds, and where it is busy a median is mostly that. A turn has
    several runs, because the first of them finds the caches full of the model before.
    """
    found: list[dict[int, float]] = [{} for _ in models]
    for size in BATCHES:
        batch = inputs[:size]
        turns_s = [[min(_run_s(model, batch) for _ in range(_RUNS)) for model in models] for _ in range(_TURNS)]
        for us, fastest_s in zip(found, np.min(turns_s, axis=0), strict=True):
            us[size] = round(float(fastest_s) / size * 1e6, 1)
    return found


def _run_s(model: Runtime, batch: Rows) -> float:
    started = time.perf_counter()
    model.run(batch)
    return time.perf_counter() - started
