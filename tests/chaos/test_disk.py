"""An agent goes on without its disk, and on it when that is back."""

from pathlib import Path

import pytest

from bundles import install, make_bundle
from chaos import disk
from chaos.disk_faults import FAULTS, Unavailable


@pytest.mark.parametrize(
    ("name", "comes_first"),
    [("full", "memory"), ("full", "hold"), ("full from the start", "memory"), ("reading and writing fail", "memory")],
)
def test_an_agent_whose_disk_fails_delivers_every_alert_and_recovers(
    tmp_path: Path, gateway_python: str, name: str, comes_first: str
) -> None:
    install(tmp_path / "state", make_bundle())
    try:
        fault = FAULTS[name](tmp_path / "state")
    except Unavailable as error:
        pytest.skip(reason=str(error))
    found = disk.weather(fault, tmp_path, gateway_python, comes_first)
    assert found.faults == []
    assert found.recovered_s < disk.RECOVERED_S
