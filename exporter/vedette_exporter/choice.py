"""What whoever exports may choose."""

from typing import Literal, NamedTuple

Runtime = Literal["litert", "onnx"]
Precision = Literal["float32", "float16", "int8"]


class Choice(NamedTuple):
    """How a run's models are to be exported.

    Attributes:
        runtime: Of Keras models; scikit-learn's are always ONNX.
        precision: Of Keras models' weights.
        max_bytes: A larger model file is not taken.
    """

    runtime: Runtime = "litert"
    precision: Precision = "float32"
    max_bytes: int = 16 * 2**20
