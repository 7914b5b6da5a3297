"""Recipes: what to train on what, as YAML.

A recipe may say `like: OTHER` and then only what differs: whole top-level keys, nothing is merged below them. Rules this module keeps: a
default is written here or there is none; how history is split has none, because a wrong
split makes every figure that follows wrong.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from vedette.contract import documents
from vedette.contract.errors import ConfigError
from vedette.contract.features import FeatureSpec, Number
from vedette.contract.manifest import Name, Version
from vedette.contract.payloads.spec import PayloadSpec, TimeField
from vedette.contract.windows import WindowSpec
from vedette.topics import TopicFilter
from vedette_training.detectors import AnyDetector

SHIPPED = Path(__file__).parent / "recipes"

MAX_ANCESTORS = 5

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
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
        columns: Stripped and joined by one space before `format` (as `datetime.strptime` takes it), or the first of several that
            fits, reads them.
    """

    field: str | None = None
    unit: Literal["s", "ms", "us", "iso"] = "s"
    columns: tuple[str, ...] = ()
    format: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.field is None) == (not self.columns) or bool(self.columns) != (self.format is not None):
            raise ValueError("give either field and unit, or columns and format")

    @property
    def formats(self) -> tuple[str, ...]:
        """The layouts, in the order in which they are tried."""
        return (self.format,) if isinstance(self.format, str) else self.format or ()

    @property
    def payload(self) -> TimeField | None:
        """What the gateway's decoder is told; None where the time of arrival is the time of the columns."""
        return TimeField(field=self.field, unit=self.unit) if self.field is not None else None


class Label(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows are anomalous: those whose `column`, stripped, is none of `normal`."""

    column: str
    normal: tuple[str, ...] = ("0",)


class Recording(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How recorded messages are read: as a stream of agent.yaml, by the gateway's own decoder.

    Attributes:
        topic: The stream's; messages on other topics are left out.
        payload: The stream's; where it maps no fields, the recipe's do.
        device: Path of the device's name, where the topic does not name it.
    """

    topic: str
    payload: PayloadSpec = PayloadSpec()
    device: str | None = None

    def __post_init__(self) -> None:
        try:
            names_device = TopicFilter(self.topic).names_device
        except ValueError as error:
            raise ValueError(f'topic: {error}, got "{self.topic}"') from error
        if names_device == (self.device is not None):
            raise ValueError("device: name the device either in the topic, as {device}, or by a path in the payload")


_NO_DEVICE = Device(name="-")
_NO_TIME = EventTime(field="-")


class History(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tables of readings, or recordings of messages.

    Attributes:
        files: Paths or globs, relative to the recipe's folder.
        device: Of a table's row; needed where there is no `recording`.
        time: Of a table's row; needed where there is no `recording`.
        label: None where nobody labelled them; all of it then counts as normal.
        recording: Files are recordings (JSON lines with topic, payload and time), not tables.
        repeats: Of tables, as a stream's payload has it: `keep` is for event logs whose coarse times may hold several equal events.
    """

    files: tuple[str, ...] = ()
    device: Device = _NO_DEVICE
    time: EventTime = _NO_TIME
    label: Label | None = None
    recording: Recording | None = None
    repeats: Literal["drop", "keep"] = "drop"

    def __post_init__(self) -> None:
        for name, given in (("device", self.device is not _NO_DEVICE), ("time", self.time is not _NO_TIME)):
            if self.recording is None and not given:
                raise ValueError(f"{name}: missing, and it has no default")
            if self.recording is not None and given:
                raise ValueError(f"{name}: goes with tables: a recording's payloads and topics say it")
        if self.recording is not None and self.label is not None:
            raise ValueError("label: goes with tables: a recording has none")
        if self.recording is not None and self.repeats != "drop":
            raise ValueError("repeats: goes with tables: a recording's payload says it")


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
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.train + self.calibrate >= 1:
            raise ValueError("train and calibrate must leave something for the test")


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a score of 1.0 is, in the words of what somebody knows. One of:

    Attributes:
        alerts_per_day: False alarms that one device may raise a day when all is well: 0.01 is one in a hundred days, or one a day
            from a fleet of a hundred. It may be rarer than the history is long: the tail is extrapolated (see `calibrate`).
        quantile: Of held-out normal windows' raw scores.
        probability: A classifier's.
        margin: The quantile's distance from the least score is multiplied by it: little held-out history shows less than tomorrow will.
        adapt: Half-life, in windows, with which each gateway's device forgets how history scored and learns how it scores itself: for
            telemetry that does not stay what it was. A raw score becomes a surprisal, -log10 of how rare it is, and the quantile and its
            margin are of that: 0.99 with margin 1.75 is at 3.5, one window in 3000. What changes for good is strange no longer after
            about the half-life; the agent counts such devices as `shifted`.
    """

    alerts_per_day: Weight | None = None
    quantile: Share | None = None
    probability: Share | None = None
    margin: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    adapt: Weight | None = None

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.alerts_per_day, self.quantile, self.probability)) != 1:
            raise ValueError("give one of alerts_per_day, quantile and probability")
        if self.margin != 1 and self.quantile is None:
            raise ValueError("margin: goes with a quantile")
        if self.adapt is not None and self.probability is not None:
            raise ValueError("adapt: a probability says itself how strange a window is: give alerts_per_day or a quantile")


