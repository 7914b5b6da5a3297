"""TFLite models through LiteRT (ai-edge-litert), or through its predecessor tflite-runtime where that is what there is.

Rules this module keeps: a model is run in a few sizes of batch and a batch is taken apart into these; nothing is ever resized once it has
its size.

A model either takes a batch of any size, and then gets an interpreter for each size that is needed; or it has a signature for each size,
among them 1, because loops in a model need a size that is fixed.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vedette.contract.errors import ScoreError
from vedette.contract.features import Rows

try:
    from ai_edge_litert.interpreter import Interpreter, SignatureRunner

    SIZES: tuple[int, ...] = (256, 64, 16, 4, 1)
except ImportError:
    from tflite_runtime.interpreter import Interpreter, SignatureRunner

    # It rounds a window by itself otherwise than one among others, and a score must not depend on its batch.
    SIZES = (1,)

"""Batch sizes that a model which takes any is run in.

An interpreter is given its size once and never resized again: LiteRT 2.3.0 now and then gives wrong numbers for a whole batch after an
autoencoder's interpreter was resized (4 of 136 times; 0 of 68 when it was fresh), and allocating anew takes longer than a call.
"""

Outputs = Mapping[str, npt.NDArray[np.float32]]


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


class _Tensors(NamedTuple):
    """Where a signature's one input and its outputs are; -1 in the shape for a size that is not fixed."""

    name: str
    input: int
    shape: tuple[int, ...]
    outputs: Mapping[str, int]


def _load(model: bytes) -> _Sized:
    """Find out how the model takes its batch."""
    try:
        interpreter = Interpreter(model_content=model, num_threads=1)
        found = {name: _tensors(interpreter.get_signature_runner(name)) for name in interpreter.get_signature_list()}
        by_batch = {tensors.shape[0]: name for name, tensors in found.items()}
        if list(by_batch) == [-1] and len(found) == 1:
            return _Interpreters(model, next(iter(found.values())))
        if min(by_batch, default=0) != 1:
            sizes = ", ".join(map(str, sorted(by_batch))) or "no size"
            raise ScoreError(f"LiteRT: the model takes batches of {sizes} only, and of a single window not at all: export it again")
        return _Signatures({size: interpreter.get_signature_runner(name) for size, name in by_batch.items()})
    except (ValueError, RuntimeError) as error:
        raise ScoreError(f"LiteRT refuses the model: {error}") from error


def _tensors(runner: SignatureRunner) -> _Tensors:
    ((name, given),) = runner.get_input_details().items()
    outputs = {output: detail["index"] for output, detail in runner.get_output_details().items()}
    return _Tensors(name, given["index"], tuple(given["shape_signature"].tolist()), outputs)


class _Interpreters:
    """A model that takes a batch of any size: an interpreter for each of SIZES, made when it is first needed."""

    def __init__(self, model: bytes, tensors: _Tensors) -> None:
        self.sizes = SIZES
        self._model, self._tensors = model, tensors
        self._by_size = {1: self._make(1)}

    def run(self, windows: Rows) -> Outputs:
        size = len(windows)
        if size not in self._by_size:
            self._by_size[size] = self._make(size)
        interpreter = self._by_size[size]
        interpreter.set_tensor(self._tensors.input, windows)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in self._tensors.outputs.items()}

    def _make(self, size: int) -> Interpreter:
        # Not the one whose signature was read: a runner holds on to its interpreter, which then cannot be allocated.
        interpreter = Interpreter(model_content=self._model, num_threads=1)
        interpreter.resize_tensor_input(self._tensors.input, (size, *self._tensors.shape[1:]), strict=True)
        interpreter.allocate_tensors()
        return interpreter


class _Signatures:
    """A model with a signature for each size of batch."""

    def __init__(self, runners: Mapping[int, SignatureRunner]) -> None:
        self.sizes = tuple(sorted((size for size in runners if size <= SIZES[0]), reverse=True))
        self._runners = runners
        self._tensors = {size: _tensors(runner) for size, runner in runners.items()}

    def run(self, windows: Rows) -> Outputs:
        tensors = self._tensors[len(windows)]
        # A runner would resize to what it is given, and at one step then silently give a wrong batch.
        if windows.shape != tensors.shape:
            raise ValueError(f"expected windows of shape {tensors.shape[1:]}")
        outputs: Outputs = self._runners[len(windows)](**{tensors.name: windows})
        return outputs
