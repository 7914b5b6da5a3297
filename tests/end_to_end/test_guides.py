"""Every guide, typed in its order into an empty folder: what it shows is printed, and what it configures is read by what reads it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import guides
from agents import vedette
from brokers import Mosquitto
from conftest import REPOSITORY
from guides import COMMAND, OUTPUT, PLACES, Block
from vedette import config
from vedette.demo.command import BUNDLE
from vedette_training import recipe

DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.glob("*.md"), REPOSITORY / "README.md", REPOSITORY / "systemd" / "README.md"])
WALKED = {"model-owner.md": "workstation", "subscriber.md": "gateway"}
"""The guides, and whose packages their readers have."""

WALK_S = 840
"""For a walk of about a minute, on a machine that has much else to do."""

ELSEWHERE = {
    "README.md": "tests/end_to_end/test_demo.py",
    "arm.md": "tests/arm/main.py",
    "bundles.md": "tests/exporter/test_export_command.py",
    "fleet.md": "tests/updates/test_fleet_page.py",
    "home-assistant.md": "tests/agent/test_homeassistant_page.py",
    "operator.md": "tests/install/inside.py",
    "replay.md": "tests/end_to_end/test_replay_page.py",
    "systemd/README.md": "tests/install/inside.py",
}
"""Pages whose commands are run by tests of their own, or of the commands."""

_VEDETTE = re.compile(r"(?:^|sudo |&& |until |-- |credentials )vedette ([a-z]+)((?: [a-z-]+\b)?)([^|&;#\n]*)", re.MULTILINE)
BLOCKS = [block for name in (*WALKED, "operator.md") for block in guides.read(DOCS / name)]


def places(folder: Path, broker: Mosquitto) -> dict[str, str]:
    """What stands in the guides, and what it is here."""
    return {
        "mqtt://localhost": broker.url,
        "-h localhost": f"-h 127.0.0.1 -p {broker.port}",
        '"localhost", 1883': f'"127.0.0.1", {broker.port}',
        "/etc/vedette/": f"{folder}/etc/",
        "/media/usb/": f"{folder}/usb/",
        "/usr/share/vedette/cold-chain-1.0.0.vedette": str(BUNDLE),
    }


def walk(name: str, folder: Path, broker: Mosquitto, programs: Path) -> None:
    """Type a guide's commands, and see that what it shows is printed; `programs` is where its readers' are."""
    if shutil.which("mosquitto_sub") is None:
        pytest.skip(reason="mosquitto_sub, which the guides' readers have, is not here: make mosquitto installs it")
    prints, home, here = folder / "prints", folder / "home", folder / "here"
    for each in (prints, home, here, folder / "usb"):
        each.mkdir()
    blocks = guides.read(DOCS / name)
    # What goes on in other terminals may have its say once all is typed.
    typed = guides.script(blocks, places(folder, broker), root=False, keep=prints) + f"touch {prints}/typed\nwait\n"
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(["bash", "-c", typed], cwd=here, env=environment, start_new_session=True) as shell:
        try:
            deadline = time.monotonic() + WALK_S
            while shell.poll() is None and not (prints / "typed").exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            at = (prints / "at").read_text().strip()
            said = (prints / at.partition(":")[2]).with_suffix(".out")
            assert (prints / "typed").exists(), f"exit code {shell.poll()} at {at}:\n{said.read_text()[-3000:] if said.exists() else ''}"
            deadline = time.monotonic() + 60
            while (fault := compare(blocks, prints)) and time.monotonic() < deadline:
                time.sleep(0.2)
            assert fault is None, fault
        finally:
            os.killpg(shell.pid, signal.SIGTERM)


def compare(blocks: Sequence[Block], prints: Path) -> str | None:
    """What a guide shows and the commands above it did not print; None where they printed all."""
    above = ""
    for block in blocks:
        if block.language == COMMAND and "root" not in block.words:
            above = (prints / f"{block.line}.out").read_text(errors="replace")
        elif block.language == OUTPUT and "root" not in block.words and (line := guides.missing(block.text, above)) is not None:
            return f"{block.at} shows, and nobody printed: {line}\nprinted was:\n{above}"
    return None


@pytest.mark.timeout(WALK_S + 60)
@pytest.mark.parametrize("name", WALKED)
def test_a_guide_does_what_it_says(name: str, tmp_path: Path, broker: Mosquitto, gateway_python: str) -> None:
    walk(name, tmp_path, broker, Path(gateway_python if WALKED[name] == "gateway" else sys.executable).parent)


@pytest.mark.parametrize("block", [pytest.param(block, id=block.at) for block in BLOCKS if block.language == "yaml"])
def test_what_a_guide_configures_is_read_by_what_reads_it(block: Block, tmp_path: Path) -> None:
    read: dict[str, Any] = yaml.safe_load(block.text)
    path = tmp_path / "a.yaml"
    path.write_text(block.text)
    if "home-assistant" in block.words:
        return
    if "like" in read or "detector" in read:
        recipe.load(str(path))
    else:
        stream = {"name": "fridges", "topic": "a/{device}", "model": "cold-chain"}
        path.write_text(yaml.safe_dump({"gateway": "g", "broker": {"url": "mqtt://b"}, "streams": [stream], **read}))
        config.load(path)


def test_every_command_of_every_page_is_run_by_some_test() -> None:
    """What is neither walked here nor run by a page's own test stands, word for word, in a guide that is."""
    walked = {line for name in (*WALKED, "operator.md") for line in lines(DOCS / name)}
    for page in PAGES:
        name = page.name if page.parent == DOCS else str(page.relative_to(REPOSITORY))
        assert all(block.words <= PLACES for block in guides.read(page) if block.language == COMMAND), page
        if name in ELSEWHERE:
            assert (REPOSITORY / ELSEWHERE[name]).exists()
        else:
            assert not (left := set(lines(page)) - walked), f"{page}: no test runs {left}"
    assert all("root" in block.words for block in guides.read(DOCS / "operator.md") if block.language == COMMAND)


