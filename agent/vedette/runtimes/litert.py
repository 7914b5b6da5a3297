"""TFLite models through LiteRT (ai-edge-litert), or through its predecessor tflite-runtime where that is what there is.

Rules this module keeps: a model is run in a few sizes of batch and a batch is taken apart into these; nothing is ever resized once it has
its size.

A model either takes a batch of any size, and then gets an interpreter for each size that is needed; or it has a signature for each size,
among them 1, because loops in a model need a size that is fixed.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vedette.contract.errors import ScoreError
from vedette.contract.features import Rows

try:
    from ai_edge_litert.interpreter import Interpreter, SignatureRunner
except ImportError:
    from tflite_runtime.interpreter import Interpreter, SignatureRunner

Outputs = Mapping[str, npt.NDArray[np.float32]]

SIZES = (256, 64, 16, 4, 1)
"""Batch sizes that a model which takes any is run in.

An interpreter is given its size once and never resized again: LiteRT 2.3.0 now and then gives wrong numbers for a whole batch after an
autoencoder's interpreter was resized (4 of 136 times; 0 of 68 when it was fresh), and allocating anew takes longer than a call.
"""


class LiteRT:
    """A TFLite model with one input and named outputs.

    Args:
        model: The file's bytes.

    Raises:
        ScoreError: the runtime refuses the model, or it has no signature for a single window.
    """

    def __init__(self, model: bytes) -> None:
        self._sized = _load(model)

    def run(self, windows: Rows) -> Outputs:
        """Run the model.

        Args:
            windows: float32 `(n, steps, columns)`, n at least 1.

        Returns:
            float32 `(n, …)` by output name.

        Raises:
            ScoreError: the runtime refuses the shape.
        """
        parts: list[Outputs] = []
        start = 0
        try:
            while start < len(windows):
                size = next(size for size in self._sized.sizes if size <= len(windows) - start)
                parts.append(self._sized.run(windows[start : start + size]))
                start += size
            return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        except (ValueError, RuntimeError) as error:
            raise ScoreError(f"LiteRT, input of shape {windows.shape}: {error}") from error


class _Sized(Protocol):
    """What runs batches of some sizes.

    Attributes:
        sizes: The largest first, the last 1.
    """

    sizes: tuple[int, ...]

    def run(self, windows: Rows) -> Outputs:
        """Run as many windows as one of the sizes says."""
        ...


def _load(model: bytes) -> _Sized:
    """Find out how the model takes its batch."""
    try:
        interpreter = Interpreter(model_content=model, num_threads=1)
        shapes = {name: _input(interpreter.get_signature_runner(name))[1] for name in interpreter.get_signature_list()}
        if len(shapes) == 1 and next(iter(shapes.values()))[0] == -1:
            return _Interpreters(model)
        signatures = {shape[0]: name for name, shape in shapes.items()}
        if 1 not in signatures or min(signatures) < 1:
            raise ScoreError(
                f"LiteRT: the model takes batches of {', '.join(map(str, sorted(signatures))) or 'no size'} only, and of a single window "
                "not at all: export it again"
            )
        return _Signatures(interpreter, signatures)
    except (ValueError, RuntimeError) as error:
        raise ScoreError(f"LiteRT refuses the model: {error}") from error


class _Interpreters:
    """A model that takes a batch of any size: an interpreter for each of SIZES, made when it is first needed."""

    def __init__(self, model: bytes) -> None:
        self.sizes: tuple[int, ...] = SIZES
        self._model = model
        self._by_size = {1: _Interpreter(model, 1)}

    def run(self, windows: Rows) -> Outputs:
        size = len(windows)
        if size not in self._by_size:
            self._by_size[size] = _Interpreter(self._model, size)
        return self._by_size[size].run(windows)


class _Interpreter:
    """One interpreter, for batches of one size."""

    def __init__(self, model: bytes, size: int) -> None:
        self._interpreter = Interpreter(model_content=model, num_threads=1)
        self._input, shape, self._outputs = _tensors(self._interpreter)
        self._interpreter.resize_tensor_input(self._input, (size, *shape[1:]), strict=True)
        self._interpreter.allocate_tensors()

    def run(self, windows: Rows) -> Outputs:
        self._interpreter.set_tensor(self._input, windows)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


class _Signatures:
    """A model with a signature for each size of batch."""

    def __init__(self, interpreter: Interpreter, names: Mapping[int, str]) -> None:
        self.sizes = tuple(sorted(names, reverse=True))
        self._runners = {size: interpreter.get_signature_runner(name) for size, name in names.items()}
        self._inputs = {size: next(iter(runner.get_input_details())) for size, runner in self._runners.items()}
        self._shapes = {size: _input(runner)[1][1:] for size, runner in self._runners.items()}

    def run(self, windows: Rows) -> Outputs:
        size = len(windows)
        # A runner would resize what it is given in another shape, and at one step then silently give the wrong batch.
        if windows.shape[1:] != self._shapes[size]:
            raise ValueError(f"expected windows of shape {self._shapes[size]}")
        outputs: Outputs = self._runners[size](**{self._inputs[size]: windows})
        return outputs


def _tensors(interpreter: Interpreter) -> tuple[int, tuple[int, ...], dict[str, int]]:
    """The input's tensor and shape, and the outputs' tensors by name."""
    # A function of its own, because the runner holds on to the interpreter, which cannot be allocated until it is gone.
    (name,) = interpreter.get_signature_list()
    runner = interpreter.get_signature_runner(name)
    index, shape = _input(runner)
    return index, shape, {name: detail["index"] for name, detail in runner.get_output_details().items()}


def _input(runner: SignatureRunner) -> tuple[int, tuple[int, ...]]:
    """The one input's tensor, and its shape with -1 for a size that is not fixed."""
    (given,) = runner.get_input_details().values()
    return given["index"], tuple(given["shape_signature"].tolist())
