"""Corrupted bundles: random damage, swapped files and tricks with archives, offered to the store of an agent that is scoring.

Rules this module keeps: the damage is drawn from a seed; after every one the live version is looked up on the disk; the agent's own
counters say at the end whether it ever missed a reading.
"""

import hashlib
import io
import itertools
import stat
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from tqdm import tqdm

from agents import Agent, Watcher, write_config
from bench.figures import Row
from brokers import Mosquitto
from bundles import make_bundle
from vedette.contract import bundle as bundles
from vedette.contract import manifest as manifests
from vedette.contract.errors import BundleError, ScoreError
from vedette.demo.command import BUNDLE
from vedette.store import Store

Damage = Callable[[bytes, np.random.Generator], bytes]
_RATE = 50.0


def measure(folder: Path, *, quick: bool) -> tuple[list[Row], str]:
    """Offer corrupted bundles, 1,000 or two of each kind, and then 300 or 8 that were damaged before they were packed."""
    rows = offer(folder, 2 * len(TRICKS) if quick else 1000, seed=1) + resealed(folder / "resealed", 8 if quick else 300, seed=1)
    return rows, "\n".join(f"{row.value:8.0f}  {row.name}" for row in rows)


def offer(folder: Path, count: int, seed: int) -> list[Row]:
    """Offer `count` corrupted bundles to a store whose agent scores all the while."""
    rng = np.random.default_rng(seed)
    refused: Counter[str] = Counter()
    accepted: list[str] = []
    store = Store(folder / "state")
    path = folder / "given.vedette"
    path.write_bytes(make_bundle(version="1.0.0"))
    store.install(path)
    digest = _live(store)
    victim = _renamed(BUNDLE.read_bytes())
    with Mosquitto(folder) as broker, Watcher(broker) as watcher, Agent(write_config(folder, broker.url, trial=False)) as agent:
        watcher.wait_online()
        with _Telemetry(watcher) as telemetry:
            for name, damage in tqdm(itertools.islice(_round_robin(), count), total=count, desc="corruptions", disable=None, leave=False):
                path.write_bytes(damage(victim, rng))
                try:
                    store.install(path)
                except (BundleError, ScoreError) as error:
                    refused[type(error).__name__] += 1
                else:
                    accepted.append(name)
                if _live(store) != digest:
                    accepted.append(f"{name}: another version is live")
                    break
        alive = agent.process.poll() is None
        agent.stop()
        counters = watcher.counters()
    if accepted:
        print(f"went live: {accepted}", file=sys.stderr)
    return [
        Row(
            name=f"corrupted bundles refused, of {count}", value=float(refused.total()), unit="bundles", bar=count, better="higher", runs=1
        ),
        Row(
            name=f"readings scored meanwhile, of {telemetry.sent}",
            value=float(counters.get("scored", 0)) if alive else 0.0,
            unit="readings",
            bar=telemetry.sent,
            better="higher",
            runs=1,
        ),
        *_by_kind("corrupted bundles refused with", refused),
    ]


def _by_kind(what: str, counts: Counter[str]) -> list[Row]:
    return [Row(name=f"{what} {kind}", value=float(count), unit="bundles", runs=1) for kind, count in sorted(counts.items())]


def resealed(folder: Path, count: int, seed: int) -> list[Row]:
    """Flip a bit of the model and mend every digest, as damage before packing would: what stands behind the digests then."""
    rng = np.random.default_rng(seed)
    made = bundles.read(_renamed(BUNDLE.read_bytes()))
    files = bundles.with_golden(made.files, made.golden_windows, made.golden_scores)
    (model,) = (stage.file for stage in made.manifest.stages)
    stopped: Counter[str] = Counter()
    folder.mkdir()
    path = folder / "given.vedette"
    for number in tqdm(range(count), desc="damaged before packing", disable=None, leave=False):
        damaged = {**files, model: flip(files[model], rng, most=1)}
        path.write_bytes(bundles.write(msgspec.structs.replace(made.manifest, files=bundles.entries(damaged)), damaged))
        try:
            Store(folder / f"state-{number}").install(path)
        except (BundleError, ScoreError) as error:
            stopped["a runtime's crash, in the child" if "crash" in str(error) else type(error).__name__] += 1
        else:
            stopped["nothing, all golden windows scoring as before"] += 1
    return _by_kind(f"model damaged, digests mended, of {count}: stopped by", stopped)


