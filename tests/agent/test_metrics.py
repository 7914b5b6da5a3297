"""What Prometheus scrapes, from a real agent."""

import json
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agents import Agent, Watcher, episode, vedette, write_config
from brokers import Mosquitto, free_port
from bundles import install, make_bundle
from vedette.config import load
from vedette.contract.errors import ConfigError

TOPIC = "plant/north/fridge/f-1/telemetry"
DASHBOARD = Path(__file__).parents[2] / "systemd" / "grafana-dashboard.json"


def scrape(port: int) -> dict[tuple[str, ...], float]:
    """Every sample: its name and its labels' values, but for the gateway's, in the order of their names."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    assert all(family.documentation and family.type in {"counter", "gauge"} for family in families)
    return {
        (sample.name, *(value for label, value in sorted(sample.labels.items()) if label != "gateway")): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_scrape_tells_what_the_stats_tell(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    port = free_port()
    config = write_config(tmp_path, broker.url, stats_every="200ms", metrics={"listen": f"127.0.0.1:{port}"})
    with Watcher(broker) as watcher, Agent(config) as agent:
        watcher.wait_online()
        watcher.publish(TOPIC, *episode([4.0] * 5 + [10.0] * 4), b"{")
        watcher.wait(lambda: len(watcher.alerts()) == 1)
        found = watcher.wait(lambda: (s := scrape(port)).get(("vedette_messages_total", "fridges")) == 10 and s)
        assert found["vedette_readings_total", "fridges"] == found["vedette_windows_scored_total", "fridges"] == 9
        assert found["vedette_dropped_total", "malformed", "fridges"] == 1
        assert found["vedette_devices", "fridges"] == found["vedette_open_alerts", "anomaly", "fridges"] == 1
        assert found["vedette_open_alerts", "silent", "fridges"] == found["vedette_disk_failing",] == found["vedette_queue",] == 0
        assert found["vedette_broker_connected",] == found["vedette_model_info", "fridge", "", "1.0.0"] == 1
        assert found["process_resident_memory_bytes",] > 1e7 and found["process_cpu_seconds_total",] > 0
        broker.stop()
        watcher.wait(lambda: scrape(port)["vedette_broker_connected",] == 0)
        assert agent.stop() == 0


def test_a_port_that_is_taken_is_said_by_start_and_check(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        config = write_config(tmp_path, broker.url, metrics={"listen": listen})
        for command in ("run", "check"):
            done = vedette(command, "-c", config)
            assert done.returncode == 1
            assert f"metrics.listen: {listen} cannot be had: Address already in use; who has it says: ss -ltnp" in done.stdout + done.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "192.168.1.4:9464", "localhost:9464", "127.0.0.1", "[::]:1", ":9464", 9464])
def test_an_address_that_others_can_reach_is_refused(tmp_path: Path, listen: object) -> None:
    with pytest.raises(ConfigError) as raised:
        load(write_config(tmp_path, "mqtt://nobody", metrics={"listen": listen}))
    expected = "agent.yaml: metrics.listen: expected 127.0.0.1:PORT or [::1]:PORT, since only this machine may ask, got "
    assert str(raised.value) == f"{expected}{listen!r}"


def test_all_that_dashboard_and_page_name_is_there(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    port = free_port()
    config = write_config(tmp_path, broker.url, stats_every="200ms", metrics={"listen": f"127.0.0.1:{port}"})
    with Watcher(broker) as watcher, Agent(config):
        watcher.wait_online()
        watcher.wait(lambda: ("vedette_messages_total", "fridges") in scrape(port))
        names = {name for name, *_ in scrape(port)}
    page = set(re.findall(r"`(vedette_[a-z_]+)`", (DASHBOARD.parents[1] / "docs" / "operations.md").read_text()))
    assert page - {"vedette_partial_total"} == {name for name in names if name.startswith("vedette_")}, "the page lists all that there is"
    asked = queries(json.loads(DASHBOARD.read_text()))
    assert asked and asked <= names, f"not exported: {sorted(asked - names)}"


def test_who_wants_no_metrics_does_not_pay_for_them() -> None:
    program = "import sys, vedette.commands.run; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "vedette.lifetime" in loaded and not set(loaded) & {"prometheus_client", "wsgiref", "http.server", "vedette.metrics"}


def queries(dashboard: dict[str, Any]) -> set[str]:
    """Names of the metrics that a dashboard's panels and variables ask for."""
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    texts += [json.dumps(variable["query"]) for variable in dashboard["templating"]["list"]]
    return {name for text in texts for name in re.findall(r"\b(?:vedette|process)_[a-z_]+", text)}
