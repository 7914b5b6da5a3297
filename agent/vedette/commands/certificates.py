"""Until when certificates hold: the one thing of them that Python's own library does not tell without a connection.

Rules this module keeps: whatever a file holds, it is a date or a ValueError.
"""

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION = 0xA0
_VALIDITY = 3
"""Its place in a certificate, after serial number, algorithm and issuer (RFC 5280, 4.1)."""


def expiry(path: Path) -> float:
    """When the last of a file's certificates expires, epoch seconds: until then something in it holds.

    Raises:
        ValueError: it has none, or none that can be read.
        OSError: the file cannot be read.
    """
    found = _PEM.findall(path.read_text(encoding="latin-1"))
    if not found:
        raise ValueError("no certificate is in it; it should have -----BEGIN CERTIFICATE-----")
    try:
        return max(_not_after(ssl.PEM_cert_to_DER_cert(pem)) for pem in found)
    except (ValueError, IndexError) as error:
        raise ValueError("a certificate in it is damaged") from error


def _not_after(certificate: bytes) -> float:
    (_, whole), *_ = _values(certificate)
    (_, signed), *_ = _values(whole)
    parts = [value for tag, value in _values(signed) if tag != _VERSION]
    _, (tag, until) = _values(parts[_VALIDITY])
    written = until.decode("ascii")
    if tag == 0x17:  # UTCTime: two digits for the year, and those below 50 are of this century
        written = ("20" if int(written[:2]) < 50 else "19") + written
    return datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _values(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and values of DER, one after the other."""
    at = 0
    while at < len(encoded):
        tag, size, at = encoded[at], encoded[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(encoded[at : at + count]), at + count
        if at + size > len(encoded):
            raise ValueError("cut off")
        yield tag, encoded[at : at + size]
        at += size
