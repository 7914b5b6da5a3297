"""The connection, where the network goes down between two lines."""

import paho.mqtt.client as paho
import pytest

from brokers import free_port
from vedette.config import Broker
from vedette.mqtt import Connection


def test_it_stops_where_the_connection_goes_down_before_the_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(Broker(url=f"mqtt://127.0.0.1:{free_port()}"), "c", "status", [("t", 0)], 1000, lambda _: True, lambda: None)
    # As the worker's thread sees it: still connected when it asks, and not when it publishes.
    monkeypatch.setattr(paho.Client, "is_connected", lambda _: True)
    connection.stop(timeout_s=60)
