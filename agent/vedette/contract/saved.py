"""Saved state: what the engine remembers, as bytes, and back.

What is saved is plain data: None, bool, int, float, text, bytes, lists, dicts with text keys, and numpy arrays. It is written as
MessagePack, an array as an extension in numpy's own .npy format. Rules this module keeps: nothing is ever unpickled; bytes that are not
what `encode` gave are a SavedError and nothing else.

FORMAT is raised whenever a part means something else by what it saves, or saves something else: a state of another format is not read, and
the engine begins anew.
"""

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from vedette.contract.errors import SavedError

FORMAT = 2

_ARRAY = 1
"""The extension's code."""


class _Document(msgspec.Struct, frozen=True):
    format: int
    saved: dict[str, Any]


def encode(saved: Mapping[str, Any]) -> bytes:
    """The bytes of plain data."""
    return _ENCODER.encode({"format": FORMAT, "saved": saved})


def decode(data: bytes) -> dict[str, Any]:
    """What `encode` was given; lists for tuples, and arrays that may be written to.

    Raises:
        SavedError: the bytes are not what `encode` gave, or of another format.
    """
    try:
        document = _DECODER.decode(data)
    except Exception as error:  # because what numpy's and msgspec's readers raise on damaged bytes is a dozen kinds, and means one thing
        raise SavedError(f"a saved state cannot be read: {error}") from error
    if document.format != FORMAT:
        raise SavedError(f"a saved state is of format {document.format}, and this version reads {FORMAT}")
    return document.saved


def fingerprint(*parts: object) -> str:
    """Tells whether what is saved goes with what would go on from it: a digest of how the parts are written out."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _array(value: object) -> msgspec.msgpack.Ext:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} is no plain data")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, value, version=(1, 0), allow_pickle=False)
    return msgspec.msgpack.Ext(_ARRAY, buffer.getbuffer())


def _extension(code: int, data: memoryview) -> np.ndarray[Any, Any]:
    if code != _ARRAY:
        raise ValueError(f"there is no extension {code}")
    buffer = io.BytesIO(data)
    array: np.ndarray[Any, Any] = np.lib.format.read_array(buffer, allow_pickle=False)
    if buffer.tell() != len(data):
        raise ValueError("an array is longer than it says")
    return array


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_array)
_DECODER = msgspec.msgpack.Decoder(_Document, ext_hook=_extension)
