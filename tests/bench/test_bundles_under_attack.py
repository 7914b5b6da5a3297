"""What `make bench-bundles` does at length, in brief: corrupted bundles, kills, swaps under load."""

import pytest

from bench import bundle_corruption, bundle_kills, bundle_swap
from bench.figures import Row


def missed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.missed]


def quiet(_: str) -> None:
    pass


def test_no_corrupted_bundle_goes_live_and_the_agent_goes_on_scoring() -> None:
    rows = bundle_corruption.measure(2 * len(bundle_corruption.TRICKS), 1, quiet)
    assert rows and not missed(rows)


def test_damage_before_packing_is_found_by_the_runtime_or_the_golden_windows() -> None:
    rows = bundle_corruption.resealed(8, 1, quiet)
    assert sum(row.value for row in rows) == 8


def test_after_a_kill_at_any_moment_a_verified_bundle_is_live(gateway_python: str) -> None:
    rows = bundle_kills.measure(10, 1, gateway_python, quiet)
    assert rows and not missed(rows)


def test_a_swap_under_load_loses_nothing(gateway_python: str) -> None:
    rows = bundle_swap.measure(1000.0, 3.0, gateway_python, quiet)
    assert missed([row for row in rows if row.unit == "readings"]) == []


def test_a_bundle_that_went_live_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_corruption, "TRICKS", {"none at all": lambda data, rng: data})
    monkeypatch.setattr(bundle_corruption, "flip", lambda data, rng: data)
    # A sound bundle of a new version is no corruption.
    assert missed(bundle_corruption.measure(1, 1, quiet))
