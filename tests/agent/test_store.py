import errno
import os
from pathlib import Path
from unittest import mock

import pytest

from bundles import install, make_bundle
from vedette.contract.bundle import MAX_BUNDLE_BYTES
from vedette.contract.errors import BundleError, ConfigError, DigestError, FormatError, SelfTestError
from vedette.contract.manifest import Manifest
from vedette.records import Entry
from vedette.store import MAX_STARTS, Store


def write(folder: Path, version: str = "1.0.0", threshold: float = 4.0) -> Path:
    """A bundle's file."""
    path = folder / "given.vedette"
    path.write_bytes(make_bundle(version=version, threshold=threshold))
    return path


def versions(store: Store) -> dict[str, str]:
    """What has which role, and what was refused."""
    record = store.record("fridge")
    roles: dict[str, Entry | None] = {"live": record.live, "previous": record.previous, "candidate": record.candidate}
    return {role: entry.version for role, entry in roles.items() if entry} | {r.version: r.reason for r in record.refused}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One with versions 1.0.0 and, live, 1.1.0."""
    store = Store(tmp_path / "state")
    store.install(write(tmp_path, version="1.0.0"))
    store.install(write(tmp_path, version="1.1.0"))
    return store


def test_an_installed_bundle_is_live_and_the_one_before_is_kept(store: Store, tmp_path: Path) -> None:
    assert store.open_live("fridge").bundle.manifest.version == "1.1.0"
    assert versions(store) == {"live": "1.1.0", "previous": "1.0.0"}
    store.install(write(tmp_path, version="1.2.0"))
    assert versions(store) == {"live": "1.2.0", "previous": "1.1.0"}
    kept = sorted(path.name for path in (tmp_path / "state" / "models" / "fridge").iterdir())
    assert kept == ["1.1.0.vedette", "1.2.0.vedette", "record.json"]


def test_a_damaged_bundle_does_not_replace_the_live_one(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, version="1.2.0")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DigestError):
        store.install(path)
    assert versions(store) == {"live": "1.1.0", "previous": "1.0.0"}


def test_a_missing_model_says_how_to_install_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'no model "fridge" in .*; put one there with: vedette model install FILE\.vedette'):
        Store(tmp_path).open_live("fridge")


@pytest.mark.parametrize("name", ["../fridge", "", ".", "..", "Fridge", "a/b", "x" * 65])
def test_no_name_leads_out_of_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a model"):
        Store(tmp_path).record(name)


def test_a_place_where_nothing_can_be_written_is_a_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "state").write_text("a file, not a folder")
    with pytest.raises(BundleError, match="Not a directory; is this user allowed to write there"):
        Store(tmp_path / "state").install(path)


def test_a_full_disk_leaves_the_live_one_and_nothing_else(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, version="1.2.0")
    with mock.patch("os.fsync", side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), pytest.raises(BundleError, match="No space"):
        store.install(path)
    assert versions(store) == {"live": "1.1.0", "previous": "1.0.0"}
    assert sorted(p.name for p in (tmp_path / "state" / "models" / "fridge").glob(".*")) == []


def test_what_is_no_file_or_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    os.mkfifo(tmp_path / "pipe.vedette")
    with (tmp_path / "huge.vedette").open("wb") as file:
        file.truncate(MAX_BUNDLE_BYTES + 1)
    with pytest.raises(FormatError, match=r"pipe\.vedette: not a file"):
        store.install(tmp_path / "pipe.vedette")
    with pytest.raises(FormatError, match="not a file"):
        store.install(Path("/dev/zero"))
    with pytest.raises(FormatError, match=r"huge\.vedette: larger than 67108864 bytes"):
        store.install(tmp_path / "huge.vedette")
    assert store.names() == []


def test_the_same_bundle_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    before = store.record("fridge")
    assert store.install(write(tmp_path, version="1.1.0")).became == "there"
    assert store.record("fridge") == before


def test_a_versions_contents_never_change(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"fridge 1\.1\.0 is installed already with other contents; give this one another version"):
        store.install(write(tmp_path, version="1.1.0", threshold=5.0))
    assert versions(store) == {"live": "1.1.0", "previous": "1.0.0"}


def test_a_bundle_on_trial_does_not_touch_the_live_one_until_it_is_promoted(store: Store, tmp_path: Path) -> None:
    installed = store.install(write(tmp_path, version="1.2.0"), trial=True)
    assert installed.became == "candidate"
    assert versions(store) == {"live": "1.1.0", "previous": "1.0.0", "candidate": "1.2.0"}
    assert store.open_live("fridge").bundle.manifest.version == "1.1.0"
    store.promote("fridge", installed.sha256)
    assert versions(store) == {"live": "1.2.0", "previous": "1.1.0"}
    store.promote("fridge", installed.sha256)
    assert versions(store) == {"live": "1.2.0", "previous": "1.1.0"}


def test_the_first_bundle_of_a_model_needs_no_trial(tmp_path: Path) -> None:
    assert Store(tmp_path / "state").install(write(tmp_path), trial=True).became == "live"


def test_a_rejected_candidate_is_gone_and_remembered(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, version="1.2.0")
    digest = store.install(path, trial=True).sha256
    store.reject("fridge", digest, "flood")
    assert versions(store) == {"live": "1.1.0", "previous": "1.0.0", "1.2.0": "flood"}
    refusal = store.record("fridge").refusal_of(digest)
    assert refusal and refusal.reason == "flood"
    # Whoever installs it by hand knows what he does.
    store.install(path)
    assert versions(store) == {"live": "1.2.0", "previous": "1.1.0"}


def test_rollback_goes_back_once_and_refuses_what_it_left(store: Store) -> None:
    assert store.rollback("fridge").version == "1.0.0"
    assert versions(store) == {"live": "1.0.0", "previous": "1.1.0", "1.1.0": "rolled back by hand"}
    with pytest.raises(
        ConfigError, match=r"1\.1\.0, which was live before, was refused here \(rolled back by hand\); .* activate fridge 1\.1\.0"
    ):
        store.rollback("fridge")
    assert store.activate("fridge", "1.1.0").version == "1.1.0"
    assert versions(store) == {"live": "1.1.0", "previous": "1.0.0"}


def test_rollback_without_a_way_back_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    store.install(write(tmp_path))
    with pytest.raises(ConfigError, match="fridge: there is no version to go back to"):
        store.rollback("fridge")


def test_activating_what_is_not_here_says_what_is(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"fridge 3\.0\.0 is not kept here \(kept: 1\.1\.0, 1\.0\.0\); install its file again"):
        store.activate("fridge", "3.0.0")


def test_a_file_changed_behind_the_stores_back_is_not_loaded(store: Store, tmp_path: Path) -> None:
    store.file("fridge", "1.1.0").write_bytes(make_bundle(version="1.1.0", threshold=5.0))
    with pytest.raises(DigestError, match="not the file that was installed"):
        store.open_live("fridge")
    # An agent goes back to what it had before rather than stand still.
    entry, loaded = store.start_live("fridge")
    assert entry.version == loaded.bundle.manifest.version == "1.0.0"
    assert "not the file that was installed" in versions(store)["1.1.0"]


def test_a_model_that_brings_the_agent_down_again_and_again_is_rolled_back(store: Store) -> None:
    for _ in range(MAX_STARTS):
        assert store.start_live("fridge")[0].version == "1.1.0"
    assert store.start_live("fridge")[0].version == "1.0.0"
    assert versions(store)["1.1.0"] == f"the agent ended {MAX_STARTS} times soon after it had begun to run it"
    # 1.0.0 has run before: it is not counted.
    for _ in range(MAX_STARTS + 1):
        assert store.start_live("fridge")[0].version == "1.0.0"


def test_what_was_refused_is_no_way_back_for_a_model_that_brings_the_agent_down(store: Store) -> None:
    store.rollback("fridge")  # 1.1.0 is refused, and all there is beside 1.0.0
    for _ in range(MAX_STARTS + 2):
        assert store.start_live("fridge")[0].version == "1.0.0"
    store.file("fridge", "1.0.0").write_bytes(b"rubbish")
    # The fault is told, not that there is no way back.
    with pytest.raises(FormatError, match="not a vedette bundle"):
        store.start_live("fridge")


def test_a_damaged_record_does_not_stop_an_agent_from_ending_in_good_order(store: Store) -> None:
    digest = store.start_live("fridge")[0].sha256
    store.record_file("fridge").write_text("{")
    store.end("fridge", digest)


def test_good_ends_and_settled_models_are_not_counted(store: Store) -> None:
    for _ in range(MAX_STARTS + 1):
        entry, _ = store.start_live("fridge")
        store.end("fridge", entry.sha256)
    store.settle("fridge", entry.sha256)
    for _ in range(MAX_STARTS + 1):
        assert store.start_live("fridge")[0].version == "1.1.0"


def test_where_signing_is_on_nothing_unsigned_goes_live(store: Store, tmp_path: Path) -> None:
    strict = Store(tmp_path / "state", signed_only=True)
    path = write(tmp_path, version="1.2.0")
    with pytest.raises(ConfigError, match=r"signing is on .* only vedette model update brings models in"):
        strict.install(path)
    with pytest.raises(ConfigError, match=r"fridge 1\.1\.0 came unsigned, and signing is on"):
        strict.open_live("fridge")
    with pytest.raises(ConfigError, match=r"fridge 1\.0\.0 came unsigned"):
        strict.rollback("fridge")
    with pytest.raises(ConfigError, match=r"fridge 1\.0\.0 came unsigned"):
        strict.activate("fridge", "1.0.0")
    strict.install(path, signed=True)
    assert strict.open_live("fridge").bundle.manifest.version == "1.2.0"
    # What was installed by hand, and then came through an update as well, is signed.
    assert strict.install(write(tmp_path, version="1.1.0"), signed=True).became == "live"


def test_a_bundle_that_does_not_fit_the_streams_is_not_kept(store: Store, tmp_path: Path) -> None:
    def fits(manifest: Manifest) -> None:
        raise ConfigError("streams[0].payload.fields: no")

    with pytest.raises(ConfigError, match="streams"):
        store.install(write(tmp_path, version="1.2.0"), fits=fits)
    assert versions(store) == {"live": "1.1.0", "previous": "1.0.0"}


def test_a_damaged_record_says_what_to_do(store: Store, tmp_path: Path) -> None:
    store.record_file("fridge").write_text("{")
    with pytest.raises(BundleError, match=r"record\.json: damaged .* delete it and install the model again"):
        store.open_live("fridge")


def test_a_model_that_scores_differently_here_leaves_no_trace(store: Store, tmp_path: Path) -> None:
    with mock.patch("vedette.store.prove", side_effect=SelfTestError("it differs")), pytest.raises(SelfTestError, match="it differs"):
        store.install(write(tmp_path, version="1.2.0"))
    assert versions(store) == {"live": "1.1.0", "previous": "1.0.0"}
    assert not list((tmp_path / "state").rglob("*1.2.0*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files to another user")
def test_what_root_installs_belongs_to_the_agents_user(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, 12346)
    install(state, make_bundle())
    owners = {(p.stat().st_uid, p.stat().st_gid) for p in (state / "models").rglob("*")} | {
        ((state / "models").stat().st_uid, (state / "models").stat().st_gid)
    }
    assert owners == {(12345, 12346)}
