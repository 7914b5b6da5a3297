"""`vedette model update` on a gateway: what goes live, and that nothing else does."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest

from agents import STREAM, Agent, Watcher, vedette, write_config
from brokers import Mosquitto
from bundles import make_bundle
from publishers import Publisher
from vedette.__main__ import main
from vedette.contract import bundle as bundles
from vedette.store import Store
from vedette_exporter.signing.keys import KeyFolder
from vedette_exporter.signing.repository import Lifetimes, Repository

V1, V2, V3 = make_bundle(version="1.0.0"), make_bundle(version="1.1.0", threshold=5.0), make_bundle(version="1.2.0")


class Site:
    """A publisher, and a gateway with fridges whose configuration follows it."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder, self.publisher = folder, Publisher(folder)
        self.root = folder / "root.json"
        shutil.copy(self.publisher.keys / "root.json", self.root)
        self.configure(**changes)

    def configure(self, **changes: object) -> None:
        updates = {"repository": str(self.publisher.repo), "root": str(self.root), "channel": "stable"}
        self.config = write_config(self.folder, "mqtt://nobody", **{"trial": "off", "updates": updates, **changes})

    def publish(self, *data: bytes, lifetimes: Lifetimes | None = None) -> None:
        self.publisher.publish(*data, now=datetime.now(UTC), lifetimes=lifetimes)

    def update(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command, in this process: a test that needs one of its own has `vedette`."""
        command = ["model", "update", "-c", str(self.config), *map(str, arguments)]
        with redirect_stdout(StringIO()) as said, redirect_stderr(StringIO()) as complained:
            code = main(command)
        return subprocess.CompletedProcess(command, code, said.getvalue(), complained.getvalue())

    @property
    def live(self) -> str | None:
        entry = Store(self.folder / "state").record("fridge").live
        return entry.version if entry else None


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.publish(V1)
    return made


def older_format(data: bytes) -> bytes:
    """A bundle of a format before the first, whole and sealed."""
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as read, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as written:
        for info in read.infolist():
            content = read.read(info)
            written.writestr(zipfile.ZipInfo(info.filename), content.replace(b'"format": 1', b'"format": 0'))
        written.comment = b" " * 71
    body = buffer.getvalue()[:-71]
    return body + b"sha256:" + hashlib.sha256(body).hexdigest().encode()


def test_the_channels_bundle_goes_live_signed_and_the_next_time_is_up_to_date(site: Site) -> None:
    done = site.update()
    assert (done.returncode, done.stdout) == (0, "fridge 1.0.0  fetched, proved on this machine and live\n"), done.stderr
    assert site.update().stdout == "fridge 1.0.0  up to date\n"
    entry = Store(site.folder / "state").record("fridge").live
    assert entry and entry.signed
    assert json.loads(site.update("--json").stdout) == [{"name": "fridge", "result": "current", "version": "1.0.0"}]


def test_forward_and_back_through_a_channel(site: Site) -> None:
    assert site.update().returncode == 0
    site.publish(V2)
    assert site.update().returncode == 0
    assert site.live == "1.1.0"
    site.publish(V1)
    assert site.update().stdout == "fridge 1.0.0  fetched, proved on this machine and live\n"
    assert site.live == "1.0.0"


def test_a_trial_ends_where_the_publisher_goes_back(site: Site) -> None:
    site.configure(trial="10m")
    assert site.update().returncode == 0
    site.publish(V2)
    assert site.update().stdout == "fridge 1.1.0  fetched and proved on this machine; the agent tries it beside the one that is live\n"
    assert site.update().stdout == "fridge 1.1.0  up to date\n"
    site.publish(V1)
    assert site.update().stdout == "fridge 1.0.0  up to date\n"
    record = Store(site.folder / "state").record("fridge")
    assert record.candidate is None and not record.refused and site.live == "1.0.0"
    site.publish(V2)
    assert site.update("--now").returncode == 0 and site.live == "1.1.0"


def test_what_was_refused_here_is_not_tried_again_unasked(site: Site) -> None:
    site.update()
    site.publish(V2)
    site.update()
    vedette("model", "rollback", "fridge", "-c", site.config)
    done = site.update()
    assert done.returncode == 0 and done.stdout.startswith("fridge 1.1.0  was refused here: rolled back by hand; ")
    assert site.live == "1.0.0"
    # Unless somebody wants it nevertheless, as it says.
    assert done.stdout.endswith("vedette model update fridge --again\n")
    assert site.update("fridge", "--again").stdout == "fridge 1.1.0  fetched, proved on this machine and live\n"


def test_a_trial_ends_where_the_publisher_goes_back_to_what_was_refused_here(site: Site) -> None:
    site.update()
    site.publish(V2)
    site.update()
    vedette("model", "rollback", "fridge", "-c", site.config)
    site.publish(V3)
    site.configure(trial="10m")
    site.update()
    store = Store(site.folder / "state")
    assert (candidate := store.record("fridge").candidate) and candidate.version == "1.2.0"
    site.publish(V2)
    assert "was refused here" in site.update().stdout
    assert store.record("fridge").candidate is None and site.live == "1.0.0"


def test_from_a_stick_instead_of_the_configured_repository(site: Site) -> None:
    stick = site.folder / "stick"
    shutil.move(site.publisher.repo, stick)
    away = site.update()
    assert away.returncode == 1 and "is it mounted?" in away.stderr
    assert site.update("--from", stick).returncode == 0 and site.live == "1.0.0"
    assert "--from: expected https://" in site.update("--from", "ftp://x").stderr


def damage_target(site: Site) -> str:
    for path in site.publisher.repo.glob("targets/stable/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    return "is not what was signed"


def damage_metadata(site: Site) -> str:
    path = site.publisher.repo / "metadata" / "timestamp.json"
    path.write_text(path.read_text().replace("20", "21", 1))
    return "refused: "


def make_oversized(site: Site) -> str:
    for path in site.publisher.repo.glob("targets/stable/*"):
        with path.open("r+b") as file:
            file.truncate(2**36)
    return "exceeding the maximum allowed length"


def put_back(site: Site) -> str:
    shutil.rmtree(site.publisher.repo)
    shutil.copytree(site.folder / "before", site.publisher.repo)
    return "refused: older than what this gateway has seen"


def sign_with_other_keys(site: Site) -> str:
    other = Publisher(site.folder / "other")
    other.publish(V2, now=datetime.now(UTC))
    shutil.rmtree(site.publisher.repo)
    shutil.copytree(other.repo, site.publisher.repo)
    return "timestamp was signed by 0/1 keys"


def let_expire(site: Site) -> str:
    site.publisher.publish(V2, now=datetime.now(UTC), lifetimes=Lifetimes(online=-1.0))
    return "refused: its timestamp expired"


def publish_older_format(site: Site) -> str:
    old = older_format(V3)
    # What no publisher of today signs: the publisher of yesterday did.
    opened = bundles.read(V3)._replace(sha256=hashlib.sha256(old).hexdigest())
    Repository(site.publisher.repo, KeyFolder(site.publisher.keys)).sign([(opened, old)], ["stable"], Lifetimes(), datetime.now(UTC))
    return "format 0; this version of vedette reads format 1"


@pytest.mark.parametrize(
    "spoil", [damage_target, damage_metadata, make_oversized, put_back, sign_with_other_keys, let_expire, publish_older_format]
)
def test_what_is_refused_says_why_and_the_old_model_is_live_still(site: Site, spoil: Callable[[Site], str]) -> None:
    assert site.update().returncode == 0
    shutil.copytree(site.publisher.repo, site.folder / "before")
    site.publish(V2)
    if spoil is put_back:
        assert site.update().returncode == 0
    before = site.live
    words = spoil(site)
    done = site.update()
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert site.live == before
    assert Store(site.folder / "state", signed_only=True).open_live("fridge").bundle.manifest.version == before
    assert not list((site.folder / "state" / "updates").glob("*.fetched"))


def test_a_model_that_fails_does_not_keep_the_others(site: Site) -> None:
    site.configure(streams=[STREAM, {**STREAM, "name": "ovens", "model": "oven", "topic": "oven/{device}"}])
    done = site.update("--json")
    assert done.returncode == 1
    assert [(o["name"], o["result"]) for o in json.loads(done.stdout)] == [("fridge", "live"), ("oven", "failed")]
    assert done.stderr == f'vedette: oven: {site.publisher.repo}: channel "stable" has no model "oven"; it has fridge\n'
    assert site.update("fridge").returncode == 0


def test_a_bundle_that_does_not_fit_the_streams_is_not_installed(site: Site) -> None:
    site.configure(streams=[{**STREAM, "payload": {"fields": {"humidity": "h"}}}])
    done = site.update()
    assert done.returncode == 1 and "streams[0].payload.fields" in done.stderr and site.live is None


def test_a_bundle_that_is_not_what_its_entry_says_is_not_installed(site: Site) -> None:
    other = make_bundle(name="oven", version="1.2.0")
    mislabelled = bundles.read(V3)._replace(sha256=bundles.read(other).sha256)
    Repository(site.publisher.repo, KeyFolder(site.publisher.keys)).sign([(mislabelled, other)], ["stable"], Lifetimes(), datetime.now(UTC))
    done = site.update()
    assert done.returncode == 1 and "it is oven 1.2.0 in truth" in done.stderr
    assert not Store(site.folder / "state").names()


def test_where_signing_is_on_nothing_unsigned_is_installed(site: Site) -> None:
    (site.folder / "by-hand.vedette").write_bytes(V2)
    done = vedette("model", "install", site.folder / "by-hand.vedette", "-c", site.config)
    assert done.returncode == 1 and "only vedette model update brings models in" in done.stderr and site.live is None


def test_what_was_installed_by_hand_before_signing_was_on_is_signed_by_an_update(site: Site) -> None:
    Store(site.folder / "state").install(site.publisher.target())
    assert site.update().stdout == "fridge 1.0.0  up to date\n"
    entry = Store(site.folder / "state").record("fridge").live
    assert entry and entry.signed


def test_an_agent_with_signing_on_does_not_try_what_is_unsigned(site: Site, broker: Mosquitto) -> None:
    site.configure(broker={"url": broker.url}, trial="10m")
    assert site.update().returncode == 0
    (site.folder / "by-hand.vedette").write_bytes(V2)
    store = Store(site.folder / "state")
    with Watcher(broker) as watcher, Agent(site.config) as agent:
        watcher.wait_online()
        store.install(site.folder / "by-hand.vedette", trial=True)  # by somebody who can write there, past the configuration
        watcher.wait(lambda: store.record("fridge").refused)
        assert agent.stop() == 0
    record = store.record("fridge")
    assert site.live == "1.0.0" and record.candidate is None and "came unsigned" in record.refused[0].reason


def test_without_updates_configured_it_says_what_to_set(tmp_path: Path) -> None:
    config = write_config(tmp_path, "mqtt://nobody")
    done = vedette("model", "update", "-c", config)
    assert done.returncode == 1 and "set updates.repository and updates.root" in done.stderr
    done = vedette("model", "update", "--state-dir", tmp_path)
    assert done.returncode == 1 and "give it -c FILE" in done.stderr


def test_check_says_whether_updates_can_be_had(site: Site) -> None:
    def look() -> dict[str, Any]:
        lines: list[dict[str, Any]] = json.loads(vedette("check", "--json", "-c", site.config).stdout)
        return next(line for line in lines if line["what"] == "updates")

    (site.folder / "state").mkdir(exist_ok=True)
    expected = f"{site.publisher.repo}: signed by whom we trust; channel stable has fridge 1.0.0"
    assert look() == {"what": "updates", "ok": True, "level": "ok", "detail": expected}
    site.root.unlink()
    found = look()
    assert not found["ok"] and "copy root.json of the publisher's keys there" in found["detail"]


def test_without_the_library_it_says_what_to_install(site: Site) -> None:
    program = (
        "import sys; sys.modules['tuf'] = None\n"  # as where it is not installed
        "from vedette.__main__ import main\n"
        f"sys.exit(main(['model', 'update', '-c', {str(site.config)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "pip install 'vedette[updates]'" in done.stderr


def test_a_gateways_own_environment_has_all_it_needs_and_the_agent_loads_none_of_it(site: Site, gateway_python: str) -> None:
    done = vedette("model", "update", "-c", site.config, python=gateway_python)
    assert (done.returncode, site.live) == (0, "1.0.0"), done.stderr
    program = "import sys, vedette.service, vedette.commands.run, vedette.commands.model; print(*sys.modules)"
    loaded = subprocess.run([gateway_python, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "vedette.service" in loaded and not {"tuf", "urllib3", "vedette.updates"} & set(loaded)


def test_keys_on_a_gateway_say_what_to_install(tmp_path: Path, gateway_python: str) -> None:
    done = vedette("keys", "create", tmp_path / "keys", python=gateway_python)
    assert done.returncode == 1 and "pip install 'vedette[publish]'" in done.stderr
    assert not (tmp_path / "keys").exists()
