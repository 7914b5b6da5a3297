"""ONNX models through ONNX Runtime, with its telemetry off."""

import os
from collections.abc import Mapping

# Read once, when the library is loaded: without it some of its wheels start a thread and keep a database for a telemetry
# service. A gateway's models are nobody else's business. disable_telemetry_events() would come too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnxruntime

from vedette.contract.errors import ScoreError
from vedette.contract.features import Rows


class Onnx:
    """An ONNX model with one input, of any batch size.

    Args:
        model: The file's bytes.

    Raises:
        ScoreError: the runtime refuses the model.
    """

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        # One thread: a gateway has other work, and thread pools would make the hardened unit's limits fail.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # because ONNX Runtime's own exceptions share no public base class
            raise ScoreError(f"ONNX Runtime refuses the model: {error}") from error
        (self._input,) = (node.name for node in self._session.get_inputs())
        self._outputs = [node.name for node in self._session.get_outputs()]

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        """Run the model.

        Args:
            windows: float32 `(n, …)`.

        Returns:
            `(n, …)` by output name.

        Raises:
            ScoreError: the runtime refuses the input.
        """
        try:
            outputs = self._session.run(self._outputs, {self._input: windows})
        except Exception as error:  # because ONNX Runtime's own exceptions share no public base class
            raise ScoreError(f"ONNX Runtime, input of shape {windows.shape}: {error}") from error
        return dict(zip(self._outputs, outputs, strict=True))
