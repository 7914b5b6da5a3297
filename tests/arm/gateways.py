"""Gateways with ARM processors: a root each, unpacked from Debian's packages, with the agent's environment, made by pip from wheels.

Rules this module keeps: a root is made once and kept; the agent in it is that of the repository, installed anew for every run; nothing in a
root reaches the network: the host fetches what pip installs there.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from arm.debian import Apt, unpack

REPOSITORY = Path(__file__).resolve().parents[2]

_ENTER = Path(__file__).with_name("enter")
_LIMITS = Path(__file__).with_name("limits.py")
_PYTHON = "/opt/vedette/bin/python"
_PIP = [_PYTHON, "/work/pip.whl/pip"]
_INSTALL = [*_PIP, "install", "--quiet", "--no-compile", "--no-index", "--find-links", "/work/wheels", "--root-user-action=ignore"]
_GLIBC = ("2014", *(f"_2_{minor}" for minor in range(17, 37)))
"""Wheels for these run on Debian 12, whose C library is 2.36."""

# libstdc++6: numpy's and both runtimes' wheels need it, and the smallest Debian has it not.
_SYSTEM = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "libc-bin", "libstdc++6", "mosquitto", "openssl", "procps", "python3",
    "python3-pip-whl", "python3-venv",
)  # fmt: skip


class Kind(NamedTuple):
    """What a gateway is.

    Attributes:
        name: Its own.
        debian: Its processor, as Debian says.
        platforms: Of wheels, as pip says.
        extra: Of vedette's, which brings its model runtimes.
        tolerance: Of scores beside x86-64, relative to max(1, score).
        system: Packages of Debian's beside what every root has; where some are Python's, `wheels` names what is not among them.
        wheels: Of PyPI's, without what they depend on; none for the agent's with all that it depends on.
        built: Of PyPI's for which there is no wheel: they are built in the root.
        testing: What the agent's own tests need.
        alternatives: What update-alternatives would link in the folder of the system's libraries.
    """

    name: str
    debian: str
    platforms: tuple[str, ...]
    extra: str
    tolerance: float
    system: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    built: tuple[str, ...] = ()
    testing: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()


KINDS = {
    "arm64": Kind(
        name="arm64",
        debian="arm64",
        platforms=tuple(f"manylinux{glibc}_aarch64" for glibc in _GLIBC),
        extra="gateway",
        tolerance=1e-5,
        # onnx makes the tests' bundles; keys are for the tests of TLS and of updates.
        testing=("pytest", "pytest-timeout", "hypothesis", "onnx", "psutil", "securesystemslib[crypto]", "jsonschema"),
    ),
    "armv7": Kind(
        name="armv7",
        debian="armhf",
        platforms=tuple(f"manylinux{glibc}_armv7l" for glibc in _GLIBC),
        extra="tflite,updates",
        # tflite-runtime's kernels for it are up to 4.1e-5 from its own for x86-64; what a bundle has to prove on a gateway is 1e-4.
        tolerance=1e-4,
        # PyPI has no wheels of numpy and PyYAML for it, and none of msgspec.
        system=(
            "gcc",
            "libc6-dev",
            "python3-dev",
            "python3-numpy",
            "python3-yaml",
            "python3-hypothesis",
            "python3-psutil",
            "python3-pytest",
            "python3-pytest-timeout",
        ),
        # The latter six are jsonschema and what it needs.
        wheels=(
            *("paho-mqtt", "tflite-runtime", "tuf", "securesystemslib", "urllib3"),
            *("jsonschema", "jsonschema-specifications", "referencing", "rpds-py", "attrs", "typing-extensions"),
        ),
        testing=("jsonschema",),
        built=("msgspec",),
        alternatives=("arm-linux-gnueabihf/blas/libblas.so.3", "arm-linux-gnueabihf/lapack/liblapack.so.3"),
    ),
}


class GatewayError(Exception):
    """A gateway cannot be made."""


class Gateway:
    """A root with the agent in it, entered command by command.

    Args:
        kind: What it is.
        folder: For everything; what is there already is used.

    Attributes:
        work: Folder that is /work inside.
    """

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.work = folder / kind.name
        self._root, self._apt = folder / f"{kind.name}-root", folder / f"{kind.name}-apt"
        self._wheels = self.work / "wheels"

    def run(self, *command: str | Path, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end.

        Raises:
            subprocess.TimeoutExpired: it did not end in time; it and what it started are gone.
        """
        entered = [_ENTER, self._root, REPOSITORY, self.work, *command]
        return subprocess.run(entered, capture_output=True, text=True, check=False, timeout=timeout_s, stdin=subprocess.DEVNULL)

    def make(self) -> None:
        """Make what is not there yet, and install the repository's agent. The processor has to be emulated already.

        Raises:
            DebianError: packages cannot be had.
            GatewayError: wheels cannot be had, or not be installed.
        """
        self._wheels.mkdir(parents=True, exist_ok=True)
        if not (self._root / "ready").exists():
            self._make_root()
        agent = self._fetch_wheels()
        if not (self._root / "opt" / "vedette" / "ready").exists():
            self._make_environment()
        self._install(agent)

    def versions(self) -> dict[str, str]:
        """Of what is in it."""
        program = "import importlib.metadata as m; print(*(f'{d.name}={d.version}' for d in m.distributions()), sep='\\n')"
        found = dict(line.split("=", 1) for line in self._inside(_PYTHON, "-c", program).splitlines())
        found["python"] = self._inside(_PYTHON, "-c", "import platform; print(platform.python_version())").strip()
        return found

    def _make_root(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True)
        unpack(Apt(self._apt, self.kind.debian).fetch([*_SYSTEM, *self.kind.system]), self._root)
        # What maintainer scripts would have done of which something here takes notice.
        for name in ("passwd", "group"):
            shutil.copy(self._root / "usr" / "share" / "base-passwd" / f"{name}.master", self._root / "etc" / name)
        for path in self.kind.alternatives:
            folder, _, library = path.partition("/")
            (self._root / "usr" / "lib" / folder / Path(path).name).symlink_to(library)
        (self._root / "tmp").chmod(0o1777)
        (self._root / "ready").touch()

    def _make_environment(self) -> None:
        """Python's environment, of wheels alone."""
        self._inside("python3", "-m", "venv", "--without-pip", *(["--system-site-packages"] if self.kind.built else []), "/opt/vedette")
        (wheel,) = (self._root / "usr" / "share" / "python-wheels").glob("pip-*.whl")
        shutil.copy(wheel, self.work / "pip.whl")
        if self.kind.built and not any(self._wheels.glob("*linux_armv7l.whl")):
            self._inside(*_INSTALL, "setuptools", "setuptools-scm")
            build = [*_PIP, "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "-w", "/work/wheels"]
            for path in self._wheels.glob("*.tar.gz"):
                self._inside(*build, f"/work/wheels/{path.name}", timeout_s=3600)
        (agent,) = self._wheels.glob("vedette-*.whl")
        self._inside(
            *_INSTALL, "--only-binary", ":all:", f"/work/wheels/{agent.name}[{self.kind.extra}]", *self.kind.testing, timeout_s=1800
        )
        (self._root / "opt" / "vedette" / "ready").touch()

    def _fetch_wheels(self) -> Path:
        """Wheels for its processor into the folder that is inside, and the agent's own, which is returned."""
        for stale in self._wheels.glob("vedette-*.whl"):
            stale.unlink()
        _pip("wheel", "--no-deps", "--wheel-dir", str(self._wheels), str(REPOSITORY))
        (agent,) = self._wheels.glob("vedette-*.whl")
        if not (self._wheels / "ready").exists():
            constraints = self.work / "constraints.txt"
            constraints.write_text(self._constraints())
            given = ["download", "--constraint", str(constraints), "--find-links", str(self._wheels), "--dest", str(self._wheels)]
            if self.kind.built:
                _pip(*given, "--no-deps", "--no-binary", ":all:", *self.kind.built)
                _pip(*given, "setuptools", "setuptools-scm")
            target = ["--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp"]
            target += [part for platform in self.kind.platforms for part in ("--platform", platform)]
            wanted = ["--no-deps", *self.kind.wheels] if self.kind.wheels else [f"{agent}[{self.kind.extra}]", *self.kind.testing]
            _pip(*given, *target, *wanted)
            (self._wheels / "ready").touch()
        return agent

    def _install(self, agent: Path) -> None:
        """Give it the repository's agent. It is of Python alone, so that the host's pip can do it, in a tenth of the time."""
        packages = self._root / "opt" / "vedette" / "lib" / "python3.11" / "site-packages"
        _pip("install", "--no-deps", "--no-index", "--no-compile", "--upgrade", "--target", str(packages), str(agent))
        (self._root / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        # Debian has a sitecustomize of its own, which would hide another.
        shutil.copy(_LIMITS, packages / "emulated_limits.py")
        (packages / "emulated_limits.pth").write_text("import emulated_limits\n")

    def _constraints(self) -> str:
        """The pins, but for what Debian brings."""
        lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
        older = (REPOSITORY / "constraints-tflite.txt").read_text().splitlines()
        if not self.kind.built:
            return "\n".join(lines) + "\n"
        return "\n".join(line for line in [*lines, *older] if not line.lower().startswith(("numpy==", "pyyaml=="))) + "\n"

    def _inside(self, *command: str, timeout_s: float = 900) -> str:
        done = self.run(*command, timeout_s=timeout_s)
        if done.returncode:
            raise GatewayError(f"{self.kind.name}: {' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        raise GatewayError(f"pip {arguments[0]}: {done.stderr.strip()}")
