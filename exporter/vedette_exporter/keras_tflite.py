"""Keras to TFLite.

Of the routes that were tried (from_concrete_functions, Model.export, a fixed-batch wrapper), this one alone keeps weights, built-in
operators and a batch of any size; it needs recurrent layers to be unrolled.
"""

import contextlib
import io
import re
from typing import Any

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from vedette.contract.errors import BundleError
from vedette.contract.scores import Precision
from vedette_exporter.keras_twin import twin

# FULLY_CONNECTED and the like; FlexMatrixInverse and whatever else a converter lets through has lower case in it.
_BUILT_IN = re.compile(r"[A-Z0-9_]+")
_MISSING = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


def convert(model: Any, precision: Precision = "float32") -> bytes:
    """Convert a model.

    Args:
        model: Functional keras.Model of one input `(n, steps, columns)`, its outputs a dict by name.
        precision: Of its weights.

    Returns:
        The TFLite file: float32 in and out, built-in operators only, the outputs' names in its signature.

    Raises:
        BundleError: the model needs more than built-in operators, or a fixed batch.
    """
    try:
        converter = tf.lite.TFLiteConverter.from_keras_model(twin(model, unroll=True))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        _narrow(converter, precision)
        # The converter reports on standard output, which belongs to the command's result.
        with contextlib.redirect_stdout(io.StringIO()):
            converted: bytes = converter.convert()
    except Exception as error:  # because TensorFlow's ConverterError is in no public module
        what = ", ".join(sorted(set(_MISSING.findall(str(error))))) or str(error).partition("\n")[0]
        raise BundleError(f"TFLite has no built-in operators for this model: {what}") from error
    check(converted)
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


def check(model: bytes) -> None:
    """Make sure that a TFLite file runs on any gateway.

    Raises:
        BundleError: an operator is not built in, or the batch is fixed.
    """
    interpreter = Interpreter(model_content=model)
    # LiteRT has no public list of operators; a wrong guess here would be caught by the parity gate's runtime, which has
    # no others.
    names = {operator["op_name"] for operator in interpreter._get_ops_details()}  # noqa: SLF001 because there is no public one
    if foreign := sorted(name for name in names if not _BUILT_IN.fullmatch(name)):
        raise BundleError(f"the converted model needs {', '.join(foreign)}, which a gateway's runtime does not have")
    if interpreter.get_input_details()[0]["shape_signature"][0] != -1:
        raise BundleError("the converted model takes batches of one size only: unroll its recurrent layers")
