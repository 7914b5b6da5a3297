"""A signed repository of bundles in a folder, which any web server or a USB stick can carry.

Rules this module keeps: nothing that is there is signed anew before its own signature was checked, so that whoever can write to the
folder cannot have a bundle signed; a file that a `timestamp.json` leads to is never changed, and `timestamp.json` is written last, so
that a gateway that reads meanwhile, or power that fails, meets the old repository or the new one.

`metadata/` holds the signed metadata of The Update Framework (consistent snapshots), `targets/CHANNEL/` the bundles. What a channel no
longer points to is kept: a gateway may be reading it, and it is the way back.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from vedette.contract.bundle import Bundle
from vedette.contract.errors import SigningError
from vedette.contract.releases import SIGNED_AT, Place, Release, place_of, read_time, write_time
from vedette_exporter.files import write_whole
from vedette_exporter.signing.keys import KeyFolder, in_days, read_root

T = TypeVar("T", Timestamp, Snapshot, Targets)


class Lifetimes(NamedTuple):
    """How many days metadata is good for once it is signed. A gateway that hears of nothing newer takes no updates after that.

    targets: Which bundle is in which channel; its key may be kept apart, so it is used seldom.
    online: That this is the newest; to be renewed, by `vedette publish --refresh`, well before it is over.
    """

    targets: float = 180.0
    online: float = 30.0


class Head(NamedTuple):
    """What a channel points to."""

    version: str
    sha256: str
    size: int


class State(NamedTuple):
    """A repository as it is after it was signed.

    Attributes:
        heads: The channels' bundles.
        expires: By role of TUF's.
    """

    heads: Mapping[Place, Head]
    expires: Mapping[str, datetime]


class Repository:
    """A repository in a folder.

    Args:
        folder: Made where there is none.
        keys: The publisher's.
    """

    def __init__(self, folder: Path, keys: KeyFolder) -> None:
        self._folder, self._metadata, self._keys = folder, folder / "metadata", keys

    def sign(self, bundles: Sequence[tuple[Bundle, bytes]], channels: Sequence[str], lifetimes: Lifetimes, now: datetime) -> State:
        """Put bundles into channels, and sign anew all that the keys at hand can sign.

        Args:
            bundles: Each opened, and the bytes that it was opened from; may be none, to put off expiry only.
            channels: Every one of them gets every bundle, in the place of the one of that name that it had.
            lifetimes: From `now` on.
            now: This machine's time.

        Returns:
            What is published from now on.

        Raises:
            SigningError: a key is missing, the folder is another publisher's or damaged, or a version is there with other bytes.
        """
        try:
            with self._locked():
                return self._sign(bundles, channels, lifetimes, now)
        except OSError as error:
            raise SigningError(f"{error.filename or self._folder}: {error.strerror}") from error

    def _sign(self, bundles: Sequence[tuple[Bundle, bytes]], channels: Sequence[str], lifetimes: Lifetimes, now: datetime) -> State:
        online = self._keys.signer("online")
        timestamp, snapshot, targets, sound = self._read(now)
        if bundles or not sound or self._keys.has("targets"):
            signer = self._keys.signer("targets")
            for bundle, data in bundles:
                for channel in channels:
                    self._put(targets, Place(channel, bundle.manifest.name), bundle, data)
            targets.version += 1
            targets.expires = in_days(now, lifetimes.targets)
            metadata = Metadata(targets)
            metadata.sign(signer)
            snapshot.meta["targets.json"] = self._write(f"{targets.version}.targets.json", metadata)
        snapshot.version += 1
        snapshot.expires = timestamp.expires = in_days(now, lifetimes.online)
        signed_snapshot = Metadata(snapshot)
        signed_snapshot.sign(online)
        timestamp.snapshot_meta = self._write(f"{snapshot.version}.snapshot.json", signed_snapshot)
        timestamp.version += 1
        timestamp.unrecognized_fields[SIGNED_AT] = write_time(now)
        signed_timestamp = Metadata(timestamp)
        signed_timestamp.sign(online)
        self._write_roots()
        self._write("timestamp.json", signed_timestamp)
        roles = {"root": self._keys.root, "targets": targets, "snapshot": snapshot, "timestamp": timestamp}
        return State(_heads(targets), {role: signed.expires for role, signed in roles.items()})

    def _put(self, targets: Targets, place: Place, bundle: Bundle, data: bytes) -> None:
        name, version = bundle.manifest.name, bundle.manifest.version
        for other, head in _heads(targets).items():
            if other.name == name and head.version == version and head.sha256 != bundle.sha256:
                raise SigningError(
                    f"{name} {version} is in channel {other.channel} already with other bytes (sha256 {head.sha256[:12]}…): "
                    "export this one with a version of its own"
                )
        target = TargetFile.from_data(place.path, data)
        if target.hashes["sha256"] != bundle.sha256:
            raise SigningError(f"{name} {version}: the file was changed while it was being published; try again")
        target.unrecognized_fields["custom"] = msgspec.to_builtins(Release(name=name, version=version))
        targets.targets[place.path] = target
        path = self._folder / "targets" / target.get_prefixed_paths()[0]
        if not path.exists() or path.read_bytes() != data:
            write_whole(path, data)

    def _read(self, now: datetime) -> tuple[Timestamp, Snapshot, Targets, bool]:
        """What is published, or what precedes the first publication; and whether the targets are signed by today's key."""
        path = self._metadata / "timestamp.json"
        if not path.exists():
            return Timestamp(), Snapshot(), Targets(), False
        timestamp, _ = self._verified(Timestamp, path, None)
        if (last := _signed_at(timestamp)) and last > now:
            raise SigningError(
                f"{path}: signed at {write_time(last)}, but this machine's clock shows {write_time(now)}: set the clock; "
                "gateways take what is signed earlier for expired"
            )
        expected = timestamp.snapshot_meta
        snapshot, _ = self._verified(Snapshot, self._metadata / f"{expected.version}.snapshot.json", expected)
        expected = snapshot.meta["targets.json"]
        targets, sound = self._verified(Targets, self._metadata / f"{expected.version}.targets.json", expected)
        return timestamp, snapshot, targets, sound

    def _verified(self, type_: type[T], path: Path, expected: MetaFile | None) -> tuple[T, bool]:
        """Metadata that is signed by the key of today's root, or by an earlier one's where that has been rotated; and which."""
        try:
            data = path.read_bytes()
            if expected:
                expected.verify_length_and_hashes(data)
            metadata = Metadata[T].from_bytes(data)
        except (RepositoryError, OSError) as error:
            raise SigningError(f"{path}: cannot be read: {error}; put it back from a copy, or begin a new repository") from error
        if not isinstance(metadata.signed, type_):
            raise SigningError(f"{path}: holds {metadata.signed.type} metadata")
        newest, *earlier = reversed(self._keys.chain.values())
        for root in (newest, *earlier):
            signed = read_root(root, path).signed
            if signed.get_verification_result(type_.type, metadata.signed_bytes, metadata.signatures):
                return metadata.signed, root is newest
        raise SigningError(
            f"{path}: not signed by these keys: the repository is another publisher's, or was altered; put it back from a copy"
        )

    def _write(self, name: str, metadata: Metadata[T]) -> MetaFile:
        data = metadata.to_bytes(JSONSerializer())
        write_whole(self._metadata / name, data)
        return MetaFile.from_data(metadata.signed.version, data, ["sha256"])

    def _write_roots(self) -> None:
        for version, data in self._keys.chain.items():
            path = self._metadata / f"{version}.root.json"
            if not path.exists():
                write_whole(path, data)
            elif path.read_bytes() != data:
                raise SigningError(f"{path}: not the root of these keys: the repository is another publisher's")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One publisher at a time."""
        self._metadata.mkdir(parents=True, exist_ok=True)
        folder = os.open(self._metadata, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _heads(targets: Targets) -> dict[Place, Head]:
    heads = {}
    for path, target in sorted(targets.targets.items()):
        if place := place_of(path):
            release = msgspec.convert(target.custom, Release)
            heads[place] = Head(release.version, target.hashes["sha256"], target.length)
    return heads


def _signed_at(timestamp: Timestamp) -> datetime | None:
    text = timestamp.unrecognized_fields.get(SIGNED_AT)
    return read_time(text) if isinstance(text, str) else None
