"""What a gateway takes from a signed repository, and what it refuses, with which words."""

import json
import re
import resource
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bundles import make_bundle
from publishers import NOW, Gateway, Publisher, later
from vedette import updates
from vedette.contract import bundle as bundles
from vedette.contract.errors import UpdateError
from vedette_exporter.signing.keys import ROLES, Role
from vedette_exporter.signing.repository import Lifetimes, Repository

V1, V2, V3 = make_bundle(version="1.0.0"), make_bundle(version="1.1.0"), make_bundle(version="1.2.0")
FOREVER = Lifetimes(targets=3000.0, online=3000.0)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path)
    made.publish(V1)
    return made


@pytest.fixture
def gateway(tmp_path: Path, publisher: Publisher) -> Gateway:
    return Gateway(tmp_path / "gateway", publisher)


def refusal(gateway: Gateway, name: str = "fridge", now: datetime = NOW) -> str:
    with pytest.raises(UpdateError) as caught:
        gateway.update(name, now)
    message = str(caught.value)
    assert "\n" not in message
    assert not list(gateway.state.glob("updates/*.fetched")), "what was refused is not left lying about"
    return message


# Accepted.


def test_a_channel_brings_its_bundle_and_then_the_next(publisher: Publisher, gateway: Gateway) -> None:
    assert gateway.update() == V1
    publisher.publish(V2)
    assert gateway.update() == V2


def test_the_way_back_is_to_publish_the_earlier_version(publisher: Publisher, gateway: Gateway) -> None:
    publisher.publish(V2)
    assert gateway.version() == "1.1.0"
    publisher.publish(V1)
    assert gateway.version() == "1.0.0"


def test_a_canary_has_another_version_until_it_is_for_all(tmp_path: Path, publisher: Publisher, gateway: Gateway) -> None:
    canary = Gateway(tmp_path / "canary", publisher, channel="canary")
    publisher.publish(V1, channels=["canary"])
    publisher.publish(V2, channels=["canary"])
    assert (canary.version(), gateway.version()) == ("1.1.0", "1.0.0")
    publisher.publish(V2)
    assert (canary.version(), gateway.version()) == ("1.1.0", "1.1.0")


@pytest.mark.parametrize("role", ROLES)
def test_a_rotated_key_is_followed(publisher: Publisher, gateway: Gateway, role: Role) -> None:
    assert gateway.version() == "1.0.0"
    publisher.rotate(role)
    publisher.publish(V2)
    assert gateway.version() == "1.1.0"


def test_a_gateway_that_was_off_follows_years_of_rotations_at_once(publisher: Publisher, gateway: Gateway) -> None:
    assert gateway.version() == "1.0.0"
    for year in range(1, 5):
        for role in (*ROLES, *ROLES):
            publisher.rotate(role, later(300 * year))
        publisher.publish(V2, now=later(300 * year))
    assert gateway.version(now=later(300 * 4)) == "1.1.0"


def test_a_rotation_with_nothing_new_is_followed_after_a_refresh(publisher: Publisher, gateway: Gateway) -> None:
    publisher.rotate("targets")
    publisher.rotate("online")
    publisher.publish()
    assert gateway.version() == "1.0.0"


def test_a_repository_that_was_lost_begins_anew_once_its_keys_are_rotated(publisher: Publisher, gateway: Gateway) -> None:
    publisher.publish(V2)
    assert gateway.version() == "1.1.0"
    shutil.rmtree(publisher.repo)
    publisher.publish(V3)
    assert "older than what this gateway has seen" in refusal(gateway)
    publisher.rotate("online")
    publisher.publish()
    assert gateway.version() == "1.2.0"


def test_what_the_publisher_keeps_in_the_repository_is_all_that_a_new_gateway_needs(tmp_path: Path, publisher: Publisher) -> None:
    publisher.rotate("root")
    publisher.publish(V2)
    stick = shutil.copytree(publisher.repo, tmp_path / "media" / "a stick 100%")
    assert Gateway(tmp_path / "other", publisher, str(stick)).version() == "1.1.0"


