"""Topics: which stream and device a message belongs to, and where the agent's own messages go.

Rules this module keeps: a device's name is the only thing a device sent that becomes part of a topic, and it is percent-encoded
outside `[A-Za-z0-9._-]`.
"""

import re
from urllib.parse import quote

_DEVICE = re.compile(r"\{device(:#)?\}")
_FIELD = "{field}"


class TopicFilter:
    """A stream's topic, such as `plant/+/fridge/{device}/telemetry`.

    `{device}` stands for one level, `{device:#}` for the rest of the topic; `{field}` for one level that names what a bare value is of;
    `+` and `#` as in MQTT.

    Args:
        topic: As configured.
        others: Regular expression of what is not the stream's although a wildcard at the filter's end lets it through; of a topic, it sees
            what follows the fixed levels at its beginning.

    Raises:
        ValueError: it breaks MQTT's rules or names the device twice.

    Attributes:
        subscription: The MQTT filter.
        names_device: Whether the topic holds the device's name.
        names_field: Whether the topic holds the name of a field.
    """

    def __init__(self, topic: str, others: str | None = None) -> None:
        if len(_DEVICE.findall(topic)) > 1 or topic.count(_FIELD) > 1:
            raise ValueError("{device} and {field} may stand in it once")
        pattern, subscription = [], []
        levels = topic.split("/")
        for position, level in enumerate(levels):
            last = position == len(levels) - 1
            if level in {"#", "{device:#}"}:
                if not last:
                    raise ValueError(f'"{level}" must be the last level')
                pattern.append(".*" if level == "#" else "(?P<device>.+)")
                subscription.append("#")
            elif level in {"+", "{device}", _FIELD}:
                pattern.append("[^/]*" if level == "+" else f"(?P<{level[1:-1]}>[^/]+)")
                subscription.append("+")
            elif any(c in level for c in "+#{}\0"):
                raise ValueError(f'level "{level}": +, #, {{device}} and {{field}} must be a whole level')
            else:
                pattern.append(re.escape(level))
                subscription.append(level)
        if not topic or topic.startswith("$") or len(topic.encode()) > 1024:
            raise ValueError("expected 1 to 1024 bytes that do not start with $")
        self.topic = topic
        self.subscription = "/".join(subscription)
        self.names_device = bool(_DEVICE.search(topic))
        self.names_field = _FIELD in levels
        self._fixed = re.match(r"(?:[^/+#]*/)*", self.subscription).end()  # type: ignore[union-attr] # because it matches nothing at least
        self._others = re.compile(others, re.DOTALL) if others and self.subscription.endswith(("+", "#")) else None
        expression = "/".join(pattern)
        # In MQTT, a/# matches a too.
        self._pattern = re.compile(expression.removesuffix("/.*") + "(?:/.*)?" if expression.endswith("/.*") else expression, re.DOTALL)

    def match(self, topic: str) -> str | None:
        """The device's name in `topic`, empty where the filter names none; None where the topic is not the stream's."""
        match = self._pattern.fullmatch(topic)
        # A wildcard at a filter's beginning is none for the broker's own topics.
        if not match or topic.startswith("$") or (self._others and self._others.fullmatch(topic, self._fixed)):
            return None
        return match["device"] if self.names_device else ""

    def field(self, topic: str) -> str:
        """The field's name in a topic of the stream, empty where the filter names none."""
        match = self._pattern.fullmatch(topic) if self.names_field else None
        return match["field"] if match else ""

    def fill(self, device: str) -> str:
        """A topic of this stream for a device: how recorded tables and simulated fleets are put on the stream."""
        return _DEVICE.sub(lambda _: device, self.topic).replace("+", "any").replace(_FIELD, "any").replace("#", "any")


class AgentTopics:
    """The agent's own topics below `PREFIX/GATEWAY`."""

    def __init__(self, prefix: str, gateway: str) -> None:
        self.root = f"{prefix}/{gateway}"
        self.status = f"{self.root}/status"
        self.stats = f"{self.root}/stats"

    def model(self, name: str) -> str:
        """Where a model's version, and how a trial of another does, is retained."""
        return f"{self.root}/models/{name}"

    def alert(self, stream: str, device: str) -> str:
        """Where alerts about a device go; those about many devices of a stream, whose device is empty, one level up."""
        return f"{self.root}/alerts/{stream}" + (f"/{escape(device)}" if device else "")

    def state(self, stream: str, device: str) -> str:
        """Where a device's present score is retained; what is so of the stream as a whole, whose device is empty, one level up."""
        return f"{self.root}/state/{stream}" + (f"/{escape(device)}" if device else "")


def announcement(prefix: str, model: str) -> str:
    """Where publishers retain what a model's channels point to."""
    return f"{prefix}/models/{model}"


def escape(device: str) -> str:
    """A device's name as one topic level or file name: percent-encoded outside `[A-Za-z0-9._-]`."""
    # quote leaves ~ alone, and a name of dots alone would be a folder.
    quoted = quote(device, safe="").replace("~", "%7E")
    return quoted.replace(".", "%2E") if set(quoted) == {"."} else quoted
