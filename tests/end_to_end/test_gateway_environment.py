"""A gateway has neither TensorFlow nor scikit-learn nor pandas, and needs none of them."""

import json
import subprocess
import sys
from pathlib import Path

from agents import Agent, Watcher, episode, vedette, write_config
from brokers import Mosquitto
from bundles import install, make_bundle

HEAVY = {"tensorflow", "tensorflow-cpu", "keras", "scikit-learn", "pandas", "skl2onnx", "onnx", "scipy"}


def test_its_environment_holds_no_training_library(gateway_python: str) -> None:
    program = "import json, importlib.metadata as m; print(json.dumps([d.metadata['Name'].lower() for d in m.distributions()]))"
    listed = subprocess.run([gateway_python, "-c", program], capture_output=True, text=True, check=True)
    installed = set(json.loads(listed.stdout))
    assert "vedette" in installed
    assert not installed & HEAVY


def test_the_agent_works_in_it(gateway_python: str, tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle())
    config = write_config(tmp_path, broker.url)
    assert vedette("check", "-c", config, python=gateway_python).returncode == 0
    with Watcher(broker) as watcher, Agent(config, python=gateway_python) as agent:
        watcher.wait_online()
        watcher.publish("plant/a/fridge/f-1/telemetry", *episode([4.0] * 5 + [10.0] * 4 + [4.0] * 6))
        watcher.wait(lambda: len(watcher.alerts()) == 2)
        assert agent.stop() == 0


def test_training_says_what_to_install(gateway_python: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("device,ts,temperature,power,door,label\n")
    done = vedette("train", "cold-chain-lstm", "--history", tmp_path / "x.csv", "-o", tmp_path / "run", python=gateway_python)
    assert done.returncode == 1
    assert done.stderr.startswith("vedette: training needs ")
    assert "pip install 'vedette[train]'" in done.stderr


def test_nothing_of_the_agent_imports_them_even_where_they_are_installed() -> None:
    program = (
        "import importlib, pkgutil, sys, vedette\n"
        "for module in pkgutil.walk_packages(vedette.__path__, 'vedette.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "onnxruntime" in loaded, "every module of the agent was imported, the runtimes too"
    assert not set(loaded) & {"tensorflow", "keras", "sklearn", "pandas", "skl2onnx", "scipy", "vedette_training", "vedette_exporter"}


def test_import_vedette_loads_next_to_nothing() -> None:
    program = "import sys; before = set(sys.modules); import vedette; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["vedette"]


def test_the_model_runtimes_write_nothing_and_start_no_thread_of_their_own(gateway_python: str, tmp_path: Path) -> None:
    """ONNX Runtime's wheels carry a telemetry service; it must be off before the library is loaded."""
    (tmp_path / "fridge.vedette").write_bytes(make_bundle())
    program = (
        "import sys, threading, pathlib; from vedette.contract.bundle import open_bundle; from vedette.runtimes import load_scorer\n"
        "bundle = open_bundle(pathlib.Path(sys.argv[1])); load_scorer(bundle).score(bundle.golden_windows)\n"
        "print(len(list(pathlib.Path('/proc/self/task').iterdir())))"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home), "OPENBLAS_NUM_THREADS": "1"}
    command = [gateway_python, "-c", program, str(tmp_path / "fridge.vedette")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert list(home.rglob("*")) == []
    assert done.stdout.strip() == "1"
