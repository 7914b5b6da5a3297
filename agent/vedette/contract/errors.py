"""Every error that Vedette raises on purpose: one family, one class per cause.

A message says what was wrong, where, and what to do. The command line prints it as it stands and exits 1.
"""


class VedetteError(Exception):
    """A fault in what was given: a file, a payload, a bundle, a broker."""


class ConfigError(VedetteError):
    """A configuration or recipe cannot be used. The message starts with the file and the key's path."""


class ReadingError(VedetteError):
    """A payload holds no reading. The reading is counted under `reason` and dropped.

    Attributes:
        reason: The counter's name: a word from a short fixed list, never text that a device sent.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class HistoryError(VedetteError):
    """A file of recorded telemetry cannot be read. The message names file, row and column."""


class BundleError(VedetteError):
    """A bundle must not be used."""


class FormatError(BundleError):
    """The file is not a bundle, or one of a format that this version does not read."""


class DigestError(BundleError):
    """The bytes are not those that were written."""


class SelfTestError(BundleError):
    """The models do not give, on this machine, the scores that they gave where they were made."""


class ScoreError(VedetteError):
    """A model runtime could not score a batch."""


class SavedError(VedetteError):
    """A saved state of the engine cannot be read. The engine begins anew."""


class BrokerError(VedetteError):
    """The broker cannot be used as configured."""


class DiskError(VedetteError):
    """The disk is full, read-only or failing: what should have been kept on it was not. The message says which and where."""


class UpdateError(VedetteError):
    """An update cannot be had or must not be trusted. What is live stays live."""


class SigningError(VedetteError):
    """Keys or a signed repository cannot be used as they are."""
