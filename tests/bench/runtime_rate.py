"""What a runtime alone reaches: windows a second of a model file, one thread, with nothing around it.

Usage: runtime_rate.py MODEL SECONDS BATCH… prints a JSON object of windows a second by batch. Runs with the gateway's Python; needs
numpy and the model's runtime alone.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def litert(model: bytes, batch: int) -> Callable[[], object]:
    """What runs a TFLite model once, on noise."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    (given,) = interpreter.get_input_details()
    windows = _noise((batch, *given["shape"][1:]))
    interpreter.resize_tensor_input(given["index"], windows.shape, strict=True)
    interpreter.allocate_tensors()
    outputs = [output["index"] for output in interpreter.get_output_details()]

    def run() -> object:
        interpreter.set_tensor(given["index"], windows)
        interpreter.invoke()
        return [interpreter.get_tensor(output) for output in outputs]

    return run


def onnx(model: bytes, batch: int) -> Callable[[], object]:
    """What runs an ONNX model once, on noise."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    windows = _noise((batch, *given.shape[1:]))
    return lambda: session.run(None, {given.name: windows})


def rate(run: Callable[[], object], batch: int, seconds: float) -> float:
    """Windows a second."""
    run()
    runs, began = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began) < seconds:
        run()
        runs += 1
    return runs * batch / took_s


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def main(path: Path, seconds: float, batches: list[int]) -> None:
    """Measure and print."""
    model = path.read_bytes()
    load = litert if path.suffix == ".tflite" else onnx
    print(json.dumps({batch: rate(load(model, batch), batch, seconds) for batch in batches}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), [int(batch) for batch in sys.argv[3:]])
