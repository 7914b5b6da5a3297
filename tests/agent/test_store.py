from pathlib import Path

import pytest

from bundles import install, make_bundle
from vedette.contract.errors import BundleError, ConfigError, DigestError
from vedette.store import Store


def test_an_installed_bundle_is_active(tmp_path: Path) -> None:
    install(tmp_path, make_bundle(version="1.0.0"))
    install(tmp_path, make_bundle(version="1.1.0"))
    bundle, _ = Store(tmp_path).open_active("fridge")
    assert bundle.manifest.version == "1.1.0"
    assert Store(tmp_path).installed() == [("fridge", "1.0.0", False), ("fridge", "1.1.0", True)]


def test_a_damaged_bundle_does_not_replace_the_active_one(tmp_path: Path) -> None:
    install(tmp_path, make_bundle(version="1.0.0"))
    damaged = bytearray(make_bundle(version="1.1.0"))
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(DigestError):
        install(tmp_path, bytes(damaged))
    assert Store(tmp_path).installed() == [("fridge", "1.0.0", True)]


def test_a_missing_model_says_how_to_install_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'no model "fridge" in .*; put one there with: vedette model install FILE\.vedette'):
        Store(tmp_path).open_active("fridge")


def test_a_place_where_nothing_can_be_written_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.vedette"
    path.write_bytes(make_bundle())
    (tmp_path / "state").write_text("a file, not a folder")
    with pytest.raises(BundleError, match="Not a directory; is this user allowed to write there"):
        Store(tmp_path / "state").install(path)
