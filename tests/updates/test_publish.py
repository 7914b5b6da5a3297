"""What the publisher signs, and what it does not."""

import json
import shutil
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml

from agents import Watcher, vedette
from brokers import Mosquitto
from bundles import make_bundle
from publishers import Gateway, Publisher, later
from vedette.contract import announcement
from vedette.contract import bundle as bundles
from vedette.contract.errors import SigningError, UpdateError
from vedette_exporter import files
from vedette_exporter.signing import repository
from vedette_exporter.signing.repository import Lifetimes

V1, V2 = make_bundle(version="1.0.0"), make_bundle(version="1.1.0")


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


def put(folder: Path, data: bytes) -> Path:
    path = folder / bundles.file_name(bundles.read(data).manifest)
    path.write_bytes(data)
    return path


def announced(watcher: Watcher, name: str) -> announcement.Announcement:
    payload = watcher.wait(lambda: watcher.last(f"vedette/models/{name}"))
    return announcement.decode(payload)


def test_the_command_publishes_and_says_what_is_where_until_when(tmp_path: Path, publisher: Publisher) -> None:
    at: list[str | Path] = ["--repo", publisher.repo, "--keys", publisher.keys]
    done = vedette("publish", put(tmp_path, V1), put(tmp_path, make_bundle(name="oven")), *at)
    assert done.returncode == 0, done.stderr
    fridge, oven, expires = done.stdout.splitlines()
    assert fridge == f"stable       fridge 1.0.0, sha256 {bundles.read(V1).sha256[:12]}…"
    assert oven.startswith("stable       oven 1.0.0") and expires.startswith("expires      root 20")
    done = vedette("publish", put(tmp_path, V2), *at, "--channel", "canary", "--channel", "lab", "--json")
    channels = json.loads(done.stdout)["channels"]
    assert {(channel, name): head["version"] for channel, names in channels.items() for name, head in names.items()} == {
        ("canary", "fridge"): "1.1.0",
        ("lab", "fridge"): "1.1.0",
        ("stable", "fridge"): "1.0.0",
        ("stable", "oven"): "1.0.0",
    }
    refreshed = vedette("publish", "--refresh", *at, "--online-days", "3")
    assert refreshed.returncode == 0
    assert "vedette: timestamp expires" in refreshed.stderr and "take no updates after that" in refreshed.stderr


def test_nothing_and_something_to_publish_at_once_is_usage(publisher: Publisher, tmp_path: Path) -> None:
    at: list[str | Path] = ["--repo", publisher.repo, "--keys", publisher.keys]
    assert vedette("publish", *at).returncode == 2
    assert vedette("publish", put(tmp_path, V1), "--refresh", *at).returncode == 2
    assert vedette("publish", put(tmp_path, V1), *at, "--channel", "../x").returncode == 2


def test_a_bundle_that_is_damaged_or_lies_is_not_signed(tmp_path: Path, publisher: Publisher) -> None:
    at: list[str | Path] = ["--repo", publisher.repo, "--keys", publisher.keys]
    damaged = put(tmp_path, V1)
    damaged.write_bytes(V1[:-200] + bytes([V1[-200] ^ 1]) + V1[-199:])
    done = vedette("publish", damaged, *at)
    assert done.returncode == 1 and "damaged: its bytes do not match its digest" in done.stderr
    opened = bundles.read(V1)
    files = bundles.with_golden(opened.files, opened.golden_windows, np.asarray(opened.golden_scores + 1, dtype=np.float32))
    liar = put(tmp_path, bundles.write(msgspec.structs.replace(opened.manifest, files=bundles.entries(files)), files))
    done = vedette("publish", liar, *at)
    assert done.returncode == 1 and "scores its golden windows differently" in done.stderr
    assert not publisher.repo.exists()


def test_keys_that_are_not_there_say_how_to_make_them(tmp_path: Path) -> None:
    done = vedette("publish", put(tmp_path, V1), "--repo", tmp_path / "repo", "--keys", tmp_path / "none")
    assert done.returncode == 1 and "no keys there; make them with: vedette keys create" in done.stderr


