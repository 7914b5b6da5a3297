"""Writing ONNX: constants and nodes, one after the other, into the container that skl2onnx hands its converters."""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from vedette.contract.scores import Precision
from vedette_exporter.onnx_narrow import Weights, narrow

FLOAT, DOUBLE = int(TensorProto.FLOAT), int(TensorProto.DOUBLE)

OPSET = {"": 18, "ai.onnx.ml": 3}
"""ONNX Runtime of any year back to 2023 reads these."""


class Graph:
    """Where a converter writes. Tensors go by their names.

    Args:
        scope: skl2onnx's, which knows the names that are taken.
        container: skl2onnx's.
        precision: That weights are stored in.
    """

    def __init__(self, scope: Any, container: Any, precision: Precision) -> None:
        self._scope, self._container, self._precision = scope, container, precision

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Add an array."""
        name = self._name("constant")
        self._container.add_initializer(name, None, None, numpy_helper.from_array(np.asarray(values, dtype=dtype)))
        return name

    def weights(self, values: npt.ArrayLike) -> tuple[str, Weights]:
        """Add a matrix in the graph's precision: a float32 tensor `(rows, columns)`, and its values as they are after rounding."""
        found = narrow(values, self._precision)
        tensor = self.constant(found.stored, found.stored.dtype)
        if found.stored.dtype != np.float32:
            tensor = self.cast(tensor, FLOAT)
        if found.scale is not None:
            tensor = self.add("Mul", tensor, self.constant(found.scale))
        return tensor, found.used

    def add(self, operator: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node and name its output: `to`, or a name of its own."""
        output = to or self._name(operator.lower())
        domain = "ai.onnx.ml" if operator == "TreeEnsembleRegressor" else ""
        self._container.add_node(operator, list(inputs), [output], op_domain=domain, **attributes)
        return output

    def cast(self, tensor: str, type_: int, to: str | None = None) -> str:
        """Add a cast to FLOAT or DOUBLE."""
        # Under the name "to", which ONNX has for the type, `add` takes its output's.
        output = to or self._name("cast")
        self._container.add_node("Cast", [tensor], [output], to=type_)
        return output

    def along_rows(self, operator: str, tensor: str, to: str | None = None) -> str:
        """Add a reduction of `(n, width)` to `(n, 1)`."""
        return self.add(operator, tensor, self.constant([1], np.int64), to=to, keepdims=1)

    def _name(self, base: str) -> str:
        return str(self._scope.get_unique_variable_name(base))
