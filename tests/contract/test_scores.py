from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.adaptation import BINS, Adaptation
from vedette.contract.errors import ScoreError
from vedette.contract.features import Rows
from vedette.contract.scores import Calibration, Feed, Input, Scorer, Smoother, Stage
from vedette.contract.windows import Batch

RAW = Calibration(centre=0, threshold=1)


class Sums:
    """A runtime that sums its inputs, and tells how wide they were."""

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        flat = windows.reshape(len(windows), -1)
        return {"sum": flat.sum(axis=1, keepdims=True), "pair": flat[:, :2]}


def stage(name: str, input_: Input = "flat", calibration: Calibration | None = RAW) -> Stage:
    return Stage(name=name, runtime="onnx", file=name, input=input_, output="sum", calibration=calibration)


def scorer(*stages: Stage, combine: str = "all", calibration: Calibration | None = None) -> Scorer:
    return Scorer(stages, [Sums() for _ in stages], combine, calibration)  # type: ignore[arg-type] # because pytest's parameters are plain text


WINDOWS = np.arange(12, dtype=np.float32).reshape(2, 3, 2)


@pytest.mark.parametrize(("input_", "expected"), [("flat", [15, 51]), ("window", [15, 51]), ("last", [9, 21])])
def test_a_stage_sees_what_it_asks_for(input_: Input, expected: list[float]) -> None:
    assert scorer(stage("a", input_)).score(WINDOWS).tolist() == expected


def test_a_stage_may_be_fed_by_an_earlier_one_that_has_no_say() -> None:
    fed = scorer(stage("encoder", "window", None), stage("b", Feed(stage="encoder", outputs=("pair", "sum"))))
    assert fed.raw(WINDOWS).tolist() == [[0 + 1 + 15], [6 + 7 + 51]]


def test_an_output_that_has_not_a_row_for_every_window_is_an_error_even_where_it_could_be_spread_over_them() -> None:
    class Doubles:
        def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
            return {"sum": np.zeros((len(windows), 1), np.float32), "pair": np.zeros((2 * len(windows), 2), np.float32)}

    stages = (stage("encoder", "window", None), stage("b", Feed(stage="encoder", outputs=("pair",))))
    with pytest.raises(ScoreError, match=r'stage encoder: output "pair" has shape \(4, 2\) for 2 windows'):
        Scorer(stages, [Doubles(), Sums()], "all").score(WINDOWS)


@pytest.mark.parametrize(("combine", "expected"), [("all", 9.0), ("any", 15.0), ("mean", 12.0)])
def test_stages_combine(combine: str, expected: float) -> None:
    assert scorer(stage("a"), stage("b", "last"), combine=combine).score(WINDOWS)[0] == expected


def test_a_combination_has_a_threshold_of_its_own() -> None:
    assert scorer(stage("a"), stage("b"), calibration=Calibration(centre=5, threshold=10)).score(WINDOWS)[0] == 2.0


def test_a_window_by_itself_is_judged_by_the_seed_of_an_adaptation_and_in_a_row_by_what_came_before() -> None:
    uniform = Adaptation(origin=0, unit=1, seed=(1.0,) * BINS, weight=1000, half_life=1000)
    adapting = Calibration(centre=0, threshold=2, adaptation=uniform)
    subject = scorer(stage("a", calibration=adapting), stage("b", "last"), combine="any")
    raw = np.array([[99.0, 0], [99, 0]])
    by_itself = subject.combine(raw)
    assert by_itself[0] == by_itself[1] == pytest.approx(uniform.surprisal(raw[:1, 0])[0] / 2)
    in_a_row = subject.combine_adapted(subject.adapter().adapt(raw, batch([0, 0], [True, False])))
    assert in_a_row[0] == pytest.approx(by_itself[0])
    assert in_a_row[1] < in_a_row[0]


@pytest.mark.parametrize(
    "stages",
    [
        [stage("a"), stage("a")],
        [stage("b", Feed(stage="encoder", outputs=("sum",))), stage("encoder")],
        [stage("a", calibration=None)],
    ],
)
def test_stages_that_cannot_run_are_refused(stages: list[Stage]) -> None:
    with pytest.raises(ValueError, match="stage"):
        scorer(*stages)


def test_an_output_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    with pytest.raises(ScoreError, match='no output "error", it has sum, pair'):
        scorer(stage("encoder", "window", None), stage("b", Feed(stage="encoder", outputs=("error",)))).score(WINDOWS)


def batch(slots: list[int], first: list[bool]) -> Batch:
    is_first = np.array(first, np.bool_)
    return Batch(np.arange(len(slots)), np.zeros((len(slots), 1, 1), np.float32), np.array(slots, np.intp), is_first)


def test_each_device_has_its_own_average_which_begins_with_its_first_window() -> None:
    smoother = Smoother([1.0, None])
    raw = np.array([[8.0, 8], [100, 100], [0, 0], [0, 0]])
    assert smoother.smooth(raw, batch([0, 5, 0, 0], [True, True, False, True])).tolist() == [[8, 8], [100, 100], [4, 0], [0, 0]]


def test_a_device_whose_window_could_not_be_scored_begins_anew() -> None:
    smoother = Smoother([1.0])
    smoother.smooth(np.array([[8.0]]), batch([0], [True]))
    smoother.forget(batch([0, 7], [False, True]))
    assert smoother.smooth(np.array([[2.0], [3.0]]), batch([0, 7], [False, False])).tolist() == [[2.0], [3.0]]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-9, 9)), max_size=30), st.integers(0, 30))
def test_smoothing_does_not_depend_on_how_windows_are_batched(windows: list[tuple[int, float]], cut: int) -> None:
    slots, raw = [slot for slot, _ in windows], np.array([[x] for _, x in windows]).reshape(-1, 1)
    first = [slot not in slots[:place] for place, slot in enumerate(slots)]
    whole = Smoother([3.0]).smooth(raw, batch(slots, first))
    parts = Smoother([3.0])
    halves = [parts.smooth(raw[s], batch(slots[s], first[s])) for s in (slice(0, cut), slice(cut, None))]
    np.testing.assert_array_equal(np.concatenate(halves), whole)
