"""Credentials: what the agent is given is what it logs in with, and a broker's refusal says what to do."""

import shutil
import subprocess
from pathlib import Path

import pytest

from agents import Agent, vedette, write_config
from brokers import Mosquitto, free_port
from bundles import install, make_bundle

SECRET = "correct horse"


@pytest.fixture
def guarded(tmp_path: Path) -> Mosquitto:
    """A broker that wants a name and a password."""
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "vedette", SECRET], check=True)
    return Mosquitto(tmp_path, settings=f"allow_anonymous false\npassword_file {passwords}\nuser root")


def configure(folder: Path, broker: Mosquitto, password: str) -> Path:
    install(folder / "state", make_bundle())
    (folder / "password").write_text(password + "\n")
    return write_config(folder, "", broker={"url": broker.url, "username": "vedette", "password_file": str(folder / "password")})


def test_the_password_of_the_file_is_accepted(tmp_path: Path, guarded: Mosquitto) -> None:
    with guarded:
        assert vedette("check", "-c", configure(tmp_path, guarded, SECRET)).returncode == 0


def test_a_wrong_password_is_said_once_retried_and_never_shown(tmp_path: Path, guarded: Mosquitto) -> None:
    config = configure(tmp_path, guarded, "wrong horse")
    with guarded:
        done = vedette("check", "-c", config)
        assert done.returncode == 1
        assert "refuses the connection: Not authorized; check broker.username, broker.password_file" in done.stdout
        with Agent(config) as agent:
            with pytest.raises(subprocess.TimeoutExpired):
                agent.process.wait(4)
            assert agent.stop() == 0
    assert agent.said.count("refuses the connection") == 1
    assert "horse" not in agent.said + done.stdout + done.stderr


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A folder with a certificate authority of its own, and a certificate for 127.0.0.1 and localhost."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip(reason="openssl is not installed")
    folder = tmp_path / "authority"
    folder.mkdir()

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    run("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signing)
    return folder


def test_an_encrypted_connection_trusts_the_given_authority_only(tmp_path: Path, authority: Path) -> None:
    install(tmp_path / "state", make_bundle())
    settings = (
        f"allow_anonymous true\ncafile {authority}/ca.pem\ncertfile {authority}/server.pem\nkeyfile {authority}/server.key\nuser root"
    )
    with Mosquitto(tmp_path, free_port(), settings) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        config = write_config(tmp_path, "", broker={"url": url, "ca_file": str(authority / "ca.pem")})
        assert vedette("check", "-c", config).returncode == 0
        config = write_config(tmp_path, "", broker={"url": url})
        done = vedette("check", "-c", config)
        assert done.returncode == 1
        assert "has a certificate issued by test authority, whom this system does not know; name" in done.stdout
        config = write_config(tmp_path, "", broker={"url": url, "ca_file": str(tmp_path / "none.pem")})
        done = vedette("run", "-c", config)
        assert done.returncode == 1
        assert f"agent.yaml: broker: certificates cannot be used ({tmp_path}/none.pem): " in done.stderr
