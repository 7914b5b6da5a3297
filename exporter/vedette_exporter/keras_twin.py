"""A Keras model once more, with names of its own, for a converter.

Models are trained with their recurrent layers as they are: that is faster, and a run does not depend on how it is exported.
"""

import itertools
from typing import Any

import keras

INPUT = "window"


def twin(model: Any, *, unroll: bool) -> Any:
    """The same model with every layer named by its place, and its recurrent layers unrolled or not.

    Keras numbers layers as they are made: equal models would differ by what was made before them.
    """
    places = itertools.count()

    def clone(operation: Any) -> Any:
        return type(operation).from_config(_config(operation.get_config(), f"layer_{next(places)}", unroll=unroll))

    inputs = keras.Input(model.input_shape[1:], name=INPUT)
    copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone)
    copy.set_weights(model.get_weights())
    return keras.Model(inputs, copy.output, name="vedette")


def _config(config: dict[str, Any], name: str, *, unroll: bool) -> dict[str, Any]:
    """A layer's settings, and those of the layers in it (Bidirectional's, TimeDistributed's)."""
    changed = {**config, "name": name}
    for inner in ("layer", "backward_layer"):
        if inner in config:
            changed[inner] = {**config[inner], "config": _config(config[inner]["config"], name, unroll=unroll)}
    if "unroll" in config:
        changed["unroll"] = unroll
    return changed
