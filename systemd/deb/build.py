"""`make deb`: dist/vedette_VERSION_ARCH.deb, an environment of its own with all that a gateway runs.

    python systemd/deb/build.py [--python 3.13] [--arch arm64]… [--version V]…

Rules this module keeps: wheels only, of the versions in constraints.txt, so that any machine builds for every other; nothing in the
archive says where or when it was built; what a gateway never loads is left out.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pages import write_pages
from vedette import __version__

REPOSITORY = Path(__file__).resolve().parents[2]
DIST = REPOSITORY / "dist"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's name of an architecture, and that of wheels."""

DEFAULT_PYTHON = "3.11"
"""Of Debian 12 and Raspberry Pi OS of the same age."""

_GLIBC = range(28, 16, -1)
"""Wheels for glibc 2.17 to 2.28, which nfpm.yaml asks for."""

UNUSED = (
    "bin",
    "**/tests",
    "**/*.pyi",
    "*.dist-info/direct_url.json",  # where the wheel was built
    # Headers and compilers of extensions.
    "numpy/_core/include",
    "numpy/f2py",
    # For graphics cards and the compilers of other processors' makers.
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so",
    "ai_edge_litert/tools",
    "ai_edge_litert/vendors",
    # For programs in C; what Python loads holds all of it once more.
    "onnxruntime/capi/libonnxruntime.so*",
    # For whoever makes models.
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
)
"""Of the packages' 190 MB, 80 MB. tests/install/ runs models of both runtimes without them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the packages that were asked for; their paths go to stdout."""
    options = argparse.ArgumentParser(prog="make deb", description="Build vedette_VERSION_ARCH.deb into dist/.")
    options.add_argument("--python", default=DEFAULT_PYTHON, metavar="3.N", help=f"the target's Python (default: {DEFAULT_PYTHON})")
    options.add_argument("--arch", action="append", choices=MACHINES, help="default: all")
    options.add_argument(
        "--version", action="append", metavar="V", help="instead of vedette's own; several are several packages of the same"
    )
    given = options.parse_args(arguments)
    if not re.fullmatch(r"3\.\d+", given.python):
        options.error(f"--python: expected 3.N, got {given.python!r}")
    # Packages for different releases of Debian must not be taken for each other; the later one's is the newer.
    versions = given.version or [__version__ + ("" if given.python == DEFAULT_PYTHON else f"+py{given.python}")]
    DIST.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DIST, prefix=".deb-") as folder:
        wheel = _wheel(Path(folder))
        for arch in given.arch or MACHINES:
            tree = Path(folder) / arch
            _environment(tree / "opt" / "vedette", wheel, MACHINES[arch], given.python)
            write_pages(tree / "usr" / "share")
            for version in versions:
                print(package(tree, arch, given.python, version), flush=True)
    return 0


def _wheel(folder: Path) -> Path:
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, REPOSITORY)
    (wheel,) = folder.glob("vedette-*.whl")
    return wheel


def _environment(top: Path, wheel: Path, machine: str, python: str) -> None:
    """A virtual environment without pip, over the system's Python of one minor version."""
    packages = top / "lib" / f"python{python}" / "site-packages"
    glibc = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC] + [f"manylinux2014_{machine}"]
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:", "--target", packages,
        "--implementation", "cp", "--python-version", python, *(part for each in glibc for part in ("--platform", each)),
        "--constraint", REPOSITORY / "constraints.txt", f"vedette[gateway] @ {wheel.as_uri()}",
    )  # fmt: skip
    before = _size(packages)
    for pattern in UNUSED:
        for path in list(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
    print(f"{machine}: {before / 1e6:.0f} MB of packages, {_size(packages) / 1e6:.0f} MB of them kept", file=sys.stderr)
    (top / "bin").mkdir()
    shutil.copy(Path(__file__).with_name("vedette"), top / "bin" / "vedette")
    (top / "bin" / "python3").symlink_to(f"/usr/bin/python{python}")
    (top / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n")
    for path in [top, *top.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent == top / "bin" else 0o644)


def package(tree: Path, arch: str, python: str, version: str) -> Path:
    """Pack a tree as nfpm.yaml says."""
    made = DIST / f"vedette_{version}_{arch}.deb"
    major, _, minor = python.partition(".")
    # nfpm knows variables in few places.
    values = {"TREE": str(tree), "ARCH": arch, "VERSION": version, "PYTHON": python, "PYTHON_AFTER": f"{major}.{int(minor) + 1}"}
    filled = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], Path(__file__).with_name("nfpm.yaml").read_text(encoding="utf-8"))
    (tree / "nfpm.yaml").write_text(filled, encoding="utf-8")
    committed = subprocess.run(
        ["git", "-C", REPOSITORY, "log", "-1", "--format=%ct"],  # noqa: S607 because git is wherever PATH has it
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    environment = {"SOURCE_DATE_EPOCH": committed or "0", **os.environ}
    nfpm = Path(sys.executable).with_name("nfpm")
    _run(nfpm, "package", "--config", tree / "nfpm.yaml", "--packager", "deb", "--target", made, env=environment)
    return made


def _run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=REPOSITORY, env=env, check=False, stdout=sys.stderr)
    if done.returncode:
        sys.exit(f"make deb: {Path(command[0]).name} failed (exit code {done.returncode}); what it said is above")


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
