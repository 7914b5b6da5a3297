"""Telling gateways, over MQTT, what a model's channels point to. They look for themselves before they believe it."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from vedette import topics, visits
from vedette.broker import Broker
from vedette.contract import announcement, documents
from vedette.contract.errors import ConfigError
from vedette.contract.releases import Place
from vedette_exporter.signing.repository import Head

TIMEOUT_S = 10.0


def read_broker(text: str) -> Broker:
    """Where to announce.

    Args:
        text: A broker's URL, or a YAML file with the keys of `broker` in agent.yaml: url, username, password_file, ca_file, …

    Raises:
        ConfigError: it is neither.
    """
    if "://" not in text:
        return documents.load(Path(text), Broker)
    try:
        return Broker(url=text)
    except ValueError as error:
        raise ConfigError(f"--announce: {error}") from error


def announce(broker: Broker, prefix: str, heads: Mapping[Place, Head], names: Collection[str]) -> None:
    """Retain an announcement of each of `names` below `PREFIX/models/`.

    Raises:
        BrokerError: the broker cannot be reached or refuses.
        ConfigError: a credential cannot be read.
    """
    channels: dict[str, dict[str, announcement.Head]] = defaultdict(dict)
    for place, head in heads.items():
        channels[place.name][place.channel] = announcement.Head(version=head.version, sha256=head.sha256)
    messages = {
        topics.announcement(prefix, name): announcement.encode(announcement.Announcement(name=name, channels=channels[name]))
        for name in names
    }
    visits.publish_once(broker, f"vedette-publish-{os.getpid()}", messages, TIMEOUT_S)
