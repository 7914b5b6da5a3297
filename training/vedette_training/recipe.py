"""Recipes: what to train on what, as YAML.

Rules this module keeps: a default is written here or there is none; how history is split has none, because a wrong
split makes every figure that follows wrong.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from vedette.contract import documents
from vedette.contract.errors import ConfigError
from vedette.contract.features import FeatureSpec
from vedette.contract.manifest import Name, Version
from vedette.contract.readings import PayloadSpec, TimeField
from vedette.contract.windows import WindowSpec

SHIPPED = Path(__file__).parent / "recipes"

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Weight = Annotated[float, msgspec.Meta(gt=0)]


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose readings a table holds: the device that `column` names, or one device called `name`."""

    column: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if (self.column is None) == (self.name is None):
            raise ValueError("give either column or name")


class EventTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a row was measured: one `field` as the gateway reads it, or text in `columns`, in UTC.

    Attributes:
        columns: Stripped and joined by one space before `format` (as `datetime.strptime` takes it) reads them.
    """

    field: str | None = None
    unit: Literal["s", "ms", "us", "iso"] = "s"
    columns: tuple[str, ...] = ()
    format: str | None = None

    def __post_init__(self) -> None:
        if (self.field is None) == (not self.columns) or bool(self.columns) != (self.format is not None):
            raise ValueError("give either field and unit, or columns and format")

    @property
    def payload(self) -> TimeField | None:
        """What the gateway's decoder is told; None where the time of arrival is the time of the columns."""
        return TimeField(field=self.field, unit=self.unit) if self.field is not None else None


class Label(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows are anomalous: those whose `column`, stripped, is none of `normal`."""

    column: str
    normal: tuple[str, ...] = ("0",)


class History(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tables of readings.

    Attributes:
        files: Paths or globs, relative to the recipe's folder.
        label: None where nobody labelled them; all of it then counts as normal.
    """

    files: tuple[str, ...] = ()
    device: Device
    time: EventTime
    label: Label | None = None


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How readings are divided, in shares of readings (`time`, `random`) or of devices; what remains is the test part.

    Attributes:
        by: `time`: the earliest are for training, the latest for the test. `device`: a device is in one part only.
            `random`: readings are drawn one by one, which says little about tomorrow and must be asked for.
        seed: Of the draw, for `device` and `random`.
    """

    by: Literal["time", "device", "random"]
    train: Share
    calibrate: Share
    seed: int = 0

    def __post_init__(self) -> None:
        if self.train + self.calibrate >= 1:
            raise ValueError("train and calibrate must leave something for the test")


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a score of 1.0 is: at a quantile of held-out normal windows' strangeness, or at a classifier's
    probability.
    """

    quantile: Share | None = None
    probability: Share | None = None

    def __post_init__(self) -> None:
        if (self.quantile is None) == (self.probability is None):
            raise ValueError("give either quantile or probability")


class ClassWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a window of each class counts in the loss."""

    normal: Weight = 1.0
    anomalous: Weight = 1.0


class Lstm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="lstm", tag_field="kind"):
    """LSTM -> dropout -> one sigmoid unit, learnt from labels by binary cross-entropy.

    Attributes:
        units: Like dropout, epochs and batch, as in the project's first notebook; the learning rate is Adam's own
            default.
        validation: Share of the training windows, the last ones, that are only watched.
    """

    units: Count = 64
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.3
    epochs: Count = 30
    batch: Count = 64
    learning_rate: Weight = 0.001
    class_weights: ClassWeights = ClassWeights()
    validation: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.2


class IsolationForest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="isolation_forest", tag_field="kind"):
    """Random trees over flattened normal windows; trees and sample as in Liu, Ting and Zhou, 2008."""

    trees: Count = 100
    max_samples: Annotated[int, msgspec.Meta(ge=2)] = 256


DetectorSpec = Lstm | IsolationForest


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to train on what.

    Attributes:
        name: Of the bundle, unless the export says otherwise; so is the version.
        fields: Feature name to column; a feature that is not named is in the column of its own name.
        train_stride: A device's training windows begin this many readings apart. Neighbours differ little, so a
            fraction of them teaches as much in a fraction of the time. Calibration and test take windows as the gateway
            does.
        seed: Of everything in training that is left to chance.
    """

    name: Name
    version: Version = "1.0.0"
    detector: DetectorSpec
    history: History
    fields: Mapping[str, str] = {}
    features: FeatureSpec
    window: WindowSpec = WindowSpec()
    train_stride: Count = 1
    split: Split
    threshold: Threshold
    seed: int = 0

    def __post_init__(self) -> None:
        classifier = isinstance(self.detector, Lstm)
        if not self.features:
            raise ValueError("features: at least one is needed")
        if classifier and self.history.label is None:
            raise ValueError("history: an lstm learns from labels: say which column holds them, in label")
        if self.threshold.probability is not None and not classifier:
            raise ValueError("threshold: an isolation_forest gives no probability: give a quantile")
        if self.split.by == "random" and self.window.steps > 1:
            raise ValueError("split: random is for windows of one step: longer ones overlap, so the test would hold what was learnt")

    @property
    def payload(self) -> PayloadSpec:
        """What the gateway's decoder is told about a row."""
        return PayloadSpec(time=self.history.time.payload, fields=self.fields)


def load(recipe: str) -> Recipe:
    """Read a recipe by its path, or a shipped one by its bare name.

    Raises:
        ConfigError: there is none, or it is not valid; one line with file and key.
    """
    path = find(recipe)
    return documents.load(path, Recipe)


def find(recipe: str) -> Path:
    """The file of a recipe given by its path, or of a shipped one by its bare name.

    Raises:
        ConfigError: there is none.
    """
    if recipe.endswith((".yaml", ".yml")):
        return Path(recipe)
    shipped = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    if recipe not in shipped:
        raise ConfigError(f'no recipe "{recipe}": give the path of a .yaml file or one of {", ".join(shipped)}')
    return SHIPPED / f"{recipe}.yaml"