# Time.


@pytest.mark.parametrize("clock", [datetime.fromtimestamp(0, NOW.tzinfo), later(-400)])
def test_a_clock_far_behind_does_not_stop_updates(publisher: Publisher, gateway: Gateway, clock: datetime) -> None:
    assert gateway.version(now=clock) == "1.0.0"
    publisher.publish(V2, now=later(100))
    assert gateway.version(now=clock) == "1.1.0"


def test_without_a_clock_what_expired_before_the_last_signature_is_refused(publisher: Publisher, gateway: Gateway) -> None:
    clock = datetime.fromtimestamp(0, NOW.tzinfo)
    publisher.publish(V2, lifetimes=Lifetimes(targets=10.0, online=30.0))
    assert gateway.version(now=clock) == "1.1.0"
    shutil.move(next(publisher.keys.glob("targets-*.pem")), publisher.keys.parent)
    publisher.publish(now=later(20))
    message = refusal(gateway, now=clock)
    assert "refused: its targets expired 2026-12-04 12:00 UTC" in message
    assert "clock shows 1970-01-01 00:00 UTC, but the publisher has signed at 2026-12-14 12:00 UTC already" in message


def test_a_repository_that_is_frozen_is_refused_once_it_has_expired(publisher: Publisher, gateway: Gateway) -> None:
    assert gateway.version(now=later(29)) == "1.0.0"
    message = refusal(gateway, now=later(31))
    assert "refused: its timestamp expired 2026-12-24 12:00 UTC (this machine's clock shows 2026-12-25 12:00 UTC)" in message
    assert message.endswith("if that is right, the publisher has to run vedette publish --refresh")
    publisher.publish(now=later(31))
    assert gateway.version(now=later(31)) == "1.0.0"


def test_a_clock_that_was_ahead_does_not_stop_updates_for_good(gateway: Gateway) -> None:
    assert "this machine's clock shows 2036" in refusal(gateway, now=later(3650))
    assert gateway.version() == "1.0.0"


@pytest.mark.parametrize(
    ("role", "root_days", "lifetimes", "remedy"),
    [
        ("root", 50.0, FOREVER, "vedette keys renew"),
        ("timestamp", 365.0, Lifetimes(targets=300.0, online=50.0), "vedette publish --refresh"),
        ("targets", 365.0, Lifetimes(targets=50.0, online=300.0), "vedette publish --refresh"),
    ],
)
@pytest.mark.parametrize("seen_before", [True, False])
def test_the_role_that_expired_is_named(
    tmp_path: Path, role: str, root_days: float, lifetimes: Lifetimes, remedy: str, seen_before: bool
) -> None:
    publisher = Publisher(tmp_path, root_days)
    publisher.publish(V1, lifetimes=lifetimes)
    gateway = Gateway(tmp_path / "gateway", publisher)
    if seen_before:
        assert gateway.version() == "1.0.0"
    message = refusal(gateway, now=later(60))
    assert f"refused: its {role} expired 2027-01-13 12:00 UTC" in message and remedy in message


