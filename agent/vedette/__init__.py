"""Vedette: anomaly detection that runs on the IoT gateway itself."""

__version__ = "0.1.0"
