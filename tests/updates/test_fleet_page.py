"""Every command of docs/fleet.md, in its order."""

import re
import subprocess
import sys
from pathlib import Path

from agents import Watcher, write_config
from brokers import Mosquitto
from bundles import make_bundle
from conftest import REPOSITORY
from vedette.contract import announcement
from vedette.store import Store

PAGE = REPOSITORY / "docs" / "fleet.md"


def test_every_command_of_the_page_does_what_the_page_says(tmp_path: Path, broker: Mosquitto) -> None:
    for version, threshold in (("1.3.0", 4.0), ("1.4.0", 5.0)):
        (tmp_path / f"fridge-{version}.vedette").write_bytes(make_bundle(version=version, threshold=threshold))
    (tmp_path / "passphrase").write_text("correct horse battery staple\n")
    (tmp_path / "usb").mkdir()
    updates = {"repository": str(tmp_path / "repo"), "root": str(tmp_path / "etc" / "root.json"), "channel": "stable"}
    config = write_config(tmp_path, broker.url, updates=updates, trial="off")

    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    page = "".join(blocks)
    assert len(blocks) >= 10
    places = {"/etc/vedette": str(tmp_path / "etc"), "/media/usb": str(tmp_path / "usb"), "mqtt://broker.local": broker.url}
    for place, here in places.items():
        assert place in page
        page = page.replace(place, here)
    page = re.sub(r"^vedette model \w+", rf"\g<0> -c {config}", page, flags=re.MULTILINE)

    # After every publication, an update: the gateways of the page follow it.
    follows = f"vedette model update -c {config} >> updates"
    page = re.sub(r"^(vedette publish .*)$", rf"\1\n[ -e {tmp_path}/etc/root.json ] && {follows} || true", page, flags=re.MULTILINE)
    vedette = f'vedette() {{ {sys.executable} -m vedette "$@"; }}\n'
    shell = ["bash", "-e", "-c", vedette + page]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "updates").read_text().splitlines()
    versions = [line.split()[1] for line in lines]
    # Canary only, then all, then back, then forward by announcement, refreshed, renewed, rotated, and begun anew.
    assert versions == ["1.3.0", "1.4.0", "1.3.0", "1.4.0", "1.4.0", "1.4.0", "1.4.0", "1.4.0"], lines
    live = Store(tmp_path / "state").record("fridge").live
    assert live and live.signed and live.version == "1.4.0"
    with Watcher(broker) as watcher:
        told = announcement.decode(watcher.wait(lambda: watcher.last("vedette/models/fridge")))
        assert {channel: head.version for channel, head in told.channels.items()} == {"canary": "1.4.0", "stable": "1.4.0"}
