"""`make bench-peers`: the agent beside Node-RED with onnxruntime-node, on the same isolation forest and the same messages.

Node-RED's flow is what its users build: MQTT in, parsed as JSON, a function node that runs the model, MQTT out where the score is over the
threshold. It comes from npm, without install scripts: onnxruntime-node brings its library for the processor in its package.

Rules this module keeps: Node-RED listens on loopback alone and its folder is a temporary one; both sides are driven at one rate that both
sustain, in turn; each says how many readings it scored.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import figures, machine, models
from bench.engine import DISTRIBUTIONS
from bench.figures import Figures, Line
from bench.models import FOREST, model_file
from bench.publisher import Publisher
from bench.rig import DEVICES, GATEWAY, Cost, Figure, Plan, Progress, Rig, order, rows, topic
from bench.subjects import Account, Monitor, Process, SubjectError
from brokers import MOSQUITTO, Mosquitto, free_port

FOLDER = machine.REPOSITORY / "build" / "peers"
PACKAGES = ("node-red@5", "onnxruntime-node@1")
OLDEST_NODE = (22, 9)
"""That Node-RED 5 runs on."""

_FLOW = Path(__file__).with_name("node-red")
_ROOT = "node-red"
_RATES = (10_000.0, 7500.0, 5000.0, 3000.0, 2000.0, 1000.0, 500.0)
_ODD = 5

CPU, MEMORY = f"agent/Node-RED cpu, {FOREST}, qos1", f"agent/Node-RED rss, {FOREST}, {DEVICES} devices"
_AGENT, _PEER = (f"{who} cpu, {FOREST}, qos1" for who in ("agent", "Node-RED"))
_AGENT_RSS, _PEER_RSS = (f"{who} rss, {FOREST}, {DEVICES} devices" for who in ("agent", "Node-RED"))
_START, _RATE = "Node-RED start to subscribed", "rate that both sustain"
FIGURES = (
    Figure(CPU, "ratio", 0.25),
    Figure(MEMORY, "ratio", 0.5),
    *(Figure(name, "us/reading") for name in (_AGENT, _PEER)),
    *(Figure(name, "MB") for name in (_AGENT_RSS, _PEER_RSS)),
    Figure(_START, "s"),
    Figure(_RATE, "readings/s", None, "higher"),
)


class PeerError(Exception):
    """Node-RED cannot be had."""


class NodeRed(Process):
    """Node-RED with the flow.

    Args:
        node: The program that runs it.
        packages: Where npm has put it.
        user_dir: Its own folder; need not exist.
        port: Of the broker.
        model: The ONNX file.
        monitor: Hears what it says, below `node-red`.
    """

    def __init__(self, node: str, packages: Path, user_dir: Path, port: int, model: Path, monitor: Monitor) -> None:
        modules = packages / "node_modules"
        user_dir.mkdir(exist_ok=True)
        (user_dir / "flows.json").write_text(json.dumps(flow(port)), encoding="utf-8")
        environment = {
            "BENCH_UI_PORT": str(free_port()),
            "BENCH_FLOW": str(user_dir / "flows.json"),
            "BENCH_ORT": str(modules / "onnxruntime-node"),
            "BENCH_MODEL": str(model),
            "ONNXRUNTIME_NODE_INSTALL": "skip",
        }
        settings = str(_FLOW / "settings.js")
        program = str(modules / "node-red" / "red.js")
        super().__init__([node, program, "-u", str(user_dir), "-s", settings], user_dir / "node-red.log", environment, talks=True)
        self._monitor = monitor

    def wait_until_subscribed(self) -> float:
        """Wait until it answers. Returns: seconds since this was called."""
        began = time.monotonic()
        while time.monotonic() < began + 60:
            assert self.child
            if self.child.poll() is not None:
                raise self.complain("Node-RED ended")
            if self._ask(0.25):
                return time.monotonic() - began
        raise self.complain("Node-RED did not start")

    def counts(self) -> dict[str, int]:
        """Readings that it received and scored, and alerts that it sent."""
        if (counts := self._ask(10.0)) is None:
            raise self.complain("Node-RED does not say what it scored")
        return counts

    def _ask(self, timeout_s: float) -> dict[str, int] | None:
        self._monitor.ask(f"{_ROOT}/ask")
        heard = self._monitor.hear("stats", timeout_s)
        found: dict[str, int] | None = json.loads(heard.payload) if heard else None
        return found


def flow(port: int) -> list[dict[str, Any]]:
    """The flow as Node-RED keeps it, and beside it one that tells the counts when it is asked."""
    score, load = ((_FLOW / name).read_text(encoding="utf-8") for name in ("score.js", "load.js"))
    broker = {
        "id": "broker",
        "type": "mqtt-broker",
        "broker": "127.0.0.1",
        "port": port,
        "clientid": "node-red",
        "protocolVersion": 5,
        "keepalive": 60,
        "cleansession": True,
        "autoConnect": True,
        "usetls": False,
    }
    common = {"z": "tab", "broker": "broker"}
    return [
        {"id": "tab", "type": "tab", "label": "bench"},
        broker,
        {
            "id": "in",
            "type": "mqtt in",
            "topic": topic(FOREST).replace("{device}", "+"),
            "qos": "1",
            "datatype": "json",
            "wires": [["score"]],
            **common,
        },
        {"id": "score", "type": "function", "z": "tab", "func": score, "initialize": load, "outputs": 1, "wires": [["out"]]},
        {"id": "out", "type": "mqtt out", "topic": "", "qos": "1", "retain": "", "wires": [], **common},
        {"id": "ask", "type": "mqtt in", "topic": f"{_ROOT}/ask", "qos": "0", "datatype": "utf8", "wires": [["tell"]], **common},
        {"id": "tell", "type": "function", "z": "tab", "func": _TELL, "outputs": 1, "wires": [["out"]]},
    ]


_TELL = f'return {{ topic: "{_ROOT}/stats", payload: global.get("counts") }}'


def install(folder: Path) -> str:
    """Have npm put Node-RED into a folder, unless it is there.

    Returns:
        The node program: the system's, or npm's own where that is older than Node-RED wants.

    Raises:
        PeerError: npm is not there, or says no.
    """
    node = shutil.which("node")
    packages = list(PACKAGES)
    if not node or _node_version(node) < OLDEST_NODE:
        kind = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        packages.append(f"node-linux-{kind}@22")
        node = str(folder / "node_modules" / f"node-linux-{kind}" / "bin" / "node")
    if all((folder / "node_modules" / package.partition("@")[0]).exists() for package in packages):
        return node
    npm = shutil.which("npm")
    if not npm:
        raise PeerError("npm is not installed: Node-RED comes from there")
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--prefix", str(folder)]
    done = subprocess.run([npm, "install", *options, *packages], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise PeerError(f"npm cannot install {', '.join(packages)}: {' '.join(done.stderr.split())[-300:]}")
    return node


def _node_version(node: str) -> tuple[int, ...]:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    return tuple(int(part) for part in said.strip().lstrip("v").split(".")[:2])


def measure(rig: Rig, plan: Plan, node: str, packages: Path) -> Plan:
    """Both in turn, at the highest rate that Node-RED sustains. Returns: the plan as it was carried out."""
    for rate in [rate for rate in _RATES if rate <= plan.rate]:
        plan = plan._replace(rate=rate)
        rig.step(f"can Node-RED do {rate:.0f} readings/s?")
        cost, _ = _measure_peer(rig, plan._replace(seconds=min(2.0, plan.seconds)), node, packages)
        if cost.behind_s < 0.1 * plan.seconds:
            break
    rig.laggards.clear()
    for _ in range(plan.runs):
        rig.step(f"Node-RED at {plan.rate:.0f} readings/s")
        theirs, start_s = _measure_peer(rig, plan, node, packages)
        rig.step(f"agent at {plan.rate:.0f} readings/s")
        with rig.agent((FOREST,)) as agent:
            agent.wait_until_subscribed()
            ours = rig.load(agent, plan, order(FOREST))
            rig.account("agent", plan.warm_up + plan.messages, agent.finish())
        for name, value in {
            CPU: ours.cpu_us / theirs.cpu_us,
            MEMORY: ours.resident_bytes / theirs.resident_bytes,
            _AGENT: ours.cpu_us,
            _PEER: theirs.cpu_us,
            _AGENT_RSS: ours.resident_bytes / 1e6,
            _PEER_RSS: theirs.resident_bytes / 1e6,
            _START: start_s,
            _RATE: plan.rate,
        }.items():
            rig.samples[name].append(value)
    return plan


def _measure_peer(rig: Rig, plan: Plan, node: str, packages: Path) -> tuple[Cost, float]:
    rig.monitor.forget()
    with (
        Monitor(rig.broker.port, _ROOT) as monitor,
        NodeRed(node, packages, rig.folder / "node-red", rig.broker.port, model_file(rig.folder, FOREST), monitor) as peer,
    ):
        start_s = peer.wait_until_subscribed()
        cost = rig.load(peer, plan, order(FOREST))
        sent = plan.warm_up + plan.messages
        counts = peer.counts()
        rig.account("Node-RED", sent, Account(counts["scored"], {"alerts": counts["alerts"]} if counts["alerts"] else {}))
        # That it scores at all: what is far out is told.
        rig.publisher.publish(order(FOREST, rate=plan.rate, messages=2 * DEVICES, odd=_ODD))
        peer.wait_until_quiet()
        if (told := peer.counts()["alerts"]) != _ODD:
            rig.faults.append(f"Node-RED: {_ODD} odd readings, {told} alerts")
    return cost, start_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, measure, print the table and write the figures.

    Returns:
        0 where every reading was accounted for, whatever the figures say; 1 otherwise.
    """
    options = argparse.ArgumentParser(description="CPU and memory beside Node-RED, on the same model and messages.")
    options.add_argument("--runs", type=int, default=3, help="rounds of Node-RED and agent in turn (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=8.0, help="length of one measurement (default: %(default)s)")
    options.add_argument("--quick", action="store_true", help="see whether it works; figures only where --figures says")
    options.add_argument("--figures", type=Path, metavar="FILE", help="where the figures go (default: build/figures/peers.json)")
    given = options.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    progress = Progress()
    try:
        python = machine.gateway_python()
        progress("installing Node-RED")
        node = install(FOLDER)
        versions = {**machine.versions(python, DISTRIBUTIONS), "mosquitto": machine.mosquitto_version(MOSQUITTO), **_versions(node)}
        plan = Plan(1, 500.0, 1.0, 0.5) if given.quick else Plan(given.runs, _RATES[0], given.seconds, 2.0)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vedette-bench-")))
            progress("making the model")
            models.install(folder, (FOREST,))
            broker = stack.enter_context(Mosquitto(folder))
            publisher = stack.enter_context(Publisher(broker.port))
            monitor = stack.enter_context(Monitor(broker.port, f"vedette/{GATEWAY}"))
            rig = Rig(python, folder, broker, publisher, monitor, progress)
            plan = measure(rig, plan, node, FOLDER)
    except KeyboardInterrupt:
        return 130
    except (OSError, RuntimeError, SubjectError, PeerError, subprocess.SubprocessError, AssertionError) as error:
        print(f"bench-peers: {error}", file=sys.stderr)
        return 1
    finally:
        progress.clear()
    found = Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=rows(FIGURES, rig.samples))
    print(f"vedette bench-peers, commit {found.commit}\n{found.machine}")
    print(", ".join(f"{name} {version}" for name, version in found.versions.items()))
    print(f"{plan.rate:.0f} readings/s, {plan.seconds:g} s each after {plan.warm_up_s:g} s of warm-up, {DEVICES} devices, QoS 1\n")
    print(figures.table([Line("peers", row) for row in found.rows]))
    if rig.faults:
        print("\nNOT CLEAN, so no figures were written:", *rig.faults, sep="\n  ")
        return 1
    if path := given.figures or (None if given.quick else figures.FOLDER / "peers.json"):
        figures.write(found, path)
        print(f"\nevery reading accounted for; figures in {os.path.relpath(path)}")
    return 0


def _versions(node: str) -> dict[str, str]:
    """Of what npm brought."""
    found = {"node": ".".join(map(str, _node_version(node)))}
    for package in (name.partition("@")[0] for name in PACKAGES):
        found[package] = json.loads((FOLDER / "node_modules" / package / "package.json").read_text(encoding="utf-8"))["version"]
    return found


if __name__ == "__main__":
    sys.exit(main())