class EveryNumber(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for each number that does not say otherwise; see the contract's Number."""

    clip: Weight | None = None
    averages: tuple[Weight, ...] | None = None


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to train on what.

    Attributes:
        name: Of the bundle, unless the export says otherwise; so is the version.
        fields: Feature name to column; a feature that is not named is in the column of its own name.
        every_number: Clip and average of the numbers among the features.
        smoothing: Half-life, in windows, of the exponential average that is kept of each device's raw score.
        train_stride: A device's training windows begin this many readings apart. Neighbours differ little, so a
            fraction of them teaches as much in a fraction of the time. Calibration and test take windows as the gateway
            does.
        refit: Once the threshold is found, learn again from training and calibration part together: where history is short, the
            latest of it is worth more than a threshold that is exact. For detectors whose raw scores keep their scale, as pca's do.
        seed: Of everything in training that is left to chance.
    """

    name: Name
    version: Version = "1.0.0"
    detector: AnyDetector
    history: History
    fields: Mapping[str, str] = {}
    features: FeatureSpec
    every_number: EveryNumber = EveryNumber()
    window: WindowSpec = WindowSpec()
    train_stride: Count = 1
    split: Split
    smoothing: Weight | None = None
    threshold: Threshold
    refit: bool = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        kind = self.detector.kind
        if not self.features:
            raise ValueError("features: at least one is needed")
        if self.detector.learns_from_labels and self.history.label is None:
            raise ValueError(f"history: {kind} learns from labels: say which column holds them, in label")
        if self.threshold.probability is not None and not self.detector.learns_from_labels:
            raise ValueError(f"threshold: {kind} gives no probability: give alerts_per_day or a quantile")
        if self.split.by == "random" and self.window.steps > 1:
            raise ValueError("split: random is for windows of one step: longer ones overlap, so the test would hold what was learnt")

    @property
    def complete_features(self) -> FeatureSpec:
        """The features, with what holds for every number filled in."""
        common = {name: value for name, value in msgspec.structs.asdict(self.every_number).items() if value is not None}
        return tuple(
            msgspec.structs.replace(feature, **{name: value for name, value in common.items() if getattr(feature, name) is None})
            if isinstance(feature, Number)
            else feature
            for feature in self.features
        )

    @property
    def payload(self) -> PayloadSpec:
        """What the gateway's decoder is told."""
        if recording := self.history.recording:
            return msgspec.structs.replace(recording.payload, fields=recording.payload.fields or self.fields)
        return PayloadSpec(time=self.history.time.payload, fields=self.fields)


def load(recipe: str) -> Recipe:
    """Read a recipe by its path, or a shipped one by its bare name.

    Raises:
        ConfigError: there is none, or it is not valid; one line with file and key.
    """
    path = find(recipe)
    return documents.load(path, Recipe, lambda document: _like(document, path.parent, MAX_ANCESTORS))


def _like(document: object, folder: Path, left: int) -> object:
    """A recipe's document with what it leaves out taken from the recipe that its `like` names, key by key."""
    if not isinstance(document, dict) or "like" not in document:
        return document
    if not left or not isinstance(document["like"], str):
        raise ConfigError("like: expected the name of a shipped recipe or a .yaml file, and no more than " + f"{MAX_ANCESTORS} in a row")
    try:
        path = folder / document["like"] if document["like"].endswith((".yaml", ".yml")) else find(document["like"])
    except ConfigError as error:
        raise ConfigError(f"like: {error}") from error
    with documents.blaming(path):
        other = _like(documents.read_yaml(path), path.parent, left - 1)
    if not isinstance(other, dict):
        raise ConfigError(f"like: {path.name} is no recipe")
    return {**other, **{key: value for key, value in document.items() if key != "like"}}


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
