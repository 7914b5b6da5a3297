"""CloudEvents: an alert's attributes as an event, which travel with it as user properties on MQTT 5.

By CloudEvents 1.0.2 and its MQTT protocol binding, binary content mode: the payload is the alert as it is, and the content type its
`datacontenttype`. Rules this module keeps: what is said of an alert follows from its payload alone, so the spool need not keep it, and
whoever sends the alert again, be it the spool or a replay, sends the same event; no value holds what MQTT or CloudEvents forbid in text.
"""

import zlib

import msgspec

from vedette.topics import escape

CONTENT_TYPE = "application/json"


class _Event(msgspec.Struct, frozen=True):
    """What of an alert its event is about; time as it is written there."""

    schema: str
    id: str
    type: str
    gateway: str
    stream: str
    device: str
    time: str


_DECODER = msgspec.json.Decoder(_Event)


def attributes(payload: bytes) -> list[tuple[str, str]]:
    """An alert's attributes but `datacontenttype`; none of a payload that is no alert, such as one that another version left in the spool.

    An episode has several messages, and several updates may be of one time. So its id is the episode's, what the message is, and a
    checksum of it.
    """
    try:
        event = _DECODER.decode(payload)
    except msgspec.MsgspecError:
        return []
    found = [
        ("specversion", "1.0"),
        ("id", f"{event.id}.{event.type}.{zlib.crc32(payload):08x}"),
        ("source", f"/vedette/{event.gateway}/{event.stream}"),
        ("type", f"io.vedette.alert.{event.type}"),
        ("time", event.time),
        ("dataschema", schema_urn(event.schema)),
    ]
    if event.device:
        # A name may hold characters for which brokers close the connection.
        found.append(("subject", event.device if event.device.isprintable() else escape(event.device)))
    return found


def schema_urn(schema: str) -> str:
    """A schema's `$id`, such as `urn:vedette:alert:1` of `vedette.alert/1`."""
    return "urn:" + schema.replace(".", ":").replace("/", ":")