@pytest.mark.parametrize("file", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_what_somebody_altered_in_the_repository_is_not_signed_anew(publisher: Publisher, file: str) -> None:
    publisher.publish(V1)
    path = publisher.repo / "metadata" / file
    path.write_bytes(path.read_bytes().replace(b"2026", b"2036").replace(b"2027", b"2037"))
    with pytest.raises(SigningError, match=f"{file}: "):
        publisher.publish(V2)


def test_what_somebody_with_other_keys_put_into_the_repository_is_not_signed_anew(tmp_path: Path, publisher: Publisher) -> None:
    other = Publisher(tmp_path / "other")
    other.publish(V1)
    shutil.copytree(other.repo, publisher.repo)
    with pytest.raises(
        SigningError, match=r"timestamp\.json: not signed by these keys: the repository is another publisher's, or was altered"
    ):
        publisher.publish(V2)


def test_a_version_does_not_change_its_bytes(publisher: Publisher) -> None:
    publisher.publish(V1)
    with pytest.raises(SigningError, match=r"fridge 1\.0\.0 is in channel stable already with other bytes .* a version of its own"):
        publisher.publish(make_bundle(version="1.0.0", threshold=5.0), channels=["canary"])
    publisher.publish(V1, channels=["canary"])


def test_a_publisher_whose_clock_is_behind_is_told(publisher: Publisher) -> None:
    publisher.publish(V1)
    with pytest.raises(
        SigningError, match="signed at 2026-11-24T12:00:00Z, but this machine's clock shows 2026-11-23T12:00:00Z: set the clock"
    ):
        publisher.publish(V2, now=later(-1))


def test_a_machine_with_the_online_key_alone_can_refresh_and_not_publish(tmp_path: Path, publisher: Publisher) -> None:
    before = publisher.publish(V1)
    for path in publisher.keys.glob("*.pem"):
        if not path.name.startswith("online"):
            path.unlink()
    after = publisher.publish(now=later(20))
    assert after.expires["timestamp"] == later(50) and after.expires["targets"] == before.expires["targets"]
    assert Gateway(tmp_path / "gateway", publisher).version(now=later(40)) == "1.0.0"
    with pytest.raises(SigningError, match="the targets key is needed for this"):
        publisher.publish(V2, now=later(20))


def test_a_targets_key_that_was_rotated_is_needed_for_the_next_refresh(publisher: Publisher) -> None:
    publisher.publish(V1)
    publisher.rotate("targets")
    next(publisher.keys.glob("targets-*.pem")).unlink()
    with pytest.raises(SigningError, match="the targets key is needed for this"):
        publisher.publish()


def test_power_that_fails_while_publishing_leaves_the_old_repository_or_the_new_one(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(V1)
    real, writes = files.write_whole, 0
    for survives in range(10):

        def fail_later(path: Path, data: bytes, survives: int = survives) -> None:
            nonlocal writes
            if writes == survives:
                raise KeyboardInterrupt
            writes += 1
            real(path, data)

        writes = 0
        monkeypatch.setattr(repository, "write_whole", fail_later)
        try:
            publisher.publish(V2)
        except KeyboardInterrupt:
            assert Gateway(tmp_path / f"gateway-{survives}", publisher).version() == "1.0.0"
            continue
        assert survives == 3, "targets, snapshot and timestamp; the bundle is there since an earlier attempt"
        assert Gateway(tmp_path / "gateway", publisher).version() == "1.1.0"
        return
    pytest.fail("never done")


def test_a_gateway_that_reads_while_we_publish_never_meets_half_a_repository(tmp_path: Path, publisher: Publisher) -> None:
    publisher.publish(V1)
    done = threading.Event()

    def publish_for_ever() -> None:
        while not done.is_set():
            publisher.publish(V2)
            publisher.publish(V1)

    gateway = Gateway(tmp_path / "gateway", publisher)
    writer = threading.Thread(target=publish_for_ever, name="publisher")
    writer.start()
    try:
        seen = [gateway.version() for _ in range(60)]
    finally:
        done.set()
        writer.join()
    assert set(seen) == {"1.0.0", "1.1.0"}


def test_announcing_retains_what_every_channel_holds(tmp_path: Path, publisher: Publisher, broker: Mosquitto) -> None:
    at: list[str | Path] = ["--repo", publisher.repo, "--keys", publisher.keys, "--announce", broker.url]
    assert vedette("publish", put(tmp_path, V1), put(tmp_path, make_bundle(name="oven")), *at).returncode == 0
    assert vedette("publish", put(tmp_path, V2), "--channel", "canary", *at).returncode == 0
    with Watcher(broker) as watcher:  # comes later, so sees what is retained
        told = announced(watcher, "fridge")
        assert {channel: head.version for channel, head in told.channels.items()} == {"canary": "1.1.0", "stable": "1.0.0"}
        assert told.channels["canary"].sha256 == bundles.read(V2).sha256
        assert list(announced(watcher, "oven").channels) == ["stable"]
        assert vedette("publish", "--refresh", *at).returncode == 0
        watcher.wait(lambda: len([m for m in watcher.messages if m.topic == "vedette/models/oven"]) == 2)


def test_a_broker_that_wants_a_password_gets_it_from_a_file(tmp_path: Path, publisher: Publisher) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "broker.yaml").write_text(
        yaml.safe_dump({"url": "mqtt://127.0.0.1:1", "username": "p", "password_file": str(tmp_path / "nope")})
    )
    at: list[str | Path] = ["--repo", publisher.repo, "--keys", publisher.keys]
    done = vedette("publish", put(tmp_path, V1), *at, "--announce", tmp_path / "broker.yaml")
    assert done.returncode == 1 and "broker.password_file: " in done.stderr
    with Mosquitto(tmp_path, settings="allow_anonymous false") as closed:
        settings = {"url": closed.url, "username": "p", "password_file": str(tmp_path / "secret")}
        (tmp_path / "broker.yaml").write_text(yaml.safe_dump(settings))
        done = vedette("publish", "--refresh", *at, "--announce", tmp_path / "broker.yaml")
        assert done.returncode == 1 and "refuses the connection: Not authorized; check broker.username" in done.stderr
    done = vedette("publish", "--refresh", *at, "--announce", "mqtt://user:secret@host")
    assert done.returncode == 1 and "must not hold a user or password" in done.stderr and "secret@" not in done.stderr


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"schema":"vedette.model/2","name":"fridge","channels":{}}',
        b'{"schema":"vedette.model/1","name":"../x","channels":{}}',
        b'{"schema":"vedette.model/1","name":"fridge","channels":{"stable":{"version":"1","sha256":"x"}}}',
        b"[" * 10_000,
        b" " * 100_000,
    ],
)
def test_what_is_no_announcement_is_refused(data: bytes) -> None:
    with pytest.raises(UpdateError, match="not an announcement"):
        announcement.decode(data)


def test_an_announcement_is_read_as_it_was_written_and_what_is_new_in_it_is_ignored() -> None:
    head = announcement.Head(version="1.4.0", sha256="0" * 64)
    told = announcement.Announcement(name="fridge", channels={"stable": head})
    assert announcement.decode(announcement.encode(told)) == told
    newer = {**json.loads(announcement.encode(told)), "since": 2030}
    assert announcement.decode(json.dumps(newer).encode()) == told


def test_lifetimes_are_as_asked(publisher: Publisher) -> None:
    state = publisher.publish(V1, lifetimes=Lifetimes(targets=90.0, online=7.0))
    assert (state.expires["targets"], state.expires["snapshot"], state.expires["timestamp"]) == (later(90), later(7), later(7))
    assert state.expires["root"] == later(365)
