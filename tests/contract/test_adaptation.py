"""Adapting scores: rare is high, each device for itself, the same however windows are batched, and never out of bounds."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.adaptation import BINS, Adaptation, Adapter, Floats, places_of
from vedette.contract.windows import Batch


def adaptation(raw: Floats | None = None, half_life: float = 100.0) -> Adaptation:
    """As calibration fits it, to 1000 exponential scores if no others are given."""
    raw = np.random.default_rng(0).exponential(size=1000) if raw is None else raw
    counts = np.bincount(places_of(raw, 0.0, float(np.median(raw))).astype(np.intp), minlength=BINS)
    return Adaptation(
        origin=0.0, unit=float(np.median(raw)), seed=tuple((counts / len(raw)).tolist()), weight=len(raw), half_life=half_life
    )


SEEDED = adaptation()


def batch(slots: list[int]) -> Batch:
    nowhere = np.zeros(len(slots), dtype=np.bool_)
    return Batch(np.arange(len(slots)), np.zeros((len(slots), 1, 1), np.float32), np.array(slots, np.intp), nowhere)


def adapt(adapter: Adapter, *raw: float, slot: int = 0) -> list[float]:
    found: list[float] = adapter.adapt(np.array(raw)[:, None], batch([slot] * len(raw)))[:, 0].tolist()
    return found


def test_a_surprisal_says_how_rare_a_score_is() -> None:
    # Of exponential scores a share of exp(-x) is over x.
    found = SEEDED.surprisal(np.array([math.log(2), math.log(10), math.log(100)]))
    assert found.tolist() == pytest.approx([0.3, 1.0, 2.0], abs=0.15)


@given(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=20))
def test_a_higher_score_never_has_a_lower_surprisal(raw: list[float]) -> None:
    found = SEEDED.surprisal(np.sort(raw))
    assert (np.diff(found) >= -1e-12).all()
    assert (found >= 0).all()
    assert (found <= SEEDED.cap).all()


def test_the_first_window_of_a_device_is_judged_by_the_seed_alone() -> None:
    raw = [0.1, 1.0, 5.0, 50.0]
    found = [adapt(Adapter([SEEDED]), x)[0] for x in raw]
    assert found == pytest.approx(SEEDED.surprisal(np.array(raw)).tolist(), rel=1e-5)


def test_a_stage_that_does_not_adapt_keeps_its_score() -> None:
    raw = np.array([[3.0, 3.0]])
    assert Adapter([None, SEEDED]).adapt(raw, batch([0]))[0, 0] == 3.0
    assert Adapter([None, None]).adapt(raw, batch([0])) is raw


def test_what_lasts_for_some_half_lives_is_ordinary_and_told_as_a_shift() -> None:
    adapter = Adapter([SEEDED])
    rng = np.random.default_rng(1)
    usual = adapt(adapter, *rng.exponential(size=400))
    assert adapter.shifts(np.array([0]))[0, 0] == pytest.approx(0.5, abs=0.1)
    assert adapter.shifted() == 0
    shifted = adapt(adapter, *(20 + rng.exponential(size=400)))
    assert np.mean(usual) < 0.7
    assert min(shifted[:2]) > 3.5
    assert np.mean(shifted[-100:]) < 0.7
    assert adapter.shifts(np.array([0]))[0, 0] > 0.99
    assert adapter.shifted() == 1
    assert Adapter([None]).shifted() == 0


def test_a_device_keeps_its_own_past_and_another_one_begins_with_the_seed() -> None:
    adapter = Adapter([SEEDED])
    adapt(adapter, *[20.0] * 400)
    assert adapt(adapter, 20.0)[0] < 0.5
    fresh = pytest.approx(SEEDED.surprisal(np.array([20.0])).tolist(), rel=1e-5)
    assert adapt(adapter, 20.0, slot=40) == fresh
    adapter.reset(np.array([0]))
    assert adapt(adapter, 20.0) == fresh


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-1e30, 1e30) | st.floats(0, 9)), max_size=60), st.integers(0, 60))
def test_adapting_does_not_depend_on_how_windows_are_batched(windows: list[tuple[int, float]], cut: int) -> None:
    adaptations = [SEEDED, None, adaptation(np.linspace(1, 2, 50), half_life=3.0)]
    slots, raw = [slot for slot, _ in windows], np.array([[x, x, x] for _, x in windows]).reshape(-1, 3)
    whole = Adapter(adaptations).adapt(raw, batch(slots))
    parts, single = Adapter(adaptations), Adapter(adaptations)
    halves = [parts.adapt(raw[s], batch(slots[s])) for s in (slice(0, cut), slice(cut, None))]
    np.testing.assert_array_equal(np.concatenate(halves), whole)
    ones = [single.adapt(raw[i : i + 1], batch(slots[i : i + 1])) for i in range(len(slots))]
    np.testing.assert_array_equal(np.concatenate([*ones, np.zeros((0, 3))]), whole)


@given(st.lists(st.floats(-1e38, 1e38), min_size=1, max_size=50), st.sampled_from([0.01, 1.0, 1e9]))
def test_whatever_comes_all_stays_finite_and_under_the_cap(raw: list[float], half_life: float) -> None:
    adapter = Adapter([msgspec.structs.replace(SEEDED, half_life=half_life)])
    found = adapt(adapter, *raw)
    assert np.isfinite(found).all()
    assert max(found) <= SEEDED.cap
    assert 0 <= adapter.shifts(np.array([0]))[0, 0] <= 1


@pytest.mark.parametrize("wrong", [{"unit": 0.0}, {"origin": math.inf}, {"seed": (0.0,) * BINS}, {"seed": (1.0,)}, {"half_life": -1.0}])
def test_an_adaptation_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**msgspec.to_builtins(SEEDED), **wrong}, Adaptation)
