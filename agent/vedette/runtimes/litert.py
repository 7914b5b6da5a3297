"""TFLite models through LiteRT (ai-edge-litert), or through its predecessor tflite-runtime where that is what there is."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vedette.contract.errors import ScoreError
from vedette.contract.features import Rows

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter


class LiteRT:
    """A TFLite model with one input, of any batch size, and named outputs in its default signature.

    Args:
        model: The file's bytes.

    Raises:
        ScoreError: the runtime refuses the model.
    """

    def __init__(self, model: bytes) -> None:
        try:
            self._interpreter = Interpreter(model_content=model, num_threads=1)
            (signature,) = self._interpreter.get_signature_list()
            runner = self._interpreter.get_signature_runner(signature)
            self._outputs = {name: detail["index"] for name, detail in runner.get_output_details().items()}
            (self._input,) = (detail["index"] for detail in runner.get_input_details().values())
        except (ValueError, RuntimeError) as error:
            raise ScoreError(f"LiteRT refuses the model: {error}") from error
        self._shape: tuple[int, ...] = ()

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        """Run the model.

        Args:
            windows: float32 `(n, steps, columns)`.

        Returns:
            float32 `(n, …)` by output name.

        Raises:
            ScoreError: the runtime refuses the shape.
        """
        try:
            if windows.shape != self._shape:
                self._interpreter.resize_tensor_input(self._input, windows.shape, strict=True)
                self._interpreter.allocate_tensors()
                self._shape = windows.shape
            self._interpreter.set_tensor(self._input, windows)
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}
        except (ValueError, RuntimeError) as error:
            raise ScoreError(f"LiteRT, input of shape {windows.shape}: {error}") from error
