"""Golden windows: those that a gateway scores before a bundle goes live.

Rules this module keeps: they span the scores, the lowest and the highest among them; none of them sits where another processor's
rounding could carry it over a forest's cut or to another integer, because then a sound gateway would refuse a sound bundle.
"""

import numpy as np
import numpy.typing as npt

from vedette.contract.errors import BundleError
from vedette.contract.features import Rows
from vedette.contract.scores import Runtime, Scores, Stage
from vedette_exporter.parity import TOLERANCE, Outputs, Pair

WINDOWS = 32

_CANDIDATES = 512
_TRIES = 8
_JITTER = 1e-6
"""Ten times what LiteRT's outputs differ by between x86-64 and arm64."""


def choose(pair: Pair, windows: Rows, scores: Scores, rng: np.random.Generator) -> list[int]:
    """Choose up to WINDOWS of them, evenly over the range of their scores.

    Args:
        pair: Its exported models gave the scores.
        windows: float32 `(n, steps, columns)`.
        scores: float32 `(n,)`.
        rng: For the jitter.

    Returns:
        Positions, ascending.

    Raises:
        BundleError: not one score stands still.
    """
    candidates = _spread(scores, np.arange(len(scores)), _CANDIDATES)
    steady = candidates[_are_steady(pair, windows[candidates], scores[candidates], rng)]
    if not len(steady):
        raise BundleError("no window's score stands still under a millionth of noise; no bundle was made")
    return sorted(_spread(scores, steady, WINDOWS).tolist())


def _spread(scores: Scores, positions: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    order = positions[np.argsort(scores[positions], kind="stable")]
    return np.unique(order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.intp)])


def _are_steady(pair: Pair, windows: Rows, scores: Scores, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Whether scores stay, well within the self-test's tolerance, when what feeds later stages is a little off, or what goes into a
    stage that rounds it to integers.
    """
    steady = np.ones(len(windows), dtype=np.bool_)
    if not pair.feeding and not any(stage.computes_in_integers for stage in pair.stages):
        return steady
    runtimes = [_Jittered(stage, runtime, rng, pair.feeding) for stage, runtime in zip(pair.stages, pair.exported, strict=True)]
    scorer = pair.scorer(runtimes)
    for _ in range(_TRIES):
        steady &= np.abs(scorer.score(windows) - scores) <= TOLERANCE / 2 * np.maximum(1.0, np.abs(scores))
    return steady


class _Jittered:
    """A runtime whose inputs, where it computes in integers, and outputs, where it feeds others, are off by a millionth: of the value,
    or of how far its column varies.
    """

    def __init__(self, stage: Stage, runtime: Runtime, rng: np.random.Generator, feeding: set[str]) -> None:
        self._runtime, self._rng = runtime, rng
        self._inwards, self._outwards = stage.computes_in_integers, stage.name in feeding

    def run(self, windows: Rows) -> Outputs:
        """As the runtime, nearly."""
        outputs = self._runtime.run(self._off(windows) if self._inwards else windows)
        return {name: self._off(values) for name, values in outputs.items()} if self._outwards else outputs

    def _off(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        measure = np.maximum(np.abs(values), np.std(values, axis=0))
        return np.asarray(values + self._rng.uniform(-_JITTER, _JITTER, values.shape) * measure, dtype=np.float32)
