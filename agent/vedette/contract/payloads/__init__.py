"""Payload formats, one module each: what makes readings of what devices send.

A format is a class with the interface of `readings.Decoder`, most easily a `readings.MessageDecoder`; `decoder_for` chooses it.
"""

from typing import Protocol

from vedette.contract.features import FeatureSpec
from vedette.contract.payloads.bare import ValueDecoder
from vedette.contract.payloads.json_objects import JsonDecoder, check_mapping
from vedette.contract.payloads.json_series import ColumnsDecoder, ReadingsDecoder
from vedette.contract.payloads.senml import SenmlDecoder
from vedette.contract.payloads.sparkplug import SparkplugDecoder
from vedette.contract.payloads.spec import PRESETS, PayloadSpec, TimeField
from vedette.contract.readings import Decoder, PayloadLimits

__all__ = ["PRESETS", "PayloadSpec", "TimeField", "Topic", "decoder_for"]

SENML_NAME = "n"
"""The device field of a SenML stream whose records name the device."""


class Topic(Protocol):
    """What a decoder may know of its stream's topic; see `vedette.topics.TopicFilter`."""

    subscription: str
    names_field: bool

    def field(self, topic: str) -> str:
        """What a topic names as the field of its value."""


def decoder_for(
    payload: PayloadSpec,
    features: FeatureSpec,
    device_field: str | None = None,
    topic: Topic | None = None,
    limits: PayloadLimits | None = None,
) -> Decoder:
    """The decoder of a stream's payloads for one model.

    Args:
        payload: The stream's mapping.
        features: The model's.
        device_field: Where the payload names the device; None where the topic does.
        topic: The stream's.
        limits: What is refused.

    Raises:
        ValueError: the mapping contradicts itself, or maps what is no feature.
    """
    check_mapping(payload, features)
    limits = limits or PayloadLimits()
    if payload.format == "senml":
        if device_field not in {None, SENML_NAME}:
            raise ValueError(f"format: senml names a device in its records' names: say device: {{field: {SENML_NAME}}}")
        return SenmlDecoder(payload, features, limits, names_device=device_field is not None)
    if payload.format != "json":
        if device_field is not None:
            raise ValueError(f"format: {payload.format} has no field that names the device: put {{device}} in the topic")
        if payload.format == "sparkplug":
            return SparkplugDecoder(payload, features, limits, hears_all=topic is not None and topic.subscription.endswith("#"))
        return ValueDecoder(payload, features, topic.field if topic and topic.names_field else None, limits)
    if payload.readings is not None:
        return ReadingsDecoder(payload, features, device_field, limits)
    if payload.columns is not None:
        return ColumnsDecoder(payload, features, device_field, limits)
    return JsonDecoder(payload, features, device_field, limits)
