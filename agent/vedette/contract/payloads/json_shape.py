"""A JSON payload's shape, looked at before it is parsed: how deep it is nested and how many keys it has; and why what is no JSON is none.

Rules this module keeps: a payload that cannot be too deep or have too many keys is not gone through; going through one takes time in
proportion to its length, whatever is in it; nothing is made of its texts.
"""

import re

import numpy as np

from vedette.contract.errors import ReadingError
from vedette.contract.readings import PayloadLimits

_BYTES_A_KEY = 5
"""As few as a key takes, with its value and what parts it from the next: `"":0,`."""

# Possessive, and an end that may be missing: each byte is looked at once.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_FINITE = re.compile(rb"[:\[,\s]\s*+[+-]?(?:nan|inf)|^[+-]?(?:nan|inf)", re.IGNORECASE)
_STEPS = np.zeros(256, dtype=np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1


def may_exceed(payload: bytes, limits: PayloadLimits) -> bool:
    """Whether a payload has to be gone through: there are as many brackets or colons in it, perhaps in texts, as would be too many."""
    if payload.count(b"{") + payload.count(b"[") > limits.max_depth:
        return True
    return len(payload) > _BYTES_A_KEY * limits.max_keys and payload.count(b":") > limits.max_keys


def check_shape(payload: bytes, limits: PayloadLimits) -> None:
    """Refuse a payload that is not to be parsed.

    Raises:
        ReadingError: it is nested too deeply, or has too many keys.
    """
    if not may_exceed(payload, limits):
        return
    bare = _TEXT.sub(b"", payload)
    steps = _STEPS[np.frombuffer(bare, dtype=np.uint8)]
    if len(steps) and int(steps.cumsum(dtype=np.int64).max()) > limits.max_depth:
        raise ReadingError("depth", f"payload is nested more than {limits.max_depth} levels deep")
    if bare.count(b":") > limits.max_keys:
        raise ReadingError("keys", f"payload has more than {limits.max_keys} keys")


def why_malformed(payload: bytes, words: str) -> ReadingError:
    """The refusal of what is no JSON, with a reason of its own for what devices are known to send instead.

    Args:
        payload: Refused by the parser.
        words: What the parser said.
    """
    if payload.startswith(b"\xef\xbb\xbf"):
        return ReadingError("bom", "payload: begins with a byte order mark; send UTF-8 without one")
    if "trailing characters" in words:
        return ReadingError("trailing", f"payload: {words}")
    if _NOT_FINITE.search(_TEXT.sub(b'""', payload)):
        return ReadingError("not_finite", "payload: NaN and infinity are no JSON; leave the field out where there is no value")
    return ReadingError("malformed", f"payload: {words}")


def why_invalid(words: str) -> ReadingError:
    """The refusal of JSON that holds another type than is expected; `words` is what the parser said."""
    if "got `null`" in words:
        return ReadingError("null", f"payload: {words}; leave the field out where there is no value, or say merge: true")
    if words.startswith("Number out of range"):
        return ReadingError("not_finite", f"payload: {words}")
    return ReadingError("type", f"payload: {words}")
