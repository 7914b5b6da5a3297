"""Payload formats, one module each: what makes readings of what devices send.

A format is a class with the interface of `readings.Decoder`, most easily a `readings.MessageDecoder`; `decoder_for` chooses it.
"""

from vedette.contract.features import FeatureSpec
from vedette.contract.payloads.json_objects import JsonDecoder, check_mapping
from vedette.contract.payloads.spec import PRESETS, PayloadSpec, TimeField
from vedette.contract.readings import Decoder, Limits

__all__ = ["PRESETS", "PayloadSpec", "TimeField", "decoder_for"]


def decoder_for(payload: PayloadSpec, features: FeatureSpec, device_field: str | None = None, limits: Limits | None = None) -> Decoder:
    """The decoder of a stream's payloads for one model.

    Args:
        payload: The stream's mapping.
        features: The model's.
        device_field: Where the payload names the device; None where the topic does.
        limits: What is refused.

    Raises:
        ValueError: the mapping contradicts itself, or maps what is no feature.
    """
    check_mapping(payload, features)
    return JsonDecoder(payload, features, device_field, limits or Limits())
