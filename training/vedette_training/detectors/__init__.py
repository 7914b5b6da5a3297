"""Detectors: one file for each kind of model, which holds its settings, as a recipe gives them, and how it learns.

To add one, write a module here with a msgspec struct that is a `Detector`, its tag being the kind's name: a recipe can then name it.
Rules this package keeps: a library is imported where a detector learns, not before; a detector's chance is its seed; what its stages
give is raw, the higher the stranger, for calibration to map.
"""

import functools
import importlib
import operator
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from vedette.contract.scores import Combine, Input
from vedette_training.models import Model
from vedette_training.windows import Part


class FittedStage(NamedTuple):
    """A fitted model's place in a score; the attributes are those of the contract's Stage.

    Attributes:
        has_say: Whether it gives a score, or only feeds others.
    """

    name: str
    model: Model
    input: Input
    output: str
    has_say: bool = True


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """How learning went, epoch by epoch.

    Attributes:
        loss: On what was learnt from.
        validation_loss: On what was only watched; empty where nothing was.
        baseline: The validation loss of a model that knows nothing: of always giving the mean, or the share of the anomalous.
        windows_per_s: How fast, in the median epoch, its validation not counted.
        epoch_s: How long each epoch took, with its validation; those from before a training was resumed are not in it.
    """

    loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    baseline: float | None
    windows_per_s: float
    epoch_s: tuple[float, ...] = ()


class Fitted(NamedTuple):
    """What a detector learnt: stages in their order, and how the scores of those that have a say become one.

    Attributes:
        curves: Of the stages that learn in epochs, by name.
    """

    stages: tuple[FittedStage, ...]
    combine: Combine = "all"
    curves: Mapping[str, Curve] = {}


class Workshop(NamedTuple):
    """Where and with what chance a detector learns.

    Attributes:
        seed: Of everything left to chance.
        checkpoints: A folder for what long training has reached, so that it can be resumed; None keeps nothing.
    """

    seed: int
    checkpoints: Path | None = None

    def for_part(self, name: str) -> "Workshop":
        """The same for one part of a detector that has several."""
        return self._replace(checkpoints=self.checkpoints / name if self.checkpoints else None)


class Detector(Protocol):
    """A kind of model with its settings.

    Attributes:
        kind: Its name in a recipe.
        learns_from_labels: Whether it needs anomalous windows as well as normal ones.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102 because the attribute is described above

    @property
    def learns_from_labels(self) -> bool: ...  # noqa: D102 because the attribute is described above

    def fit(self, part: Part, workshop: Workshop) -> Fitted:
        """Learn from training windows. On a terminal a bar shows how far it is.

        Raises:
            HistoryError: the windows do not hold what the detector learns from.
        """
        ...


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every detector's settings are."""

    @property
    def kind(self) -> str:
        """Its name in a recipe."""
        return str(self.__struct_config__.tag)

    @property
    def learns_from_labels(self) -> bool:
        """Most detectors learn from normal windows alone."""
        return False


def _found() -> Any:
    """The union of all detectors' settings in this package's modules."""
    kinds: dict[str, type] = {}
    for module in pkgutil.iter_modules(__path__):
        for member in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(member, type) and issubclass(member, Settings) and member is not Settings:
                kinds[str(member.__struct_config__.tag)] = member
    return functools.reduce(operator.or_, (kinds[kind] for kind in sorted(kinds)))


if TYPE_CHECKING:
    AnyDetector = Detector
else:
    AnyDetector = _found()
