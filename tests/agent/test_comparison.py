import json
from pathlib import Path

import pytest

from agents import STREAM, episode, vedette, write_config
from bundles import install, make_bundle

BASE = [4.0] * 60
DEVICES = {"both": 12.0, "only-new": 7.5}
"""Of temperatures that are so far from the usual 4 that both bundles say so, or only the more eager one."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    install(tmp_path / "state", make_bundle(version="1.0.0", threshold=4.0))
    return write_config(tmp_path, "mqtt://nobody", streams=[STREAM, {**STREAM, "name": "b", "topic": "b/{device}", "model": "fridge"}])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "day.jsonl"
    with path.open("w") as file:
        for device, warm in DEVICES.items():
            for payload in episode([*BASE[:20], *[warm] * 10, *BASE[:30]]):
                record = {"time": payload["ts"], "topic": f"plant/x/fridge/{device}/telemetry", "payload": payload}
                file.write(json.dumps(record) + "\n")
    return path


def test_a_given_bundles_alerts_stand_beside_the_live_ones(tmp_path: Path, config: Path, recording: Path) -> None:
    (tmp_path / "eager.vedette").write_bytes(make_bundle(version="1.1.0", threshold=3.0))
    done = vedette("replay", "-c", config, "--with", tmp_path / "eager.vedette", recording)
    assert done.returncode == 0, done.stderr
    both, given, counts, numbers = done.stdout.splitlines()
    assert both == "2026-09-21 14:35 both  fridges/both  live 14:35 to 14:47, peak 2.00, given 14:35 to 14:47, peak 2.67"
    assert given == "2026-09-21 14:35 given fridges/only-new  given 14:35 to 14:47, peak 1.17"
    assert counts == "alerts in both 1, only in 1.0.0 (live) 0, only in 1.1.0 (given) 1"
    assert numbers.startswith("120 windows beside 1.0.0: 16.67% over the threshold (live 8.33%), 2 alerts (1), median score 0.0")
    alone = vedette("replay", "-c", config, recording)
    assert len(alone.stdout.splitlines()) == 2, "live is what it is without another beside it"


def test_a_kept_version_is_compared_by_its_name(tmp_path: Path, config: Path, recording: Path) -> None:
    install(tmp_path / "state", make_bundle(version="2.0.0", threshold=3.0))
    done = vedette("replay", "--json", "-c", config, "--model", "fridge=1.0.0", recording)
    assert done.returncode == 0, done.stderr
    *lines, last = map(json.loads, done.stdout.splitlines())
    together = last["comparison"]
    assert (together["both"], together["live"], together["given"]) == (1, 1, 0)
    assert (together["numbers"]["live"]["version"], together["numbers"]["candidate"]["version"]) == ("2.0.0", "1.0.0")
    assert [(p["device"], len(p["live"]), len(p["given"])) for p in together["pairs"]] == [("both", 1, 1), ("only-new", 1, 0)]
    assert {line["payload"]["model"]["version"] for line in lines} == {"2.0.0"}


def test_what_cannot_be_compared_says_why(tmp_path: Path, config: Path, recording: Path) -> None:
    (tmp_path / "pump.vedette").write_bytes(make_bundle(name="pump"))
    other = vedette("replay", "-c", config, "--with", tmp_path / "pump.vedette", recording)
    assert (other.returncode, other.stdout) == (1, "")
    assert "pump.vedette is of model pump, but the streams use fridge" in other.stderr
    kept = vedette("replay", "-c", config, "--model", "fridge=9.9.9", recording)
    assert (kept.returncode, kept.stdout) == (1, "")
    assert "--model: expected NAME=VERSION of what is kept here (fridge: 1.0.0), got fridge=9.9.9" in kept.stderr
    damaged = tmp_path / "damaged.vedette"
    damaged.write_bytes((tmp_path / "pump.vedette").read_bytes()[:-20])
    assert vedette("replay", "-c", config, "--with", damaged, recording).returncode == 1
    assert vedette("replay", "-c", config, "--with", damaged, "--model", "fridge=1.0.0", recording).returncode == 2
