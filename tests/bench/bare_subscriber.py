"""The yardstick: a paho client as its documentation has it, `loop_start` and a callback that does nothing but count.

Usage: bare_subscriber.py PORT FILTER QOS. Says `subscribed` on standard output, and how many messages it received when it is told
to stop (SIGTERM). Runs with the gateway's Python and needs paho alone.
"""

import itertools
import signal
import sys
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def main(port: int, topic_filter: str, qos: int) -> None:
    """Subscribe and count until SIGTERM."""
    # Before paho's thread starts, so that the signal is this thread's alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    received = itertools.count()

    def on_message(_client: Any, _data: Any, _message: paho.MQTTMessage) -> None:
        next(received)

    # The agent's default protocol.
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bare-subscriber", protocol=paho.MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe(topic_filter, qos)
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_message = on_message
    client.connect("127.0.0.1", port, keepalive=30)
    client.loop_start()
    signal.sigwait({signal.SIGTERM})
    client.disconnect()
    client.loop_stop()
    print(next(received), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
