"""What whoever exports may choose."""

from typing import Literal, NamedTuple

from vedette.contract.scores import Precision

Runtime = Literal["litert", "onnx"]


class Choice(NamedTuple):
    """How a run's models are to be exported.

    Attributes:
        runtime: Of Keras models; scikit-learn's are always ONNX.
        precision: Of the weights of every model that has such a form.
        max_bytes: A larger model file is not taken.
    """

    runtime: Runtime = "litert"
    precision: Precision = "float32"
    max_bytes: int = 16 * 2**20
