"""Signed updates: what a channel of a publisher's repository holds for this gateway, and the bundle itself, verified.

Rules this module keeps: the repository, the way to it and the broker's announcements are not trusted, only what is signed by keys that
the trusted root leads to; what is refused changes nothing that is live; a download is never longer than what was signed, nor than a
bundle may be; a clock that is behind, or stands still, does not stop updates.

Time. Expiry is what stops somebody from showing a gateway an old repository for ever. Many gateways have no clock that runs without
power, so the time is the later of the system's and of when the newest timestamp that this gateway has taken was signed. The first is
never kept: a clock that was once ahead must not stop updates for good.

The protocol is The Update Framework's, as python-tuf implements it, down to the files in `metadata`; only `_Client` looks inside it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import urllib3.exceptions
from securesystemslib.exceptions import StorageError
from tuf.api import exceptions as tuf
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater

from vedette.config import Updates
from vedette.contract.bundle import MAX_BUNDLE_BYTES
from vedette.contract.errors import UpdateError
from vedette.contract.releases import SIGNED_AT, Place, Release, place_of, read_time
from vedette.fetchers import Fetcher, FolderFetcher, WebFetcher

_FAULTS = (tuf.RepositoryError, tuf.DownloadError, urllib3.exceptions.HTTPError, OSError)
_LONGEST_MESSAGE = 1000


class Offer(NamedTuple):
    """The bundle that a channel points to: signed, and not yet fetched. `size` is in bytes."""

    name: str
    version: str
    sha256: str
    size: int


@contextmanager
def opened(settings: Updates, state_dir: Path, now: float | None = None) -> Iterator["Channel"]:
    """The channel that this gateway follows, refreshed.

    Args:
        settings: As configured.
        state_dir: The agent's; what was seen is kept in `updates` there.
        now: This machine's time, epoch seconds; None for the system's.

    Raises:
        UpdateError: it cannot be had or trusted, or another update is under way.
    """
    folder = state_dir / "updates"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UpdateError(f"{error.filename}: {error.strerror}; is this user allowed to write there?") from error
    try:
        _lock(lock)
        channel = Channel(settings, folder, datetime.fromtimestamp(time.time() if now is None else now, UTC))
        channel.refresh()
        yield channel
    finally:
        _own(folder)
        os.close(lock)


class Channel:
    """The channel of a repository that this gateway follows. One at a time in a folder: see `opened`.

    Args:
        settings: As configured.
        folder: For what was seen before; kept.
        now: This machine's time.
    """

    def __init__(self, settings: Updates, folder: Path, now: datetime) -> None:
        self._settings, self._folder, self._now = settings, folder, now
        self._metadata = folder / "metadata"
        self._fetcher = WebFetcher(settings.ca_file) if "://" in settings.repository else FolderFetcher(Path(settings.repository))

    def refresh(self) -> None:
        """Learn what the publisher has signed last.

        Raises:
            UpdateError: nothing newer can be had or trusted, and why.
        """
        # What is learnt may change the time: by a newer signature, or by a root under which the newest signature is no longer one.
        for _ in range(3):
            reference = self._time()
            with self._explaining():
                self._client = self._open(reference)
            try:
                self._client.refresh()
                fault = None
            except _FAULTS as error:
                fault = error
            if self._time() == reference:
                break
        if fault:
            with self._explaining():
                raise fault

    def offer(self, name: str) -> Offer:
        """The bundle of a name in the channel. To be called after `refresh`.

        Raises:
            UpdateError: there is none, or what is signed cannot be a bundle.
        """
        place = Place(self._settings.channel, name)
        target = self._client.get_targetinfo(place.path)
        if target is None:
            raise UpdateError(f"{self._settings.repository}: {self._what_else(place)}")
        try:
            release = msgspec.convert(target.custom, Release)
            offer = Offer(release.name, release.version, target.hashes["sha256"], target.length)
        except (msgspec.ValidationError, KeyError) as error:
            raise UpdateError(
                f"{self._settings.repository}: {place.path} is not described as a bundle: {error}; publish it anew"
            ) from error
        if offer.name != name:
            raise UpdateError(f"{self._settings.repository}: {place.path} holds {offer.name}; publish {name} anew")
        if offer.size > MAX_BUNDLE_BYTES:
            raise UpdateError(f"refused: {name} {offer.version} has {offer.size} bytes; a bundle has at most {MAX_BUNDLE_BYTES}")
        return offer

    @contextmanager
    def fetched(self, offer: Offer) -> Iterator[Path]:
        """The bundle's file, with the size and digest that were signed; removed afterwards.

        Raises:
            UpdateError: it cannot be had, or is something else.
        """
        path = self._folder / f"{offer.name}.fetched"
        target = self._client.get_targetinfo(Place(self._settings.channel, offer.name).path)
        assert target
        try:
            with self._explaining(f"{offer.name} {offer.version} "):
                self._client.download_target(target, str(path))
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _open(self, reference: datetime) -> "_Client":
        path = self._settings.root
        try:
            root = Path(path).read_bytes()
        except OSError as error:
            raise UpdateError(
                f"updates.root: {path}: {error.strerror}; copy root.json of the publisher's keys there, by a way that you trust"
            ) from error
        self._metadata.mkdir(parents=True, exist_ok=True)
        try:
            return _Client(self._metadata, self._settings.repository, self._fetcher, root, reference)
        except tuf.RepositoryError as error:
            raise UpdateError(f"updates.root: {path}: not a publisher's root.json: {error}") from error

    def _time(self) -> datetime:
        """The later of this machine's time and when the newest timestamp was signed that the newest root known here stands for."""
        try:
            root = Metadata[Root].from_file(str(self._metadata / "root.json")).signed
            seen = Metadata[Timestamp].from_file(str(self._metadata / "timestamp.json"))
            root.verify_delegate(Timestamp.type, seen.signed_bytes, seen.signatures)
            return max(self._now, read_time(seen.signed.unrecognized_fields[SIGNED_AT]))
        except (StorageError, tuf.RepositoryError, KeyError, ValueError):
            # Nothing was seen yet, or only what other keys signed: there is no time but the machine's. What is damaged is fetched anew.
            return self._now

    def _what_else(self, place: Place) -> str:
        targets = Metadata[Targets].from_file(str(self._metadata / "targets.json")).signed.targets
        places = sorted(filter(None, map(place_of, targets)))
        if names := [other.name for other in places if other.channel == place.channel]:
            return f'channel "{place.channel}" has no model "{place.name}"; it has {", ".join(names)}'
        channels = sorted({other.channel for other in places})
        return f'no channel "{place.channel}"; there is {", ".join(channels) or "none yet"}: set updates.channel, or publish into it'

    @contextmanager
    def _explaining(self, what: str = "") -> Iterator[None]:
        """Turn whatever the protocol, the network or the disk says into one line with what to do."""
        try:
            yield
        except _FAULTS as error:
            raise UpdateError(_one_line(f"{self._settings.repository}: {what}{self._explain(error)}")) from error

    def _explain(self, error: Exception) -> str:
        file = self._fetcher.last_file
        match error:
            case tuf.ExpiredMetadataError():
                text = self._explain_expiry(*self._client.expired())
            case tuf.UnsignedMetadataError():
                text = f"refused: {error}, not by whom {self._settings.root} leads to; if the publisher is another now, replace that file"
            case tuf.BadVersionNumberError():
                text = f"refused: older than what this gateway has seen ({error}): an old copy was put back; publish again"
            case tuf.LengthOrHashMismatchError() | tuf.DownloadLengthMismatchError():
                text = f"refused: {file} is not what was signed ({error}); copy or publish it again"
            case tuf.DownloadHTTPError(status_code=status) if status not in {403, 404}:
                text = f"the server answers {status} to {file}; try again later"
            case tuf.DownloadHTTPError(status_code=status):
                text = f"{file} is not there ({status}); is this all of the folder that vedette publish wrote?"
            case tuf.RepositoryError():
                text = f"refused: {file}: {error}"
            case OSError():
                text = f"{error.filename or 'reading or writing it'}: {error.strerror}; is the disk full, the stick still in?"
            case _:
                text = self._explain_distance(error.__cause__ or error)
        return text

    def _explain_distance(self, error: BaseException) -> str:
        reason = getattr(error, "reason", None) or error  # urllib3's own, without the retries around it
        clock = f"; this machine's clock shows {_day(self._now)}" if "certificate" in str(reason) else ""
        return f"cannot be reached: {reason}{clock}"

    def _explain_expiry(self, role: str, expired: datetime) -> str:
        clock, reference = f"this machine's clock shows {_day(self._now)}", self._time()
        if reference > self._now:
            clock += f", but the publisher has signed at {_day(reference)} already"
        remedy = "keys renew" if role == Root.type else "publish --refresh"
        return f"refused: its {role} expired {_day(expired)} ({clock}); if that is right, the publisher has to run vedette {remedy}"


