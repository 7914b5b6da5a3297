"""The connection, where the network goes down between two lines or acknowledgements have to wait."""

import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from brokers import Mosquitto, free_port
from vedette.broker import Broker
from vedette.mqtt import Connection
from vedette.packets import Burst


def test_it_stops_where_the_connection_goes_down_before_the_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(Broker(url=f"mqtt://127.0.0.1:{free_port()}"), "c", "status", [("t", 0)], 1000, lambda _: True, lambda: None)
    # As the worker's thread sees it: still connected when it asks, and not when it publishes.
    monkeypatch.setattr(paho.Client, "is_connected", lambda _: True)
    connection.stop(timeout_s=60)


def test_what_may_not_be_acknowledged_yet_is_when_it_may_and_the_broker_sends_on(broker: Mosquitto) -> None:
    taken: list[bytes] = []
    allowed = threading.Event()

    def take(burst: Burst) -> bool:
        taken.extend(message.payload for message in burst.messages)
        return allowed.is_set()

    ready = threading.Event()
    connection = Connection(Broker(url=broker.url, protocol="3.1.1"), "held", None, [("t", 1)], 1000, take, ready.set)
    connection.start()
    sender = paho.Client(CallbackAPIVersion.VERSION2)
    sender.connect("127.0.0.1", broker.port)
    sender.loop_start()
    try:
        assert ready.wait(10)
        sent = [str(number).encode() for number in range(60)]
        for payload in sent:
            sender.publish("t", payload, qos=1).wait_for_publish(5)
        time.sleep(1.0)
        assert taken == sent[:20], "what mosquitto sends unacknowledged"
        allowed.set()
        deadline = time.monotonic() + 10
        while len(taken) < 60 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert taken == sent
    finally:
        sender.disconnect()
        sender.loop_stop()
        connection.stop()