def test_an_expired_snapshot_is_named(publisher: Publisher, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ours expire together; another publisher's need not.
    real = Repository._write

    def outlive(self: Repository, name: str, metadata: Any) -> object:
        if name == "timestamp.json":
            metadata.signed.expires = later(300)
            metadata.sign(self._keys.signer("online"))
        return real(self, name, metadata)

    monkeypatch.setattr(Repository, "_write", outlive)
    publisher.publish(V2)
    assert "refused: its snapshot expired 2026-12-24" in refusal(gateway, now=later(60))


def test_a_root_that_expired_is_followed_to_one_that_did_not(publisher: Publisher, gateway: Gateway) -> None:
    publisher.rotate("root", later(500))
    publisher.publish(V2, now=later(500))
    assert gateway.version(now=later(500)) == "1.1.0"


def test_a_stolen_online_key_cannot_set_the_time_for_good(publisher: Publisher, gateway: Gateway) -> None:
    publisher.publish(V2, now=later(3000), lifetimes=Lifetimes(targets=600.0, online=600.0))
    assert "its root expired" in refusal(gateway)
    # The thief has a repository of their own making; the publisher rotates, and begins anew.
    publisher.rotate("online")
    publisher.rotate("targets")
    shutil.rmtree(publisher.repo)
    publisher.publish(V3)
    assert gateway.version() == "1.2.0"


def test_the_reference_time_of_python_tuf_is_the_one_we_set(publisher: Publisher, gateway: Gateway) -> None:
    """The one attribute that is not python-tuf's public interface: this fails when it is no more."""
    with updates.opened(gateway.settings, gateway.state, NOW.timestamp()) as channel:
        assert channel._client._trusted_set.reference_time == NOW
        assert all(channel._client._trusted_set.get(role) for role in ("root", "timestamp", "snapshot", "targets"))


# Refused.


def test_a_bundle_that_was_altered_is_refused(publisher: Publisher, gateway: Gateway) -> None:
    altered = bytearray(V1)
    altered[len(altered) // 2] ^= 1
    publisher.target().write_bytes(altered)
    assert re.search(r"fridge 1\.0\.0 refused: .*\.fridge\.vedette is not what was signed", refusal(gateway))


def test_a_bundle_that_is_another_validly_made_one_is_refused(publisher: Publisher, gateway: Gateway) -> None:
    publisher.target().write_bytes(V2)
    assert "is not what was signed" in refusal(gateway)


def test_a_bundle_that_is_longer_than_was_signed_is_refused_before_it_is_read_whole(publisher: Publisher, gateway: Gateway) -> None:
    with publisher.target().open("r+b") as file:
        file.truncate(2**40)  # a terabyte, were it read
    assert "exceeding the maximum allowed length" in refusal(gateway)


def test_a_bundle_that_is_larger_than_any_may_be_is_not_fetched_even_if_it_is_signed(
    publisher: Publisher, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "MAX_BUNDLE_BYTES", len(V1) - 1)
    assert refusal(gateway) == f"refused: fridge 1.0.0 has {len(V1)} bytes; a bundle has at most {len(V1) - 1}"


@pytest.mark.parametrize("file", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_metadata_that_was_altered_is_refused(publisher: Publisher, gateway: Gateway, file: str) -> None:
    path = publisher.repo / "metadata" / file
    text = path.read_text()
    path.write_text(text.replace('"version":2' if '"version":2' in text else '"version": 2', '"version": 3', 1))
    assert path.read_text() != text
    assert "refused: " in refusal(gateway)


@pytest.mark.parametrize("file", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b'{"signed": 1}', b"[" * 100_000, b"x" * 6_000_000])
def test_metadata_that_is_something_else_is_refused(publisher: Publisher, gateway: Gateway, file: str, content: bytes) -> None:
    (publisher.repo / "metadata" / file).write_bytes(content)
    assert "refused: " in refusal(gateway)


def test_an_old_repository_that_is_put_back_is_refused(tmp_path: Path, publisher: Publisher, gateway: Gateway) -> None:
    shutil.copytree(publisher.repo, tmp_path / "old")
    publisher.publish(V2)
    assert gateway.version() == "1.1.0"
    shutil.rmtree(publisher.repo)
    shutil.copytree(tmp_path / "old", publisher.repo)
    assert "refused: older than what this gateway has seen" in refusal(gateway)


def test_another_publishers_repository_is_refused(tmp_path: Path, publisher: Publisher, gateway: Gateway) -> None:
    other = Publisher(tmp_path / "other")
    other.publish(V2)
    assert gateway.version() == "1.0.0"
    shutil.rmtree(publisher.repo)
    shutil.copytree(other.repo, publisher.repo)
    assert f"timestamp was signed by 0/1 keys, not by whom {gateway.root} leads to" in refusal(gateway)


def test_a_root_that_only_the_new_key_signed_is_refused(tmp_path: Path, publisher: Publisher, gateway: Gateway) -> None:
    other = Publisher(tmp_path / "other")
    other.rotate("root")
    other.publish(V2)
    shutil.copy(other.keys / "2.root.json", publisher.repo / "metadata" / "2.root.json")
    assert "refused: root was signed by 0/1 keys" in refusal(gateway)


def test_a_new_publisher_is_trusted_once_the_root_file_is_theirs(tmp_path: Path, publisher: Publisher, gateway: Gateway) -> None:
    for _ in range(3):
        publisher.publish(V1)
    assert gateway.version() == "1.0.0"
    other = Publisher(tmp_path / "other")
    other.rotate("root")
    other.publish(V2)
    shutil.rmtree(publisher.repo)
    shutil.copytree(other.repo, publisher.repo)
    shutil.copy(other.keys / "1.root.json", gateway.root)
    assert gateway.version() == "1.1.0"


def test_a_missing_root_says_where_to_have_it_from(gateway: Gateway) -> None:
    gateway.root.unlink()
    assert refusal(gateway) == (
        f"updates.root: {gateway.root}: No such file or directory; copy root.json of the publisher's keys there, by a way that you trust"
    )
    gateway.root.write_text("{}")
    assert "not a publisher's root.json" in refusal(gateway)


def test_a_channel_or_model_that_is_not_there_says_what_is(tmp_path: Path, publisher: Publisher, gateway: Gateway) -> None:
    publisher.publish(make_bundle(name="freezer"), channels=["stable", "canary"])
    assert refusal(gateway, "oven").endswith('channel "stable" has no model "oven"; it has freezer, fridge')
    elsewhere = Gateway(tmp_path / "elsewhere", publisher, channel="beta")
    assert 'no channel "beta"; there is canary, stable: set updates.channel' in refusal(elsewhere)


def test_a_stick_that_is_not_in_says_so(publisher: Publisher, gateway: Gateway) -> None:
    shutil.move(publisher.repo, publisher.repo.with_name("away"))
    assert refusal(gateway) == f"{publisher.repo}: cannot be reached: there is no such folder; is it mounted?"


def test_a_repository_that_was_copied_in_part_says_what_is_missing(publisher: Publisher, gateway: Gateway) -> None:
    publisher.target().unlink()
    assert re.search(r"fridge 1\.0\.0 .*\.fridge\.vedette is not there \(404\)", refusal(gateway))
    (publisher.repo / "metadata" / "timestamp.json").unlink()
    assert "timestamp.json is not there (404); is this all of the folder" in refusal(gateway)


def test_two_updates_at_once_do_not_meet(gateway: Gateway) -> None:
    with updates.opened(gateway.settings, gateway.state, NOW.timestamp()):
        assert "another update is under way" in refusal(gateway)
    assert gateway.version() == "1.0.0"


def test_a_state_folder_that_cannot_be_written_says_so(gateway: Gateway) -> None:
    (gateway.state / "updates").write_text("a file")
    assert "is this user allowed to write there?" in refusal(gateway)


def test_a_disk_that_is_full_is_not_taken_for_a_server_that_is_away(gateway: Gateway) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(UpdateError, match="File too large; is the disk full"):
            gateway.update()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert gateway.version() == "1.0.0"


def test_damaged_memory_is_fetched_anew(publisher: Publisher, gateway: Gateway) -> None:
    assert gateway.version() == "1.0.0"
    for path in (gateway.state / "updates" / "metadata").rglob("*.json"):
        path.write_bytes(b"")
    publisher.publish(V2)
    assert gateway.version() == "1.1.0"


def test_what_is_signed_names_its_version(publisher: Publisher, gateway: Gateway) -> None:
    signed = json.loads((publisher.repo / "metadata" / "2.targets.json").read_text())["signed"]["targets"]
    assert signed["stable/fridge.vedette"]["custom"] == {"name": "fridge", "version": "1.0.0"}
    with updates.opened(gateway.settings, gateway.state, NOW.timestamp()) as channel:
        assert channel.offer("fridge") == updates.Offer("fridge", "1.0.0", bundles.read(V1).sha256, len(V1))
