"""Bundles of every detector in every runtime, and telemetry for them: what agents on different processors are to agree on.

Rules this module keeps: they are those of the conformance suite, exported as it exports them, and the bundle that the demo ships; telemetry
is what no model was trained on, with what is strange in it.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from arm.answers import BUNDLES, TELEMETRY
from exporter.conftest import DETECTORS, pumps, train
from exporter.test_conformance import KINDS, OTHERWISE
from exports import Exports
from vedette.contract import bundle as bundles
from vedette.contract.bundle import SUFFIX
from vedette.demo.command import BUNDLE
from vedette.simulate.command import simulate

ALL = (*KINDS, *OTHERWISE)
DEMO = "cold-chain"
_UNSEEN = 3
"""Seed of pumps that no model was trained on."""


def make(folder: Path, kinds: Sequence[str] = ALL) -> None:
    """Train, export and gather them, with the telemetry, in `folder`, unless they are there."""
    if (folder / "ready").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / BUNDLES).mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="vedette-arm-") as scratch:
        exports = Exports(lambda name, seed=1: _trained(Path(scratch) / f"{name}-{seed}", name, seed))
        for kind in kinds:
            name = kind.replace(" ", "-")
            _renamed(exports(kind).packed.data, name, folder)
    _renamed(BUNDLE.read_bytes(), DEMO, folder)
    names = [kind.replace(" ", "-") for kind in kinds]
    with (folder / TELEMETRY).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(message) + "\n" for message in (*_of_pumps(names), *_of_fridges(folder)))
    (folder / "ready").touch()


def _trained(folder: Path, name: str, seed: int) -> Path:
    if not folder.exists():
        train(folder, DETECTORS[name], seed)
    return folder


def _renamed(data: bytes, name: str, folder: Path) -> None:
    """Give a bundle a name of its own, so that one agent can run all of them."""
    opened = bundles.read(data)
    manifest = msgspec.structs.replace(opened.manifest, name=name)
    files = bundles.with_golden(opened.files, opened.golden_windows, opened.golden_scores)
    (folder / BUNDLES / f"{name}{SUFFIX}").write_bytes(bundles.write(manifest, files))


def _of_pumps(names: Sequence[str]) -> Iterator[dict[str, object]]:
    history = pumps(_UNSEEN)
    for device, time, (pressure, mode) in zip(history.devices, history.times, history.values, strict=True):
        for name in names:
            yield {"time": time, "topic": f"{name}/{device}", "payload": {"ts": time, "pressure": pressure, "mode": mode}}


def _of_fridges(folder: Path) -> Iterator[dict[str, object]]:
    path = folder / "fridges.jsonl"
    assert simulate(["cold-chain", "--devices", "5", "--duration", "12h", "--fault-rate", "20", "--seed", "3", "-o", str(path)]) == 0
    for line in path.read_text(encoding="utf-8").splitlines():
        message = json.loads(line)
        device = message["topic"].split("/")[3]
        yield {"time": message["time"], "topic": f"{DEMO}/{device}", "payload": message["payload"]}
