"""Runs: the folder that training leaves for the exporter and for evaluation. Its format is written and read here.

`run.json` says what was trained on what, each stage's model is in its library's own safe format (never a pickle), `holdout.npz` holds
windows that the model did not learn from with what it gave for them, and `test.msgpack` the readings of the test part, so that they can
go the whole way through a bundle. To change the format, raise FORMAT and say so in the changelog: a run is made again in minutes.
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
from vedette.contract.features import FeatureSpec, Rows, Value
from vedette.contract.manifest import TrainedOn
from vedette.contract.readings import Reading
from vedette.contract.scores import Calibration, Combine, Input, RawScores, Scorer, Stage
from vedette_training import models
from vedette_training.audit import Finding
from vedette_training.calibrate import Tail
from vedette_training.detectors import Curve, Fitted
from vedette_training.history import History
from vedette_training.models import Model
from vedette_training.recipe import Recipe

FORMAT = 2
MAX_HOLDOUT = 4000

_RUN, _HOLDOUT, _TEST = "run.json", "holdout.npz", "test.msgpack"


class RunStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stage with its model in its own library; the attributes are those of the contract's Stage, `file` being in the run."""

    name: str
    file: str
    input: Input
    output: str
    calibration: Calibration | None
    smoothing: float | None


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was trained on what.

    Attributes:
        created: Epoch seconds.
        recipe: As it was used, overrides included.
        features: The recipe's, fitted.
        calibration: Of the stages' combination.
        tail: What the threshold was taken from, where a budget of alerts asked for it.
        curves: How stages learnt, by name.
        findings: The audit's.
        windows: How many were in each part.
        metrics: What the test part measured, through the original models.
        libraries: Versions by distribution.
    """

    format: int = FORMAT
    created: int
    recipe: Recipe
    features: FeatureSpec
    stages: tuple[RunStage, ...]
    combine: Combine
    calibration: Calibration | None
    tail: Tail | None
    curves: Mapping[str, Curve]
    findings: tuple[Finding, ...]
    windows: Mapping[str, int]
    metrics: Mapping[str, float]
    trained_on: TrainedOn
    libraries: Mapping[str, str]


class Holdout(NamedTuple):
    """Windows that the model did not learn from: float32 `(n, steps, columns)`, their raw scores float64 `(n, voters)`, labels
    bool `(n,)`.
    """

    windows: Rows
    raw: RawScores
    anomalous: npt.NDArray[np.bool_]


class Labelled(NamedTuple):
    """Readings in the order of history, and whether each is anomalous; as plain tuples they are what `test.msgpack` holds."""

    devices: list[str]
    times: list[float]
    values: list[tuple[Value, ...]]
    anomalous: list[bool]

    @classmethod
    def of(cls, history: History, chosen: npt.NDArray[np.bool_]) -> "Labelled":
        """Those of history's readings that are chosen, bool `(n,)`."""
        positions = np.flatnonzero(chosen).tolist()
        return cls(
            [history.devices[i] for i in positions],
            [history.times[i] for i in positions],
            [history.values[i] for i in positions],
            history.anomalous[chosen].tolist(),
        )

    def readings(self) -> list[Reading]:
        """As the decoder gives them."""
        return list(map(Reading, self.devices, self.times, self.values))


def stages_of(fitted: Fitted, smoothing: float | None, calibrations: tuple[Calibration, ...]) -> tuple[RunStage, ...]:
    """A fitted detector's stages, those that have a say with their calibrations in order."""
    left = iter(calibrations)
    return tuple(
        RunStage(
            name=stage.name,
            file=f"{stage.name}{stage.model.suffix}",
            input=stage.input,
            output=stage.output,
            calibration=next(left) if stage.has_say else None,
            smoothing=smoothing if stage.has_say else None,
        )
        for stage in fitted.stages
    )


def scorer(stages: tuple[RunStage, ...], loaded: list[Model], combine: Combine, calibration: Calibration | None) -> Scorer:
    """The gateway's scorer over the original models."""
    # The runtime's name is for who loads a file; here they are loaded.
    contract = [Stage(runtime="onnx", **msgspec.structs.asdict(stage)) for stage in stages]
    return Scorer(contract, loaded, combine, calibration)


def check_folder(folder: Path) -> None:
    """Make sure that a run may be written to `folder`.

    Raises:
        ConfigError: something stands there that is not a run and would be lost.
    """
    if folder.exists() and not (folder / _RUN).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not a run: give another name with -o")


def write(folder: Path, run: Run, fitted: Fitted, holdout: Holdout, test: Labelled) -> None:
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
            for stage, described in zip(fitted.stages, run.stages, strict=True):
                stage.model.save(fresh / described.file)
            np.savez(fresh / _HOLDOUT, windows=holdout.windows, raw=holdout.raw, anomalous=holdout.anomalous)
            (fresh / _TEST).write_bytes(msgspec.msgpack.encode(test))
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


def read_test(folder: Path) -> Labelled:
    """Read a run's test part.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        return msgspec.msgpack.decode((folder / _TEST).read_bytes(), type=Labelled)
    except OSError as error:
        raise BundleError(f"{folder / _TEST}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder / _TEST}: {error}") from error


def load_models(folder: Path, run: Run) -> list[Model]:
    """Read a run's models, in the order of its stages.

    Raises:
        BundleError: one cannot be read.
    """
    return [models.load(folder / stage.file) for stage in run.stages]
