"""What `make bench-bundles` does at length, in brief: corrupted bundles, kills, swaps under load."""

from pathlib import Path

import pytest

from bench import bundle_corruption, bundle_kills, bundle_swap
from bench.figures import Row


def missed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.missed]


def test_no_corrupted_bundle_goes_live_and_the_agent_goes_on_scoring(tmp_path: Path) -> None:
    rows, said = bundle_corruption.measure(tmp_path, quick=True)
    assert rows and not missed(rows)
    assert f"{2 * len(bundle_corruption.TRICKS)}  corrupted bundles refused, of {2 * len(bundle_corruption.TRICKS)}" in said
    assert sum(row.value for row in rows if "before" in row.name or "digests mended" in row.name) == 8


def test_a_bundle_that_went_live_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_corruption, "TRICKS", {"none at all": lambda data, rng: data})
    monkeypatch.setattr(bundle_corruption, "flip", lambda data, rng: data)
    # A sound bundle of a new version is no corruption.
    assert missed(bundle_corruption.offer(tmp_path, 1, seed=1))


def test_after_a_kill_at_any_moment_a_verified_bundle_is_live(tmp_path: Path, gateway_python: str) -> None:
    rows, _ = bundle_kills.measure(tmp_path, quick=True)
    assert rows and not missed(rows)


def test_a_swap_under_load_loses_nothing(tmp_path: Path, gateway_python: str) -> None:
    rows, _ = bundle_swap.measure(tmp_path, quick=True)
    assert missed([row for row in rows if row.unit == "readings"]) == []
