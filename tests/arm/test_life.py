"""The agent's whole life on one processor: telemetry in, an alert out, killed in the middle, and on. `make test-arm` runs it on ARM."""

import signal
from pathlib import Path

from agents import Agent, Watcher, vedette, write_config
from brokers import Mosquitto
from vedette.demo.command import BUNDLE

STEPS = 60
"""Of the demo's windows."""

START = 1_790_000_000
TOPIC = "plant/hall/fridge/f-1/telemetry"


def readings(count: int, *, first: int, is_open: bool) -> list[dict[str, object]]:
    """A fridge's, every ten seconds, with its door closed or left open."""
    told = {"door": "open", "temperature": 12.0, "power": 200.0} if is_open else {"door": "closed", "temperature": 3.94, "power": 56.5}
    return [{"ts": START + 10 * (first + number), **told} for number in range(count)]


def test_an_alert_of_the_demos_model_goes_on_after_kill_9(tmp_path: Path, broker: Mosquitto) -> None:
    stream = {"name": "fridges", "topic": "plant/+/fridge/{device}/telemetry", "model": "cold-chain", "payload": {"time": {"field": "ts"}}}
    # One alert is what this is about: closing a door may look strange, too.
    config = write_config(tmp_path, broker.url, streams=[stream], alerts={"cooldown": "1d"})
    (tmp_path / "state").mkdir()
    installed = vedette("model", "install", BUNDLE, "-c", config)
    assert installed.returncode == 0, installed.stderr
    with Watcher(broker) as watcher:
        with Agent(config) as agent:
            watcher.wait(lambda: watcher.last("vedette/gw-1/status") == b"online", 120)
            watcher.publish(TOPIC, *readings(STEPS, first=0, is_open=False), *readings(STEPS, first=STEPS, is_open=True))
            watcher.wait(watcher.alerts, 120)
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait()
        watcher.publish(TOPIC, *readings(2 * STEPS, first=2 * STEPS, is_open=False))
        with Agent(config) as agent:
            watcher.wait(lambda: watcher.alerts()[-1]["payload"]["type"] == "end", 120)
            assert agent.stop() == 0
    told = [alert["payload"] for alert in watcher.alerts()]
    assert told[0]["type"] == "new" and len({alert["id"] for alert in told}) == 1
    assert {cause["feature"] for cause in told[0]["explanation"]} <= {"door", "temperature", "power"} and told[0]["explanation"]