def lines(page: Path) -> list[str]:
    """A page's commands, without what is said of them."""
    typed = (line for block in guides.read(page) if block.language == COMMAND for line in block.text.splitlines())
    return [re.sub(r"\s+#\s.*", "", line) for line in typed]


def test_every_command_and_option_that_a_page_names_exists() -> None:
    known = {entry.name for entry in metadata.entry_points(group="vedette.commands")}
    helps: dict[tuple[str, ...], str] = {}
    for page in PAGES:
        named = [(block.at, block.text.replace("\\\n", " ")) for block in guides.read(page) if block.language == COMMAND]
        named += [(page.name, words) for words in re.findall(r"`((?:sudo )?vedette [a-z][^`\n]*)`", page.read_text())]
        for at, text in named:
            for found in re.finditer(
                r"(?:^|sudo |&& |until |-- |credentials )vedette ([a-z]+)((?: [a-z-]+\b)?)([^|&;#\n]*)", text, re.MULTILINE
            ):
                assert found[1] in known, f"{at}: {found[0]}"
                key = (found[1], found[2].strip()) if found[1] in {"model", "keys", "simulate"} and found[2] else (found[1],)
                if key not in helps:
                    helps[key] = vedette(*key, "--help").stdout
                options = {option.partition("=")[0] for option in re.findall(r"(?<= )-{1,2}[a-z][a-z-]*", found[3])}
                assert all(re.search(rf"(?<![\w-]){option}(?![\w-])", helps[key]) for option in options), f"{at}: {found[0]}"


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target, part in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), f"{page}: {target}"
            assert not part or part in parts(there), f"{page}: {target}#{part}"


def parts(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_command_that_fails_ends_the_walk_where_it_stands(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```yaml\n# a/b.yaml\nx: there\n```\n```sh\ncat a/b.yaml\nfalse\n```\n```sh\ntouch never\n```\n")
    typed = guides.script(guides.read(page), {"there": "here"}, root=False, keep=tmp_path)
    assert subprocess.run(["bash", "-c", typed], cwd=tmp_path, check=False).returncode == 1
    assert (tmp_path / "at").read_text() == "page.md:6\n"
    assert (tmp_path / "6.out").read_text() == "# a/b.yaml\nx: here\n"
    assert not (tmp_path / "never").exists()


def test_what_a_page_shows_is_compared_in_order_figures_and_spaces_aside() -> None:
    printed = "begun\n1.25 s,  3 of 4\nid abc-1\nover\n"
    assert guides.missing("2 s, 10 of 12\n…\nid … \nover", printed) is None
    assert guides.missing("over\nbegun", printed) == "begun"
    assert guides.missing("3 of 4", printed) == "3 of 4"
