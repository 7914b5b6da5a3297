"""Node-RED is driven and counted as the agent is; without npm it is said what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import figures, peers

PROGRAM = Path(__file__).with_name("peers.py")


def test_a_quick_run_accounts_for_every_reading_on_both_sides(gateway_python: str, tmp_path: Path) -> None:
    if not (peers.FOLDER / "node_modules" / "node-red").exists():
        pytest.skip(reason="Node-RED is not here: make bench-peers has npm install it")
    path = tmp_path / "peers.json"
    command = [sys.executable, str(PROGRAM), "--quick", "--figures", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = figures.read(path)
    assert {row.name: row.bar for row in found.rows if row.bar is not None} == {peers.CPU: 0.25, peers.MEMORY: 0.5}
    assert all(row.value > 0 for row in found.rows)
    assert {"node", "node-red", "onnxruntime-node"} <= found.versions.keys()


def test_without_npm_it_is_said_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(peers.PeerError, match="npm is not installed"):
        peers.install(tmp_path / "peers")


def test_what_npm_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(peers.PeerError, match="no such package"):
        peers.install(tmp_path / "peers")


def test_every_node_of_the_flow_is_wired_to_one_that_is_there() -> None:
    nodes = peers.flow(1883)
    names = {node["id"] for node in nodes}
    assert {end for node in nodes for wires in node.get("wires", []) for end in wires} <= names
    assert all(node.get("broker", "broker") in names | {"127.0.0.1"} for node in nodes)