def _live(store: Store) -> str:
    live = store.open_live("fridge")
    return live.bundle.sha256


class _Telemetry:
    """A fridge that goes on sending."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._send, name="telemetry")
        self.sent = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._done.wait(1 / _RATE):
            self._watcher.publish("plant/a/fridge/f-1/telemetry", {"ts": 1_790_000_000 + self.sent, "temperature": 4.0 + self.sent % 3})
            self.sent += 1


def _round_robin() -> Iterator[tuple[str, Damage]]:
    """Half of it random damage, half of it one trick after the other."""
    tricks = list(TRICKS.items())
    while True:
        for trick in tricks:
            yield "bit flips", flip
            yield trick


def flip(data: bytes, rng: np.random.Generator, most: int = 8) -> bytes:
    damaged = bytearray(data)
    for place in rng.choice(len(data), size=int(rng.integers(1, most + 1)), replace=False).tolist():
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _renamed(data: bytes) -> bytes:
    """The bundle as a new version of the model that is live."""
    made = bundles.read(data)
    manifest = msgspec.structs.replace(made.manifest, name="fridge", version="9.9.9")
    return bundles.write(manifest, bundles.with_golden(made.files, made.golden_windows, made.golden_scores))


def _truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def _zero_block(data: bytes, rng: np.random.Generator) -> bytes:
    """A block of flash that was never written."""
    start = int(rng.integers(len(data) - 1))
    length = int(rng.integers(1, 4097))
    damaged = data[:start] + b"\0" * len(data[start : start + length]) + data[start + length :]
    return damaged if damaged != data else flip(data, rng)


def _tail_of_another(data: bytes, rng: np.random.Generator) -> bytes:
    other = make_bundle(version="9.9.9")
    return data[: int(rng.integers(100, len(data)))] + other[-int(rng.integers(72, len(other))) :]


def _contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _put(archive: zipfile.ZipFile, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        archive.writestr(name, content)


def _sealed(write: Callable[[zipfile.ZipFile], None]) -> bytes:
    """An archive with whatever `write` puts in, and the right digest over it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        write(archive)
        archive.comment = b" " * 71
    return _reseal(buffer.getvalue())


def _reseal(data: bytes) -> bytes:
    body = data[:-71]
    return body + b"sha256:" + hashlib.sha256(body).hexdigest().encode()


def _swapped_file(data: bytes, rng: np.random.Generator) -> bytes:
    """A file of another bundle in its place, the archive's digest mended."""
    contents = _contents(data)
    name = sorted(set(contents) - {"manifest.json"})[int(rng.integers(len(contents) - 1))]
    other = bundles.read(make_bundle(threshold=float(rng.uniform(1, 9))))
    contents[name] = other.files["model.onnx"]
    return _sealed(lambda archive: _put(archive, contents))


def _swapped_model(data: bytes, rng: np.random.Generator) -> bytes:
    """Another model with all digests mended: only its scores can tell."""
    made = bundles.read(data)
    stages = bundles.read(make_bundle()).manifest.stages
    files = {**made.files, "model.onnx": bundles.read(make_bundle(threshold=float(rng.uniform(1, 9)))).files["model.onnx"]}
    files = bundles.with_golden(files, made.golden_windows, made.golden_scores)
    return bundles.write(msgspec.structs.replace(made.manifest, stages=stages, files=bundles.entries(files)), files)


def _golden_scores_changed(data: bytes, rng: np.random.Generator) -> bytes:
    made = bundles.read(data)
    scores = made.golden_scores + np.float32(rng.uniform(0.01, 1))
    files = bundles.with_golden(made.files, made.golden_windows, scores)
    return bundles.write(msgspec.structs.replace(made.manifest, files=bundles.entries(files)), files)


