"""What fuzzing starts from and what it has found, tried without it."""

import pytest

from bench.figures import Row
from fuzz.campaign import FOUND, Hunted, rows_of
from fuzz.seeds import seeds
from fuzz.targets import TARGETS, shares


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_samples_whole_cut_and_doubled(name: str) -> None:
    samples = seeds()[name]
    assert samples
    target = TARGETS[name].target
    for sample in samples:
        for data in (
            sample,
            sample[: len(sample) // 2],
            sample[1:],
            sample + sample,
            sample.replace(b"1", b"9" * 400),
            sample.replace(b'"', b"\xff"),
        ):
            target(data)


def test_what_was_found_is_mended() -> None:
    for path in FOUND.iterdir():
        if not path.name.startswith("."):
            TARGETS[path.name.split("-")[0]].target(path.read_bytes())


def test_every_target_gets_its_share() -> None:
    given = shares(10_000_000, 100_000)
    assert set(given) == set(TARGETS) == set(seeds())
    assert min(given.values()) >= 100_000 and sum(given.values()) >= 10_000_000 - len(given)


def test_an_exception_or_a_target_that_ended_before_its_time_misses_the_bar() -> None:
    def missed(hunted: list[Hunted], failed: list[str]) -> list[str]:
        rows: tuple[Row, ...] = rows_of(hunted, failed, 1000)
        return [row.name for row in rows if row.missed]

    good = Hunted("json", 1000, 50, 9, 1.0, {})
    assert not missed([good], [])
    assert missed([good._replace(raised={"json-1": "KeyError"})], []) == ["exceptions that no reader declares"]
    assert missed([good], ["topics"]) == ["exceptions that no reader declares"]
    assert "executions in all" in missed([good._replace(executions=999)], [])
