"""What of the package shows without a machine to install it on: the units, the pages, and nfpm.yaml. The rest is `make test-install`."""

import configparser
import gzip
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from conftest import REPOSITORY

SYSTEMD = REPOSITORY / "systemd"
SERVICES = ("vedette.service", "vedette-update.service")
DEB = SYSTEMD / "deb"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What belongs below /usr/share."""
    share = tmp_path_factory.mktemp("share")
    program = "import sys; from pathlib import Path; from pages import write_pages; write_pages(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, share], check=True, cwd=DEB, capture_output=True, timeout=120)
    return share


def page(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip(reason="there is no systemd-analyze here: apt install systemd")
    return program


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_is_exposed_by_no_more_than_its_work_needs(analyze: str, unit: str) -> None:
    command = [analyze, "security", "--offline=true", "--no-pager", str(SYSTEMD / unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "unrecognized option" in done.stderr:
        pytest.skip(reason="this systemd-analyze cannot look at a file: it is older than 250")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= 1.1


@pytest.mark.parametrize("unit", [*SERVICES, "vedette-update.timer"])
def test_a_unit_has_no_mistake(analyze: str, unit: str, tmp_path: Path) -> None:
    for name in (*SERVICES, "vedette-update.timer"):
        # The program is where the package puts it, and the pages are not installed here.
        text = (SYSTEMD / name).read_text().replace("/opt/vedette/bin/vedette", "/bin/true")
        (tmp_path / name).write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    done = subprocess.run([analyze, "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, check=False, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    # What came with systemd 254 and is passed over by those before.
    assert [line for line in complaints if "RestartSteps" not in line and "RestartMaxDelaySec" not in line] == []
    assert done.returncode == 0, done.stderr


def test_both_services_have_the_same_sandbox() -> None:
    texts = [(SYSTEMD / unit).read_text() for unit in SERVICES]
    sandboxes = [re.search(r"^NoNewPrivileges=.*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL) for text in texts]
    assert sandboxes[0] and sandboxes[1] and sandboxes[0][0].strip() == sandboxes[1][0].strip()


def test_the_service_does_what_its_users_rely_on() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # because that is how configparser is told to leave names alone
    unit.read(SYSTEMD / "vedette.service")
    wanted = {"Type": "notify", "Restart": "on-failure", "ExecReload": "/bin/kill -HUP $MAINPID", "StateDirectory": "vedette"}
    assert wanted.items() <= dict(unit["Service"]).items()
    assert unit["Service"]["ExecStart"].startswith("/opt/vedette/bin/vedette run ")


def test_the_man_page_and_the_completions_have_every_command(pages: Path) -> None:
    commands = {point.name for point in entry_points(group="vedette.commands")}
    manual = page(pages / "man/man1/vedette.1.gz")
    assert set(re.findall(r"^\.SS vedette (\S+)$", manual, re.MULTILINE)) == commands
    assert {"install", "list", "verify", "activate", "rollback", "update"} == set(
        re.findall(r"^\\fBvedette model (\w+)\\fR", manual, re.MULTILINE)
    )
    assert r"\fB\-\-listen\fR" in manual
    bash, zsh = ((pages / name).read_text() for name in ("bash-completion/completions/vedette", "zsh/vendor-completions/_vedette"))
    (known,) = re.findall(r"^_shtab_vedette_subparsers=\((.*)\)$", bash, re.MULTILINE)
    assert set(known.split()) == commands
    assert all(re.search(rf"^ +{command}:'", zsh, re.MULTILINE) for command in commands)


def test_the_shell_completes_commands_actions_and_options(pages: Path) -> None:
    completion = pages / "bash-completion" / "completions" / "vedette"
    for words, expected in ((["rep"], "replay"), (["model", "roll"], "rollback"), (["check", "--lis"], "--listen")):
        line = " ".join(f"'{word}'" for word in ["vedette", *words])
        script = f'source {completion}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_vedette; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=20)
        assert done.stdout.split() == [expected], done.stderr


def test_the_page_about_the_configuration_is_the_configuration(pages: Path) -> None:
    shown = page(pages / "man/man5/agent.yaml.5.gz")
    text = shown[shown.index(".nf\n") + 4 : shown.index("\n.fi")].replace(r"\-", "-").replace(r"\(aq", "'").replace(r"\&", "")
    assert yaml.safe_load(text) == yaml.safe_load((SYSTEMD / "agent.yaml").read_text())


def test_every_file_that_the_package_is_made_of_is_there() -> None:
    recipe = yaml.safe_load((DEB / "nfpm.yaml").read_text())
    sources = [item["src"] for item in recipe["contents"] if item.get("type") not in {"symlink", "dir"}]
    assert [source for source in sources if not source.startswith("${TREE}") and not list(REPOSITORY.glob(source))] == []
    for script in recipe["scripts"].values():
        subprocess.run(["sh", "-n", REPOSITORY / script], check=True, timeout=10)


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="there is no dpkg-deb here to look into a package")
def test_nfpm_packs_it(tmp_path: Path) -> None:
    """With an empty environment: the real one takes a minute and the network."""
    (tmp_path / "opt" / "vedette").mkdir(parents=True)
    (tmp_path / "usr" / "share").mkdir(parents=True)
    program = (
        "import sys, build; from pathlib import Path; build.DIST = Path(sys.argv[1]); build.package(build.DIST, 'arm64', '3.13', '9.9.9')"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, cwd=DEB, capture_output=True, timeout=60)
    made = tmp_path / "vedette_9.9.9_arm64.deb"
    fields = subprocess.run(["dpkg-deb", "--field", made], check=True, capture_output=True, text=True, timeout=20).stdout
    assert "Architecture: arm64" in fields and "python3 (>= 3.13), python3 (<< 3.14)" in fields
    listed = subprocess.run(["dpkg-deb", "--contents", made], check=True, capture_output=True, text=True, timeout=20).stdout
    assert re.search(r"^-rw-r----- root/root .* \./etc/vedette/agent\.yaml$", listed, re.MULTILINE)
    assert re.search(r"^drwx------ root/root .* \./etc/vedette/credentials/$", listed, re.MULTILINE)
    conffiles = subprocess.run(["dpkg-deb", "--info", made, "conffiles"], check=True, capture_output=True, text=True, timeout=20).stdout
    assert conffiles.split() == ["/etc/vedette/agent.yaml"]
