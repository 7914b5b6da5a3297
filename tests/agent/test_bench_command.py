"""`vedette bench` measures any bundle and any configuration, offline, with readings that the streams really take."""

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from agents import STREAM, write_config
from bundles import DOOR, TEMPERATURE, install, make_bundle
from vedette import config
from vedette.bench.made_up import DEVICES, batches
from vedette.commands.bench import bench
from vedette.contract.errors import BundleError, ConfigError
from vedette.contract.features import Categories, DayOfWeek, Elapsed, FeatureSpec, TimeOfDay
from vedette.contract.payloads import decoder_for
from vedette.contract.windows import WindowSpec

EVERY_KIND: FeatureSpec = (
    TEMPERATURE,
    DOOR,
    Categories(name="roles", values=("admin", "user")),
    TimeOfDay(),
    DayOfWeek(),
    Elapsed(),
)
NESTED: dict[str, Any] = {
    "name": "nested",
    "topic": "site/+/events",
    "model": "fridge",
    "device": {"field": "who.id"},
    "payload": {"time": {"field": "at", "unit": "iso"}, "fields": {"temperature": "values.temp.c"}},
}


def measured(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert bench([*map(str, arguments), "--json"]) == 0
    printed, said = capsys.readouterr()
    assert not said, "it is quiet in a pipe"
    found: dict[str, Any] = json.loads(printed)
    return found


def test_a_bundle_is_measured_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fridge.vedette"
    path.write_bytes(make_bundle(window=WindowSpec(steps=3, stride=2)))
    found = measured(capsys, path)
    (stream,) = found["streams"]
    assert (stream["model"], stream["version"], stream["steps"]) == ("fridge", "1.0.0", 3)
    parts = stream["us_a_reading"]
    assert parts["total"] > 0
    assert sum(us for name, us in parts.items() if name != "total") == pytest.approx(parts["total"], rel=0.3)
    assert parts["models"] > 0
    assert stream["windows_a_second"].keys() == {"1", "32", "256"}
    assert stream["windows_a_second"]["256"] > stream["windows_a_second"]["1"]
    assert found["start"]["total_s"] > found["start"]["import_s"] + found["start"]["load_s"]
    assert found["start"]["rss_bytes"] > 10_000_000
    assert {"python", "vedette", "numpy"} <= found["versions"].keys()
    assert found["machine"]


def test_a_model_on_a_grid_that_waits_for_late_readings_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fridge.vedette"
    path.write_bytes(make_bundle(window=WindowSpec(steps=3, period_s=60.0, late_s=150.0)))
    (stream,) = measured(capsys, path)["streams"]
    assert stream["us_a_reading"]["models"] > 0


def test_every_configured_stream_is_measured_with_its_own_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tmp_path / "state", make_bundle())
    path = write_config(tmp_path, "mqtt://localhost:1", streams=[STREAM, NESTED])
    assert bench(["-c", str(path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^fridges: fridge 1\.0\.0, isolation_forest, 1 steps( +[\d.]+){9}$", printed, re.MULTILINE)
    assert re.search(r"^nested: fridge 1\.0\.0", printed, re.MULTILINE)
    assert "MB" in printed


@pytest.mark.parametrize("unit", ["s", "ms", "us", "iso"])
def test_made_up_readings_are_what_the_stream_takes(tmp_path: Path, unit: str) -> None:
    stream = {**NESTED, "payload": {**NESTED["payload"], "time": {"field": "at", "unit": unit}}}
    (taken,) = config.load(write_config(tmp_path, "mqtt://localhost", streams=[stream])).streams
    assert taken.device
    decoder = decoder_for(taken.payload, EVERY_KIND, taken.device.field)
    first, second = islice(batches(taken, EVERY_KIND), 2)
    readings = decoder.decode_batch(first, [""] * len(first))
    assert len(set(readings.devices)) == DEVICES == readings.accepted
    for temperature, door, *_ in readings.values:
        assert isinstance(temperature, float) and -50.0 <= temperature <= 80.0 and door in {"closed", "open"}
    later = decoder.decode_batch(second, [""] * len(second))
    assert later.times[0] == pytest.approx(readings.times[0] + 1.0)
    assert taken.filter.match(first[0].topic) is not None


def test_what_is_no_bundle_or_no_configuration_is_said(tmp_path: Path) -> None:
    path = tmp_path / "broken.vedette"
    path.write_bytes(b"PK")
    with pytest.raises(BundleError, match=r"broken\.vedette"):
        bench([str(path)])
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        bench(["-c", str(tmp_path / "nowhere.yaml")])


def test_a_model_that_is_not_installed_is_named_with_its_stream(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fridge"):
        bench(["-c", str(write_config(tmp_path, "mqtt://localhost"))])
