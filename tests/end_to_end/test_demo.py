import json
import sys

import pytest

from agents import vedette


def test_the_demo_detects_every_fault_on_a_gateways_packages(gateway_python: str) -> None:
    done = vedette("demo", "--json", "--duration", "20s", python=gateway_python)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert {fault["kind"] for fault in facts["faults"]} == {
        "door_left_open",
        "compressor_failure",
        "sensor_stuck",
        "sensor_drift",
        "spoofed_readings",
    }
    assert all(fault["delay_s"] is not None for fault in facts["faults"])
    assert facts["false_alerts"] <= 1
    counters = facts["counters"]
    assert counters["received"] == counters["scored"] + counters["waiting"] + counters["late"] + counters["repeated"]
    assert counters["failed"] == 0
    assert "ALERT" in done.stderr
    assert "begins" in done.stderr


def test_the_demo_runs_without_mosquitto() -> None:
    done = vedette("demo", "--json", "--duration", "20s", "--broker", "amqtt", python=sys.executable)
    assert done.returncode == 0, done.stderr
    assert "broker: amqtt" in done.stderr


@pytest.mark.parametrize("arguments", [["--devices", "2"], ["--simulated", "1h"], ["--duration", "soon"]])
def test_a_demo_that_cannot_be_is_a_usage_error(arguments: list[str]) -> None:
    assert vedette("demo", *arguments).returncode == 2
