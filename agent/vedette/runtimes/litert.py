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


SIZES = (256, 64, 16, 4, 1)
"""Batch sizes that a model is run in; a batch is taken apart into these.

An interpreter is given its size once and never resized again: LiteRT 2.3.0 now and then gives wrong numbers for a whole batch after an
autoencoder's interpreter was resized (4 of 136 times; 0 of 68 when it was fresh), and allocating anew takes longer than a call.
"""


class LiteRT:
    """A TFLite model with one input, of any batch size, and named outputs in its default signature.

    Args:
        model: The file's bytes.

    Raises:
        ScoreError: the runtime refuses the model.
    """

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._sized = {1: _Sized(model, 1)}

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        """Run the model.

        Args:
            windows: float32 `(n, steps, columns)`, n at least 1.

        Returns:
            float32 `(n, …)` by output name.

        Raises:
            ScoreError: the runtime refuses the shape.
        """
        parts: list[Mapping[str, npt.NDArray[np.float32]]] = []
        start = 0
        try:
            while start < len(windows):
                size = next(size for size in SIZES if size <= len(windows) - start)
                parts.append(self._of(size).run(windows[start : start + size]))
                start += size
        except (ValueError, RuntimeError) as error:
            raise ScoreError(f"LiteRT, input of shape {windows.shape}: {error}") from error
        return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _of(self, size: int) -> "_Sized":
        """The interpreter for batches of this size, made when it is first needed."""
        if size not in self._sized:
            self._sized[size] = _Sized(self._model, size)
        return self._sized[size]


class _Sized:
    """One interpreter, for batches of one size."""

    def __init__(self, model: bytes, size: int) -> None:
        try:
            self._interpreter = Interpreter(model_content=model, num_threads=1)
            self._input, shape, self._outputs = _signature(self._interpreter)
            self._interpreter.resize_tensor_input(self._input, (size, *shape[1:]), strict=True)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ScoreError(f"LiteRT refuses the model: {error}") from error

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        self._interpreter.set_tensor(self._input, windows)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


def _signature(interpreter: Interpreter) -> tuple[int, tuple[int, ...], dict[str, int]]:
    """The input's tensor and shape, and the outputs' tensors by name."""
    # A function of its own, because the runner holds on to the interpreter, which cannot be allocated until it is gone.
    (name,) = interpreter.get_signature_list()
    runner = interpreter.get_signature_runner(name)
    (given,) = runner.get_input_details().values()
    return given["index"], tuple(given["shape"].tolist()), {name: detail["index"] for name, detail in runner.get_output_details().items()}
