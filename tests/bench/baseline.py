"""The baseline: scoring on a gateway as a competent user writes it in an afternoon, in one file, without Vedette.

paho's thread calls back for each message: JSON, a window for each device, the interpreter, and an alert where the score is over the
threshold. What such a program does well it does here: the model takes its fast batch-1 form, its tensors are looked up once, and nothing
is copied twice.

Usage: baseline.py PORT FILTER MODEL STEPS THRESHOLD. Says `subscribed`, and when it is told to stop (SIGTERM) how many messages it
received and how many windows it scored, as JSON.
"""

import json
import signal
import sys
from collections import defaultdict, deque
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from ai_edge_litert.interpreter import Interpreter
from paho.mqtt.enums import CallbackAPIVersion

MEANS, SCALES = {"temperature": 4.0, "humidity": 55.0}, {"temperature": 1.0, "humidity": 5.0}


def main(port: int, topic_filter: str, model: str, steps: int, threshold: float) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    window_index = interpreter.get_input_details()[0]["index"]
    # Of several outputs the score is the one that is a single number.
    score_index = next(output["index"] for output in interpreter.get_output_details() if tuple(output["shape"]) == (1, 1))
    windows: dict[str, deque[list[float]]] = defaultdict(lambda: deque(maxlen=steps))
    counts = {"received": 0, "scored": 0}

    def on_message(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        counts["received"] += 1
        reading = json.loads(message.payload)
        device = message.topic.split("/")[2]
        window = windows[device]
        window.append([(reading[name] - MEANS[name]) / SCALES[name] for name in MEANS])
        if len(window) < steps:
            return
        interpreter.set_tensor(window_index, np.array([window], dtype=np.float32))
        interpreter.invoke()
        score = float(interpreter.get_tensor(score_index)[0, 0])
        counts["scored"] += 1
        if score > threshold:
            client.publish(f"alerts/{device}", json.dumps({"device": device, "time": reading["ts"], "score": score}), qos=1)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="baseline", protocol=mqtt.MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe(topic_filter, 1)
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_message = on_message
    client.connect("127.0.0.1", port, keepalive=30)
    client.loop_start()
    signal.sigwait({signal.SIGTERM})
    client.disconnect()
    client.loop_stop()
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
