"""Keras to TFLite, by two routes.

Of those that were tried (from_concrete_functions, Model.export, a fixed-batch wrapper), `unrolled` alone keeps weights, built-in operators
and a batch of any size: recurrent layers become as many operators as they have steps. `loops` keeps them as loops, in a file several times
smaller; TFLite's loops need a size of batch that is fixed, so the file has a signature for each of SIZES, over the same weights.
"""

import contextlib
import io
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated
from ai_edge_litert.interpreter import Interpreter

from vedette.contract.errors import BundleError
from vedette.contract.scores import Precision
from vedette_exporter.keras_twin import INPUT, twin

SIZES = (1, 32)
"""Batches that a model with loops takes."""

_MISSING = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


def convert_unrolled(model: Any, precision: Precision = "float32") -> bytes:
    """Convert a model whose recurrent layers are unrolled first.

    Args:
        model: Functional keras.Model of one input `(n, steps, columns)`, its outputs a dict by name.
        precision: Of its weights.

    Returns:
        The TFLite file: float32 in and out, built-in operators only, the outputs' names in its signature, a batch of any size.

    Raises:
        BundleError: the model needs more than built-in operators.
    """
    converted = _converted(lambda: tf.lite.TFLiteConverter.from_keras_model(twin(model, unroll=True)), precision)
    check(converted)
    return converted


def convert_loops(model: Any, precision: Precision = "float32") -> bytes:
    """Convert a model whose recurrent layers stay loops.

    Args:
        model: As for `convert_unrolled`.
        precision: Of its weights.

    Returns:
        The TFLite file: float32 in and out, built-in operators only, a signature for each of SIZES with the outputs' names.

    Raises:
        BundleError: the model needs more than built-in operators.
    """
    copy = twin(model, unroll=False)
    # As constants: with several signatures the converter leaves variables variables, which nobody on a gateway gives a value.
    weights = [np.asarray(weight) for weight in copy.trainable_variables]
    others = [np.asarray(weight) for weight in copy.non_trainable_variables]
    function = tf.function(lambda window: copy.stateless_call(weights, others, window, training=False)[0])
    signatures = {
        f"batch_{size}": function.get_concrete_function(tf.TensorSpec((size, *model.input_shape[1:]), tf.float32, name=INPUT))
        for size in SIZES
    }
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures=signatures)
        converted = _converted(lambda: tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures)), precision)
    check(converted, SIZES)
    return converted


def _converted(converter_of: Callable[[], Any], precision: Precision) -> bytes:
    try:
        converter = converter_of()
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        _narrow(converter, precision)
        # The converter reports on standard output, which belongs to the command's result.
        with contextlib.redirect_stdout(io.StringIO()):
            converted: bytes = converter.convert()
    except Exception as error:  # because TensorFlow's ConverterError is in no public module
        what = ", ".join(sorted(set(_MISSING.findall(str(error))))) or str(error).partition("\n")[0]
        raise BundleError(f"TFLite has no built-in operators for this model: {what}") from error
    return converted


def _narrow(converter: Any, precision: Precision) -> None:
    """Have weights stored in float16, or in int8 and multiplied with activations that are rounded as they come, window by window.

    Not in int8 throughout, with activations scaled by representative windows: what lies beyond those is cut off, and that is what an
    anomaly does (ADR 0010).
    """
    if precision == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    else:
        # A scale for a whole matrix rather than for each of its rows: tflite-runtime 2.14 knows no other, and it is as exact.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # noqa: SLF001 because no public setting does it


def check(model: bytes, sizes: Sequence[int] = ()) -> None:
    """Make sure that a TFLite file runs on any gateway.

    Args:
        model: The file's bytes.
        sizes: Of the batches that it takes; none for one that takes any.

    Raises:
        BundleError: an operator is not built in, in whatever loop it is, or the batch is another.
    """
    described = schema_py_generated.Model.GetRootAs(model, 0)
    custom = [described.OperatorCodes(number).CustomCode() for number in range(described.OperatorCodesLength())]
    if foreign := sorted(name.decode() for name in custom if name):
        raise BundleError(f"the converted model needs {', '.join(foreign)}, which a gateway's runtime does not have")
    interpreter = Interpreter(model_content=model)
    runners = [interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()]
    found = sorted(int(given["shape_signature"][0]) for runner in runners for given in runner.get_input_details().values())
    if found != sorted(sizes or [-1]):
        raise BundleError(
            f"the converted model takes batches of {', '.join(map(str, found))}, not of {', '.join(map(str, sizes)) or 'any size'}: "
            "unroll its recurrent layers, or give it a signature for each size"
        )
