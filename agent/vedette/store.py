"""The store: bundles on the gateway's disk, `models/NAME/VERSION.vedette` and a link `models/NAME/active` to the one that is live.

Rules this module keeps: nothing becomes active that was not verified and self-tested on this machine; a file is complete before it
has its name, and a switch is one rename, so power may fail between any two lines.
"""

import os
from pathlib import Path

from vedette.contract.bundle import SUFFIX, Bundle, open_bundle, self_test
from vedette.contract.errors import BundleError, ConfigError
from vedette.contract.scores import Scorer
from vedette.runtimes import load_scorer


class Store:
    """Bundles below one folder.

    Args:
        state_dir: The agent's state; it need not exist before something is installed.
    """

    def __init__(self, state_dir: Path) -> None:
        self._models = state_dir / "models"

    def open_active(self, name: str) -> tuple[Bundle, Scorer]:
        """The live bundle of a model, verified and self-tested, and its loaded models.

        Raises:
            ConfigError: there is none.
            BundleError: it does not verify, or scores differently here.
        """
        active = self._models / name / "active"
        if not active.exists():
            raise ConfigError(f'no model "{name}" in {self._models}; put one there with: vedette model install FILE{SUFFIX}')
        return prove(active.resolve())

    def install(self, path: Path) -> Bundle:
        """Verify and self-test a bundle, keep it, and make it the active one of its name.

        Raises:
            BundleError: it does not verify, scores differently here, or cannot be stored.
        """
        bundle, _ = prove(path)
        folder = self._models / bundle.manifest.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = folder / f"{bundle.manifest.version}{SUFFIX}"
            _write_whole(kept, path.read_bytes())
            link = folder / ".active.new"
            link.unlink(missing_ok=True)
            link.symlink_to(kept.name)
            link.replace(folder / "active")
            _sync_folder(folder)
        except OSError as error:
            raise BundleError(f"{error.filename or folder}: {error.strerror}; is this user allowed to write there?") from error
        return bundle

    def installed(self) -> list[tuple[str, str, bool]]:
        """Name, version and whether it is active, of every bundle that is kept."""
        found = []
        for path in sorted(self._models.glob(f"*/*{SUFFIX}")):
            active = path.parent / "active"
            found.append((path.parent.name, path.stem, active.exists() and active.resolve() == path.resolve()))
        return found


def prove(path: Path) -> tuple[Bundle, Scorer]:
    """Open a bundle, load its models and let it reproduce its golden scores on this machine.

    Raises:
        BundleError: it does not verify, or scores differently here.
        ScoreError: a runtime is missing or refuses a model.
    """
    bundle = open_bundle(path)
    scorer = load_scorer(bundle)
    self_test(bundle, scorer)
    return bundle, scorer


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
