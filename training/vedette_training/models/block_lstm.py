"""The LSTM layer as one TensorFlow operation for all steps of a window, where Keras loops over them: training in a fraction of the time.

Source: TensorFlow's BlockLSTM kernel, after Zaremba, Sutskever and Vinyals, "Recurrent Neural Network Regularization" (2014).
"""

from typing import Any

import keras
import tensorflow as tf

_KERNEL = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "return_state": False,
    "stateful": False,
}
"""Settings of the LSTM layers that the kernel computes; others stay Keras' own."""


@keras.saving.register_keras_serializable("vedette_training")
class BlockLSTM(keras.layers.LSTM):  # type: ignore[misc] # because keras is untyped
    """Keras' LSTM layer: the same weights and, but for rounding, the same outputs and gradients."""

    def call(self, sequences: Any, initial_state: Any = None, **_: Any) -> Any:
        """States `(n, units)`, or `(n, steps, units)` where the layer returns sequences, for float32 `(n, steps, columns)`."""
        by_step = tf.transpose(sequences[:, ::-1] if self.go_backwards else sequences, [1, 0, 2])
        steps, count = tf.unstack(tf.shape(by_step)[:2])
        state, cell = initial_state or (tf.zeros([count, self.units]),) * 2
        no_peephole = tf.zeros([self.units])
        weights = tf.concat([self.cell.kernel, self.cell.recurrent_kernel], axis=0)
        states = tf.raw_ops.BlockLSTM(
            seq_len_max=tf.cast(steps, tf.int64),
            x=by_step,
            cs_prev=cell,
            h_prev=state,
            w=_in_kernel_order(weights),
            wci=no_peephole,
            wcf=no_peephole,
            wco=no_peephole,
            b=_in_kernel_order(self.cell.bias),
            forget_bias=0.0,  # because Keras' bias holds it
            cell_clip=-1.0,
            use_peephole=False,
        ).h
        return tf.transpose(states, [1, 0, 2]) if self.return_sequences else states[-1]


def quickened(model: Any) -> Any:
    """A copy of a functional keras.Model and its weights, its LSTM layers as BlockLSTMs; `set_weights` takes what it learns back."""
    twin = keras.models.clone_model(model, clone_function=_clone)
    twin.set_weights(model.get_weights())
    return twin


def _clone(layer: Any) -> Any:
    config = layer.get_config()
    if isinstance(layer, keras.layers.Bidirectional):
        both = {"backward_layer": _clone(layer.backward_layer), "merge_mode": layer.merge_mode, "name": layer.name}
        return keras.layers.Bidirectional(_clone(layer.forward_layer), **both)
    if isinstance(layer, keras.layers.LSTM) and _KERNEL.items() <= config.items():
        return BlockLSTM.from_config(config)
    return type(layer).from_config(config)


def _in_kernel_order(weights: Any) -> Any:
    """Keras' gates are input, forget, cell, output; the kernel's input, cell, forget, output."""
    into, forget, cell, out = tf.split(weights, 4, axis=-1)
    return tf.concat([into, cell, forget, out], axis=-1)
