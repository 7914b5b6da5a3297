"""scikit-learn to ONNX, through skl2onnx with converters of our own, class by class, so that a pipeline converts as a whole.

Rules this module keeps: an estimator without a converter here is refused; the one output is `strangeness`, higher is stranger; every
tensor between two steps is float32, as scikit-learn passes them.
"""

from collections.abc import Callable
from typing import Any

from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from vedette.contract.errors import BundleError
from vedette.contract.scores import Precision
from vedette_exporter import onnx_estimators, onnx_forest
from vedette_exporter.onnx_graph import OPSET, Graph
from vedette_training.detectors.dbscan import CoreDistance
from vedette_training.detectors.one_class_svm import LogKernel
from vedette_training.detectors.pca import MinorAxes
from vedette_training.models.sklearn_model import OUTPUT

Add = Callable[[Any, Graph, str, str], None]
"""Writes an estimator, given a graph, its input and the name that its output must have."""

_TRANSFORMERS: dict[type, Add] = {StandardScaler: onnx_estimators.add_standard_scaler, PCA: onnx_estimators.add_pca}
_DETECTORS: dict[type, Add] = {
    IsolationForest: onnx_forest.add,
    LogKernel: onnx_estimators.add_log_kernel,
    CoreDistance: onnx_estimators.add_core_distance,
    MinorAxes: onnx_estimators.add_minor_axes,
}


def has_narrower_form(model: Any) -> bool:
    """Whether float16 and int8 make a fitted estimator smaller: not a forest, whose size is in its trees."""
    return not isinstance(_steps(model)[-1], IsolationForest)


def convert(model: Any, width: int, precision: Precision = "float32") -> bytes:
    """Convert a fitted estimator.

    Args:
        model: One of the detectors' estimators, or a Pipeline of scalers that ends with one.
        width: Of its input.
        precision: Of its weights as they are stored: support vectors, core samples or axes.

    Returns:
        The ONNX file: input `rows` float32 `(n, width)`, output `strangeness` float32 `(n, 1)`.

    Raises:
        BundleError: there is no converter for it.
    """
    *before, last = _steps(model)
    foreign = [type(step).__name__ for step in before if type(step) not in _TRANSFORMERS]
    foreign += [type(last).__name__] if type(last) not in _DETECTORS else []
    if foreign:
        raise BundleError(f"no conversion to ONNX for {', '.join(foreign)}")
    converters = {**_TRANSFORMERS, **_DETECTORS}
    converted = convert_sklearn(
        model,
        name="vedette",
        initial_types=[("rows", FloatTensorType([None, width]))],
        target_opset=OPSET,
        custom_parsers=dict.fromkeys(converters, _parse),
        custom_shape_calculators=dict.fromkeys(converters, _set_shape),
        custom_conversion_functions={kind: _converter(add, precision) for kind, add in converters.items()},
    )
    data: bytes = converted.SerializeToString(deterministic=True)
    return data


def _steps(model: Any) -> list[Any]:
    """What runs one after the other; a pipeline may end with another."""
    return [inner for _, step in model.steps for inner in _steps(step)] if isinstance(model, Pipeline) else [model]


def _parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:  # noqa: ARG001 because skl2onnx passes it
    operator = scope.declare_local_operator(f"Vedette{type(model).__name__}", model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable(OUTPUT if type(model) in _DETECTORS else "turned", FloatTensorType()))
    return operator.outputs


def _set_shape(operator: Any) -> None:
    model = operator.raw_operator
    width = 1 if type(model) in _DETECTORS else len(model.components_) if isinstance(model, PCA) else model.n_features_in_
    operator.outputs[0].type = FloatTensorType([None, width])


def _converter(add: Add, precision: Precision) -> Callable[[Any, Any, Any], None]:
    """An estimator's converter in skl2onnx's form."""

    def convert_operator(scope: Any, operator: Any, container: Any) -> None:
        add(operator.raw_operator, Graph(scope, container, precision), operator.inputs[0].full_name, operator.outputs[0].full_name)

    return convert_operator
