"""What hostile and broken devices send, and the reason for which each is refused: by a stream that takes `ts`, `id`, `t` and `door`."""

import json
import math
from typing import Any

NOW = 1_790_000_000.0
GOOD = b'{"ts": 1790000000, "id": "d", "t": 4.2, "door": "shut"}'


def of(**changes: Any) -> bytes:
    return json.dumps({**json.loads(GOOD), **changes}).encode()


CASES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "malformed"),
    "NaN": (of(t=math.nan), "not_finite"),
    "NaN where nobody looks": (of(other=[math.nan]), "not_finite"),
    "infinity": (of(t=math.inf), "not_finite"),
    "minus infinity": (of(t=-math.inf), "not_finite"),
    "nan, as C prints it": (GOOD.replace(b"4.2", b"nan"), "not_finite"),
    "-inf, as C prints it": (GOOD.replace(b"4.2", b"-inf"), "not_finite"),
    "a number beyond float64": (GOOD.replace(b"4.2", b"1e999"), "not_finite"),
    "a number of 4,000 digits": (GOOD.replace(b"4.2", b"9" * 4000), "not_finite"),
    "true for a number": (of(t=True), "type"),
    "a text for a number": (of(t="4.2"), "type"),
    "a text that says NaN": (of(t="NaN"), "type"),
    "a list for a number": (of(t=[4.2]), "type"),
    "an object for a category": (of(door={"a": 1}), "type"),
    "null for a number": (of(t=None), "null"),
    "null for it all": (b"null", "null"),
    "a bare number": (b"4.2", "type"),
    "a list": (b"[" + GOOD + b"]", "type"),
    "bad UTF-8 in a value": (GOOD.replace(b"shut", b"\xff\xfe"), "encoding"),
    "UTF-16": (GOOD.decode().encode("utf-16-be"), "malformed"),
    "half of a surrogate pair": (GOOD.replace(b"shut", b"\\ud800"), "malformed"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, "bom"),
    "trailing bytes": (GOOD + b"x", "trailing"),
    "two objects": (GOOD + GOOD, "trailing"),
    "cut short": (GOOD[:-1], "malformed"),
    "single quotes": (GOOD.replace(b'"', b"'"), "malformed"),
    "a comma too many": (GOOD[:-1] + b",}", "malformed"),
    "a control character in a text": (GOOD.replace(b"shut", b"sh\x01ut"), "malformed"),
    "a zero byte": (b"\0", "malformed"),
    "nested too deeply": (GOOD[:-1] + b', "x": ' + b"[" * 8 + b"]" * 8 + b"}", "depth"),
    "nested without an end": (b'{"x":' + b"[" * 4000, "depth"),
    "objects nested too deeply": (b'{"x":' * 9 + b"1" + b"}" * 9, "depth"),
    "too many keys": (b"{" + b",".join(b'"%d":0' % n for n in range(400)) + b"}", "keys"),
    "too many keys of one name": (b"{" + b",".join([b'"a":0'] * 600) + b"}", "keys"),
    "too long": (GOOD[:-1] + b" " * 4096 + b"}", "too_long"),
    "no time": (b'{"id": "d", "t": 1}', "time"),
    "a time before 1970": (of(ts=-1), "time"),
    "more than 10 min in the future": (of(ts=NOW + 601), "future"),
    "a time in milliseconds": (of(ts=NOW * 1000), "future"),
    "a time beyond every calendar": (of(ts=1e300), "future"),
    "an empty name": (of(id=""), "device"),
    "no name": (b'{"ts": 1790000000, "t": 1}', "device"),
    "a name of 129 bytes": (of(id="ü" * 64 + "x"), "device"),
    "a line feed in a name": (of(id="d\n"), "device"),
    "an escape sequence in a name": (of(id="\x1b[2J"), "device"),
    "a zero in a name": (of(id="d\0"), "device"),
    "a direction mark in a name": (of(id="\u202ed"), "device"),
    "a name of 400 digits": (GOOD.replace(b'"d"', b"1" * 400), "device"),
    "nothing that the model knows": (b'{"ts": 1790000000, "id": "d", "x": 1}', "empty"),
}
