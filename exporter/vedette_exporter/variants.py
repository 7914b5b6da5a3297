"""Variants: the same models with narrower weights, beside float32.

Rules this module keeps: a stage that has no narrower form stays float32 and is told; a run none of whose stages has one is refused; what a
variant costs in average precision is measured on labelled windows that the models did not learn from, and has a limit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.contract.errors import BundleError
from vedette.contract.scores import Precision, Scorer, Scores, Stage
from vedette_training.evaluate import measure
from vedette_training.models import Model
from vedette_training.run import RunStage

MAX_LOST = 0.01
"""Of average precision."""


class Variant(NamedTuple):
    """What one precision of a run's models comes to.

    Attributes:
        model_bytes: Of all model files.
        average_precision: On held-out windows, nothing smoothed; None where they are of one class.
        scorer: Over the exported models, for whoever takes the time.
    """

    precision: Precision
    model_bytes: int
    average_precision: float | None
    scorer: Scorer


def check_form(stages: Sequence[RunStage], models: Sequence[Model], precision: Precision) -> None:
    """Make sure that one of a run's models at least has a form in a precision.

    Raises:
        BundleError: none of them has.
    """
    if precision != "float32" and not any(map(_has_narrower_form, models)):
        raise BundleError(
            f"{' and '.join(stage.name for stage in stages)} has no {precision} form: its size is in its trees, whose cuts decide to "
            "the last bit; export it in float32"
        )


def narrowed(stages: Sequence[Stage], models: Sequence[Model], precision: Precision) -> tuple[Stage, ...]:
    """Stages in a precision, as far as their models have it."""
    return tuple(
        msgspec.structs.replace(stage, precision=precision if _has_narrower_form(model) else "float32")
        for stage, model in zip(stages, models, strict=True)
    )


def _has_narrower_form(model: Model) -> bool:
    if model.suffix == ".keras":
        return True
    from vedette_exporter import sklearn_onnx

    return sklearn_onnx.has_narrower_form(model.original)


def average_precision(scores: Scores, anomalous: npt.NDArray[np.bool_]) -> float | None:
    """Of the first of the scores, for which there are labels: None where those are of one class."""
    return measure(scores[: len(anomalous)], anomalous).get("average_precision")


def check(exact: Variant, narrower: Variant) -> None:
    """Make sure that a narrower variant is smaller, and still tells anomalous windows from normal ones.

    Raises:
        BundleError: it is not smaller, or its average precision is lower by more than MAX_LOST.
    """
    if narrower.model_bytes >= exact.model_bytes:
        # TFLite leaves matrices of fewer than 1,024 weights as they are.
        raise BundleError(
            f"{narrower.precision} makes these models no smaller ({narrower.model_bytes} bytes, float32 {exact.model_bytes}): "
            "their weights are few; export them in float32"
        )
    before, after = exact.average_precision, narrower.average_precision
    if before is not None and after is not None and not before - after <= MAX_LOST:
        raise BundleError(
            f"{narrower.precision}: average precision on held-out windows falls from {before:.4f} to {after:.4f} "
            f"(allowed: by {MAX_LOST:g}); no bundle was made: export it in {'float16 or ' if narrower.precision == 'int8' else ''}float32"
        )
