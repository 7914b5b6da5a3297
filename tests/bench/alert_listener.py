"""Writes down what arrives when.

Usage: alert_listener.py PORT FILTER… Says `subscribed` on standard output, and when it is told to stop (SIGTERM) prints everything as JSON:
topic, payload and time of arrival (epoch seconds). Runs with the gateway's Python and needs paho alone.
"""

import json
import signal
import sys
import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def main(port: int, filters: list[str]) -> None:
    """Subscribe and listen until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    heard: list[tuple[str, bytes, float]] = []

    def on_message(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        heard.append((message.topic, bytes(message.payload), time.time()))

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener", protocol=paho.MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe([(each, 1) for each in filters])
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_message = on_message
    client.connect("127.0.0.1", port, keepalive=30)
    client.loop_start()
    signal.sigwait({signal.SIGTERM})
    client.disconnect()
    client.loop_stop()
    json.dump([(topic, payload.decode(), arrived) for topic, payload, arrived in heard], sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
