"""Keras to ONNX, through tf2onnx, which makes one LSTM operator of a recurrent layer.

Rules this module keeps: equal models give equal bytes; no score depends on where in a batch its window stands. tf2onnx promises neither:
it orders and names nodes anew each time, and ONNX Runtime's own means round by where in memory a row begins.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf2onnx
from onnx import AttributeProto, TensorProto, checker, helper, numpy_helper, shape_inference

from vedette.contract.errors import BundleError
from vedette.contract.scores import Precision
from vedette_exporter.keras_twin import INPUT, twin
from vedette_exporter.onnx_graph import OPSET
from vedette_exporter.onnx_narrow import narrow

_MATRIX = 256
"""Fewer weights than this stay float32: what casts them would take as much room."""

_IR_VERSION = 8
"""Of the file format: what came with opset 18."""


def convert(model: Any, precision: Precision = "float32") -> bytes:
    """Convert a model.

    Args:
        model: Functional keras.Model of one input `(n, steps, columns)`, its outputs a dict by name.
        precision: Of its weights as they are stored.

    Returns:
        The ONNX file: float32 in and out, input `window` of any batch size, the outputs' names kept.

    Raises:
        BundleError: a recurrent layer has settings that ONNX's operator does not know.
    """
    copy = twin(model, unroll=False)
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)]
    function = tf.function(lambda window: copy(window, training=False), input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(function, signature, opset=OPSET[""])
    data: bytes = _rewritten(converted, precision).SerializeToString(deterministic=True)
    return data


def _rewritten(model: Any, precision: Precision) -> Any:
    """The same graph as a new model, in an order and with names that depend on nothing but what it computes."""
    graph = model.graph
    writer = _Writer(graph, _shapes(model), precision)
    for node in _in_order(graph):
        writer.add(node)
    outputs = sorted(graph.output, key=lambda output: str(output.name))
    for value in (*graph.input, *outputs):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    made = helper.make_model(
        helper.make_graph(writer.nodes, "vedette", graph.input, outputs, writer.constants),
        opset_imports=[helper.make_opsetid("", OPSET[""])],
        ir_version=_IR_VERSION,
    )
    checker.check_model(made, full_check=True)
    return made


def _in_order(graph: Any) -> list[Any]:
    """The nodes that outputs need, each behind those that it needs itself."""
    makers = {output: node for node in graph.node for output in node.output if output}
    ordered: list[Any] = []
    placed: set[str] = set()
    wanted = sorted((output.name for output in graph.output), reverse=True)
    while wanted:
        node = makers.get(wanted[-1])
        missing = [name for name in node.input if name in makers and name not in placed] if node else []
        if missing:
            wanted += reversed(missing)
            continue
        if node and wanted[-1] not in placed:
            ordered.append(node)
            placed.update(node.output)
        wanted.pop()
    return ordered


def _shapes(model: Any) -> dict[str, list[int]]:
    """Every tensor's, 0 where it is not fixed."""
    inferred = shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return {value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim] for value in values}


class _Writer:
    """Takes nodes over, one after the other, under new names."""

    def __init__(self, graph: Any, shapes: dict[str, list[int]], precision: Precision) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
        self._names: dict[str, str] = {"": ""} | {value.name: value.name for value in (*graph.input, *graph.output)}
        self._shapes, self._precision = shapes, precision

    def add(self, node: Any) -> None:
        """Take a node over.

        Raises:
            BundleError: it holds a graph of its own.
        """
        if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute):
            raise BundleError(
                "no conversion to ONNX for a recurrent layer with other settings than Keras' own; export it with --runtime litert"
            )
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "ReduceMean" and self._add_mean(node, keepdims=attributes.get("keepdims", 1)):
            return
        inputs = [self._known(name) for name in node.input]
        self._add(node.op_type, inputs, [self._new(name) for name in node.output], attributes)

    def _add_mean(self, node: Any, *, keepdims: int) -> bool:
        """Write a mean along one of the last two axes as a product, whose rounding is the same wherever a row begins."""
        data, axes = node.input
        shape = self._shapes.get(data, [])
        if len(self._arrays[axes]) != 1 or len(shape) < 2:
            return False
        axis = int(self._arrays[axes][0]) % len(shape)
        if axis < len(shape) - 2 or not shape[axis]:
            return False
        shares = np.full(shape[axis], 1 / shape[axis], np.float32)
        is_last = axis == len(shape) - 1
        given = self._known(data)
        factors = [given, self._constant(shares[:, None])] if is_last else [self._constant(shares[None, :]), given]
        (to,) = node.output
        product = self._new(to) if keepdims else f"{self._new(to)}_kept"
        self._add("MatMul", factors, [product], {})
        if not keepdims:
            self._add("Squeeze", [product, self._constant(np.array([axis]))], [self._new(to)], {})
        return True

    def _add(self, operator: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any]) -> None:
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    def _known(self, name: str) -> str:
        """What an input is called now."""
        if name in self._arrays and name not in self._names:
            self._names[name] = self._weights(self._arrays[name])
        return self._names[name]

    def _weights(self, values: npt.NDArray[Any]) -> str:
        """Add a constant, which is stored in the asked-for precision where it is a matrix of some size."""
        if self._precision == "float32" or values.dtype != np.float32 or values.ndim < 2 or values.size < _MATRIX:
            return self._constant(values)
        # An LSTM operator's are (directions, outputs, inputs), a product's (inputs, outputs).
        found = narrow(values, self._precision, axis=-1 if values.ndim == 3 else 0)
        made = f"weights_{len(self.constants)}"
        self._add("Cast", [self._constant(found.stored)], [made], {"to": int(TensorProto.FLOAT)})
        if found.scale is None:
            return made
        self._add("Mul", [made, self._constant(found.scale)], [f"{made}_scaled"], {})
        return f"{made}_scaled"

    def _constant(self, values: npt.NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def _new(self, name: str) -> str:
        """What an output is called from now on."""
        return self._names.setdefault(name, f"value_{len(self._names)}")
