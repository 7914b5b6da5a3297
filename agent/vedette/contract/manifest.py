"""The manifest: all that a bundle says about itself, as typed data.

FORMAT is the version of the manifest and of the file around it. To raise it: add the new types here, keep the old ones and
a function that turns old into new, keep a bundle of the old format under tests/bundles/ and its test, and say in
CHANGELOG.md which agents can read what. An agent refuses a format newer than its own.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from vedette.contract.errors import FormatError
from vedette.contract.features import FeatureSpec
from vedette.contract.scores import Calibration, Combine, Precision, Stage, check_stages
from vedette.contract.windows import WindowSpec

FORMAT = 1

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Version = Annotated[str, msgspec.Meta(pattern=r"^\d+\.\d+\.\d+$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the bundle: size in bytes and SHA-256."""

    size: int
    sha256: Digest


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of history that the model learnt from. `rows` counts its readings."""

    name: str
    sha256: Digest
    rows: int


class TrainedOn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model learnt from. `first` and `last` are event times, epoch seconds; `recipe` is the recipe's SHA-256."""

    recipe: Digest
    sources: tuple[Source, ...]
    windows: int
    first: float
    last: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a gateway must know to score with the bundle.

    Attributes:
        created: Epoch seconds.
        detector: `lstm`, `isolation_forest`, …
        calibration: Of the stages' combination, where that has a threshold of its own.
        metrics: What evaluation on held-out data measured, by name.
        libraries: Versions that made the bundle.
        files: Every file but the manifest.
    """

    format: int = FORMAT
    name: Name
    version: Version
    created: int
    detector: str
    features: FeatureSpec
    window: WindowSpec
    stages: tuple[Stage, ...]
    combine: Combine = "all"
    calibration: Calibration | None = None
    trained_on: TrainedOn
    metrics: Mapping[str, float]
    libraries: Mapping[str, str]
    files: Mapping[str, FileEntry]

    def __post_init__(self) -> None:
        if not self.features:
            raise ValueError("a bundle needs at least one feature")
        check_stages(self.stages)
        for stage in self.stages:
            if stage.file not in self.files:
                raise ValueError(f"stage {stage.name} names {stage.file}, which is not among the files")

    @property
    def precision(self) -> Precision:
        """The narrowest of its stages'."""
        used = {stage.precision for stage in self.stages}
        return "int8" if "int8" in used else "float16" if "float16" in used else "float32"


class _FormatOnly(msgspec.Struct):
    format: int


def encode(manifest: Manifest) -> bytes:
    """The manifest as JSON, the same bytes for equal manifests."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1)


def decode(data: bytes) -> Manifest:
    """Read a manifest of any format up to FORMAT.

    Raises:
        FormatError: not a manifest, or of a format this version does not read.
    """
    try:
        found = msgspec.json.decode(data, type=_FormatOnly).format
        if found != FORMAT:
            mend = "update the agent" if found > FORMAT else "export the model again"
            raise FormatError(f"manifest.json: format {found}; this version of vedette reads format {FORMAT}: {mend}")
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"manifest.json: {error}") from error
