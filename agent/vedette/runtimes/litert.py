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
        self._sized: dict[tuple[int, ...], _Sized] = {}
        self._output_names = _Sized(model).names

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
                parts.append(self._of(size, windows.shape[1:]).run(windows[start : start + size]))
                start += size
        except (ValueError, RuntimeError) as error:
            raise ScoreError(f"LiteRT, input of shape {windows.shape}: {error}") from error
        return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in self._output_names}

    def _of(self, size: int, shape: tuple[int, ...]) -> "_Sized":
        """The interpreter for batches of this size, made when it is first needed."""
        sized = self._sized.get((size, *shape))
        if sized is None:
            sized = _Sized(self._model)
            sized.allocate((size, *shape))
            self._sized[size, *shape] = sized
        return sized


class _Sized:
    """One interpreter, for batches of one size."""

    def __init__(self, model: bytes) -> None:
        try:
            self._interpreter = Interpreter(model_content=model, num_threads=1)
            (signature,) = self._interpreter.get_signature_list()
            runner = self._interpreter.get_signature_runner(signature)
            self._outputs = {name: detail["index"] for name, detail in runner.get_output_details().items()}
            (self._input,) = (detail["index"] for detail in runner.get_input_details().values())
        except (ValueError, RuntimeError) as error:
            raise ScoreError(f"LiteRT refuses the model: {error}") from error

    @property
    def names(self) -> list[str]:
        return list(self._outputs)

    def allocate(self, shape: tuple[int, ...]) -> None:
        self._interpreter.resize_tensor_input(self._input, shape, strict=True)
        self._interpreter.allocate_tensors()

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        self._interpreter.set_tensor(self._input, windows)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}