def _with_entry(name: str, content: bytes, mode: int = stat.S_IFREG | 0o644, compression: int = zipfile.ZIP_STORED) -> Damage:
    """The bundle with one more entry."""

    def damage(data: bytes, rng: np.random.Generator) -> bytes:
        def write(archive: zipfile.ZipFile) -> None:
            _put(archive, _contents(data))
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = compression
            archive.writestr(info, content)

        return _sealed(write)

    return damage


def _duplicate(data: bytes, rng: np.random.Generator) -> bytes:
    contents = _contents(data)
    name = sorted(contents)[int(rng.integers(len(contents)))]
    twin = "x" * len(name)

    def write(archive: zipfile.ZipFile) -> None:
        _put(archive, contents)
        archive.writestr(twin, b"another")

    # zipfile warns of a name that stands twice; this way it is written without its help.
    return _reseal(_sealed(write).replace(twin.encode(), name.encode()))


def _without_manifest(data: bytes, rng: np.random.Generator) -> bytes:
    contents = {name: content for name, content in _contents(data).items() if name != "manifest.json"}
    return _sealed(lambda archive: _put(archive, contents))


def _other_format(data: bytes, rng: np.random.Generator) -> bytes:
    contents = _contents(data)
    contents["manifest.json"] = contents["manifest.json"].replace(b'"format": 1', b'"format": %d' % rng.choice([0, 2, 99]))
    return _sealed(lambda archive: _put(archive, contents))


def _manifest_mangled(data: bytes, rng: np.random.Generator) -> bytes:
    """A manifest that is no JSON any more, the archive's digest mended."""
    contents = _contents(data)
    manifest = contents["manifest.json"]
    contents["manifest.json"] = manifest[: int(rng.integers(len(manifest)))]
    return _sealed(lambda archive: _put(archive, contents))


def _name_out_of_the_store(data: bytes, rng: np.random.Generator) -> bytes:
    """A manifest whose name leads elsewhere."""
    made = bundles.read(data)
    encoded = manifests.encode(made.manifest).replace(b'"name": "fridge"', b'"name": "../../evil"')
    contents = {**_contents(data), "manifest.json": encoded}
    return _sealed(lambda archive: _put(archive, contents))


def _lying_sizes(data: bytes, rng: np.random.Generator) -> bytes:
    """The directory says that files are as large as a disk."""
    damaged = bytearray(data)
    place = data.find(b"PK\x01\x02")
    damaged[place + 20 : place + 28] = (0xFFFFFFF0).to_bytes(4, "little") * 2
    return _reseal(bytes(damaged))


def _trailing(data: bytes, rng: np.random.Generator) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 200)))


_LINK = stat.S_IFLNK | 0o777
TRICKS: dict[str, Damage] = {
    "cut short": _truncate,
    "a block of zeros": _zero_block,
    "another bundle's end": _tail_of_another,
    "a file of another bundle": _swapped_file,
    "another model, digests mended": _swapped_model,
    "golden scores changed, digests mended": _golden_scores_changed,
    "a link to /etc/passwd": _with_entry("model-card.md.txt", b"/etc/passwd", _LINK),
    "a link in a file's place": _with_entry("golden", b"/tmp", _LINK),
    "a name with ..": _with_entry("../../../etc/cron.d/evil", b"evil"),
    "an absolute name": _with_entry("/etc/cron.d/evil", b"evil"),
    "a bomb": _with_entry("bomb", b"\0" * 50_000_000, compression=zipfile.ZIP_DEFLATED),
    "a bomb in bzip2": _with_entry("bomb", b"\0" * 50_000_000, compression=zipfile.ZIP_BZIP2),
    "one more file": _with_entry("extra.txt", b"hello"),
    "a name twice": _duplicate,
    "no manifest": _without_manifest,
    "another format": _other_format,
    "a manifest mangled": _manifest_mangled,
    "a model's name that leads out": _name_out_of_the_store,
    "sizes that lie": _lying_sizes,
    "something behind the end": _trailing,
}
