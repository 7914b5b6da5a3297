"""Runs: the folder that training leaves for the exporter. Its format is written and read here.

`run.json` says what was trained on what, the model is in its library's own safe format (never a pickle), and
`holdout.npz` holds windows that the model did not learn from with what it gave for them. To change the format, raise
FORMAT and keep reading the old one.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.errors import BundleError, ConfigError
from vedette.contract.features import FeatureSpec, Rows
from vedette.contract.manifest import TrainedOn
from vedette.contract.scores import Calibration
from vedette_training import detectors
from vedette_training.detectors import Fitted, RawScores
from vedette_training.recipe import Recipe

FORMAT = 1
MAX_HOLDOUT = 4000

_RUN, _HOLDOUT = "run.json", "holdout.npz"


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was trained on what.

    Attributes:
        created: Epoch seconds.
        recipe: As it was used, overrides included.
        features: The recipe's, fitted.
        metrics: What the test part measured.
        libraries: Versions by distribution.
    """

    format: int = FORMAT
    created: int
    recipe: Recipe
    features: FeatureSpec
    calibration: Calibration
    metrics: Mapping[str, float]
    trained_on: TrainedOn
    libraries: Mapping[str, str]


class Holdout(NamedTuple):
    """Windows that the model did not learn from: float32 `(n, steps, columns)`, its raw outputs float32 `(n,)`, labels
    bool `(n,)`.
    """

    windows: Rows
    raw: RawScores
    anomalous: npt.NDArray[np.bool_]


def sample(holdout: Holdout, rng: np.random.Generator) -> Holdout:
    """At most MAX_HOLDOUT of them, drawn at random, in their order."""
    if len(holdout.windows) <= MAX_HOLDOUT:
        return holdout
    chosen = np.sort(rng.choice(len(holdout.windows), MAX_HOLDOUT, replace=False))
    return Holdout(holdout.windows[chosen], holdout.raw[chosen], holdout.anomalous[chosen])


def check_folder(folder: Path) -> None:
    """Make sure that a run may be written to `folder`.

    Raises:
        ConfigError: something stands there that is not a run and would be lost.
    """
    if folder.exists() and not (folder / _RUN).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not a run: give another name with -o")


def write(folder: Path, run: Run, model: Fitted, holdout: Holdout) -> None:
    """Write a run; one that stands there already is replaced when the new one is complete.

    Raises:
        ConfigError: as `check_folder`, or the folder cannot be written.
    """
    check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            (fresh / _RUN).write_bytes(msgspec.json.format(msgspec.json.encode(run, order="deterministic"), indent=1))
            model.save(fresh / detectors.find(run.recipe.detector).file)
            np.savez(fresh / _HOLDOUT, windows=holdout.windows, raw=holdout.raw, anomalous=holdout.anomalous)
            fresh.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            fresh.replace(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot write the run: {error.strerror}") from error


def read(folder: Path) -> tuple[Run, Holdout]:
    """Read a run; the model is read by `load_model`.

    Raises:
        BundleError: not a run, or of a format that this version does not read.
    """
    try:
        run = msgspec.json.decode((folder / _RUN).read_bytes(), type=Run)
        if run.format != FORMAT:
            raise BundleError(f"{folder / _RUN}: format {run.format}; this version reads format {FORMAT}: train again")
        with np.load(folder / _HOLDOUT, allow_pickle=False) as arrays:
            return run, Holdout(arrays["windows"], arrays["raw"], arrays["anomalous"])
    except OSError as error:
        raise BundleError(f"{folder}: not a run that can be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{folder}: not a run that can be read: {error}") from error


def load_model(folder: Path, run: Run) -> Fitted:
    """Read a run's model.

    Raises:
        BundleError: it cannot be read.
    """
    detector = detectors.find(run.recipe.detector)
    return detector.load(folder / detector.file)
