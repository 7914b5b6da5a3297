"""What `vedette check` finds around the agent: one line each, and what to do."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents import Agent, Watcher, vedette, write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from vedette import config
from vedette.commands.certificates import expiry
from vedette.commands.credentials import look_at_credentials
from vedette.commands.findings import Found
from vedette.commands.surroundings import look_at_disk, look_at_state, look_for_agent
from vedette.commands.users import seen_as_service
from vedette.contract.errors import ConfigError


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody gets to; pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="vedette-check-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def agent_of(folder: Path, **broker: Any) -> config.Config:
    (folder / "state").mkdir(exist_ok=True)
    return config.load(write_config(folder, "", broker={"url": "mqtts://broker", **broker}))


def secret(path: Path, mode: int = 0o640) -> Path:
    path.write_text("secret")
    path.chmod(mode)
    return path


def certificate(folder: Path, name: str, days: int) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip(reason="openssl, which makes the certificates, is not installed")
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-days", str(days), "-keyout", key, "-out", made], check=True, capture_output=True)
    key.chmod(0o640)
    return made, key


def test_a_secret_that_everybody_can_read_is_a_fault_unless_nobody_gets_there(open_folder: Path) -> None:
    path = secret(open_folder / "password", 0o644)
    agent = agent_of(open_folder, username="v", password_file=str(path))
    fault, _ = look_at_credentials(agent)
    assert fault == Found("fault", f"broker.password_file: {path} can be read by everybody on this machine: chmod o= {path}")
    open_folder.chmod(0o750)
    assert [found.level for found in look_at_credentials(agent)] == ["ok"]
    open_folder.chmod(0o755)
    path.chmod(0o640)
    assert [found.level for found in look_at_credentials(agent)] == ["ok"]


def test_every_file_that_is_not_there_is_a_line_of_its_own(tmp_path: Path) -> None:
    agent = agent_of(tmp_path, cert_file="/none/cert", key_file="/none/key", ca_file="/none/ca")
    found = [detail for level, detail in look_at_credentials(agent) if level == "fault"]
    assert found == [
        f"broker.{key}: {path}: No such file or directory"
        for key, path in (("key_file", "/none/key"), ("cert_file", "/none/cert"), ("ca_file", "/none/ca"))
    ]


def test_a_credential_that_only_the_service_gets_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    agent = agent_of(tmp_path, username="v", password_file="${CREDENTIALS_DIRECTORY}/password")
    note, _ = look_at_credentials(agent)
    assert note.level == "note" and "is there for the service only" in note.detail


def test_a_certificate_that_ends_soon_is_a_note_and_one_that_is_not_the_keys_a_fault(tmp_path: Path) -> None:
    (soon, key), (late, _) = certificate(tmp_path, "soon", 5), certificate(tmp_path, "late", 4000)
    assert abs(expiry(soon) - time.time() - 5 * 86400) < 600 and abs(expiry(late) - time.time() - 4000 * 86400) < 600
    note, well = look_at_credentials(agent_of(tmp_path, cert_file=str(soon), key_file=str(key), ca_file=str(late)))
    assert (
        (note.level, well.level) == ("note", "ok")
        and note.detail.startswith(f"broker.cert_file: {soon} expires on ")
        and " in 5 days" in note.detail
    )
    fault, _ = look_at_credentials(agent_of(tmp_path, cert_file=str(late), key_file=str(key)))
    assert fault.level == "fault" and "do not go together" in fault.detail


@pytest.mark.parametrize("content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_a_fault_that_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "ca").write_text(content)
    fault, *_ = look_at_credentials(agent_of(tmp_path, ca_file=str(tmp_path / "ca")))
    assert fault.level == "fault" and fault.detail.startswith(f"broker.ca_file: {tmp_path}/ca: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_root_looks_as_the_user_of_the_service_and_leaves_nothing_of_its_own(open_folder: Path) -> None:
    agent = agent_of(open_folder, username="v", password_file=str(secret(open_folder / "password", 0o600)))
    state = open_folder / "state"
    install(state, make_bundle())
    nobody = pwd.getpwnam("nobody")
    for path in (state, *state.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    with seen_as_service(state) as user:
        if user != "nobody":
            pytest.skip(reason="this machine has a user vedette, who is looked as instead")
        assert [found.level for found in look_at_state(state)] == ["ok"]
        fault, _ = look_at_credentials(agent)
        assert f"{open_folder}/password cannot be read by nobody: chgrp " in fault.detail
    record = state / "models" / "fridge" / "record.json"
    os.chown(record, 0, 0)
    record.chmod(0o640)
    with seen_as_service(state):
        fault, _ = look_at_state(state)
    assert fault.level == "fault"
    assert fault.detail.startswith(f"{record} cannot be changed by nobody: it belongs to root:root: chown -R nobody:") and os.geteuid() == 0
    before = {path: path.stat().st_uid for path in (state, *state.rglob("*"))}
    vedette("check", "-c", open_folder / "agent.yaml")
    assert {path: path.stat().st_uid for path in (state, *state.rglob("*"))} == before


def test_a_disk_with_no_room_is_a_fault_and_one_with_little_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = agent_of(tmp_path)
    real = os.statvfs(tmp_path)

    def with_free(count: int) -> Any:
        fields = list(real)
        fields[3] = fields[4] = count // real.f_frsize
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", lambda _: with_free(100 * 1024**2))
    note, well = look_at_disk(agent)
    assert (
        (note.level, well.level) == ("note", "ok")
        and "100 MiB free" in note.detail
        and "a full spool takes up to 192 MiB more" in note.detail
    )
    monkeypatch.setattr(os, "statvfs", lambda _: with_free(3 * 1024**2))
    with pytest.raises(ConfigError, match=r"3 MiB free in .*, at least 16 MiB are needed: make room"):
        list(look_at_disk(agent))


def test_an_agent_that_runs_is_found_and_a_configuration_that_it_has_not_read(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    path = write_config(tmp_path, broker.url)
    assert [found.detail for found in look_for_agent(path)] == ["no agent runs from this configuration"]
    with Watcher(broker) as watcher, Agent(path) as agent:
        watcher.wait_online()
        (well,) = watcher.wait(lambda: [f for f in look_for_agent(path) if "process" in f.detail])
        assert well.level == "ok" and f"process {agent.process.pid} runs since" in well.detail
        os.utime(path, (time.time() + 5, time.time() + 5))
        note, _ = look_for_agent(path)
        assert note == Found("note", f"{path} has changed since the agent read it: systemctl reload vedette")
        assert agent.stop() == 0


def test_a_configuration_at_fault_hides_neither_the_clock_nor_an_agent_that_runs(tmp_path: Path) -> None:
    done = vedette("check", "-c", write_config(tmp_path, "mqtt://nobody", gatewy=1))
    assert done.returncode == 1 and done.stderr == ""
    assert [line[7:].split()[0] for line in done.stdout.splitlines() if not line.startswith("note")] == ["config", "clock", "running"]