class _Client(Updater):
    """python-tuf's client, and all that is taken from it beyond its public interface."""

    def __init__(self, metadata: Path, repository: str, fetcher: Fetcher, root: bytes, reference: datetime) -> None:
        base = repository.rstrip("/")
        super().__init__(str(metadata), f"{base}/metadata", target_base_url=f"{base}/targets", fetcher=fetcher, bootstrap=root)
        self._reference, self._newest = reference, fetcher
        self._trusted_set.reference_time = reference

    def expired(self) -> tuple[str, datetime]:
        """Which role it was that refresh found expired, and since when."""
        for role in (Root.type, Timestamp.type, Snapshot.type):
            signed = self._trusted_set.get(role)
            if signed and signed.is_expired(self._reference):
                return role, signed.expires
        # Expired targets are not kept; they were verified, and came last.
        return Targets.type, Metadata[Targets].from_bytes(self._newest.last_metadata).signed.expires


def _lock(folder: int) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UpdateError("another update is under way on this gateway; wait until it is done") from error


def _own(folder: Path) -> None:
    """Where root updates, leave to the agent's user what it must be able to change."""
    if os.geteuid() == 0:
        owner = folder.parent.stat()
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _one_line(text: str) -> str:
    """A message as one line of bounded length: a server that is not trusted may have had its part in the words."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
