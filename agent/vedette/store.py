"""The store: bundles on the gateway's disk, `models/NAME/VERSION.vedette`, and `models/NAME/record.json`, which says which of them is live.

Rules this module keeps: nothing is named in a record that was not verified and proved on this machine, in a process of its own; a
file is complete and on the disk before it has its name, and every switch is the one rename of a record, so power may fail between any two
lines; one process at a time changes the store; what is live is loaded only if it still has the digest that was proved; a version's contents
never change; what was refused on this gateway is not tried again unless somebody asks for it by hand.
"""

import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from vedette.contract.bundle import SUFFIX, Bundle, open_bundle, read, read_file, self_test
from vedette.contract.errors import BundleError, ConfigError, DigestError, ScoreError
from vedette.contract.manifest import Manifest
from vedette.contract.scores import Scorer
from vedette.disk import sync_folder
from vedette.proving import prove
from vedette.records import Entry, Record
from vedette.runtimes import load_scorer

log = logging.getLogger(__name__)

MAX_STARTS = 3
"""An agent that ended without notice so often, each time before its new model had settled, has that model to thank. A power cut or two
look the same, so it is not one.
"""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RECORD = "record.json"
_PATIENCE_S, _BRIEF_PATIENCE_S = 180.0, 5.0
"""How long to wait for another process that changes the store: it may be proving a bundle."""


class Loaded(NamedTuple):
    """A bundle that was verified and scores here as where it was made, and its models, ready to score."""

    bundle: Bundle
    scorer: Scorer


class Installed(NamedTuple):
    """What became of a bundle that was to be installed: it is `live` or a `candidate` now, or was `there` already."""

    manifest: Manifest
    sha256: str
    became: Literal["live", "candidate", "there"]


class Store:
    """Bundles below one folder.

    Args:
        state_dir: The agent's state; it need not exist before something is installed.
        signed_only: Nothing goes live that did not come through a signed update.
    """

    def __init__(self, state_dir: Path, *, signed_only: bool = False) -> None:
        self._state_dir, self._signed_only = state_dir, signed_only
        self._models = state_dir / "models"

    def names(self) -> list[str]:
        """Models of which something is here."""
        return sorted(path.parent.name for path in self._models.glob(f"*/{_RECORD}"))

    def record(self, name: str) -> Record:
        """What is known of a model; an empty record where nothing is.

        Raises:
            ConfigError: no model can have that name.
            BundleError: the record cannot be read.
        """
        path = self.record_file(name)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Record)
        except (FileNotFoundError, NotADirectoryError):
            return Record()
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BundleError(f"{path}: damaged ({error}); delete it and install the model again") from error

    def record_file(self, name: str) -> Path:
        """Where a model's record is: a new file after every change.

        Raises:
            ConfigError: no model can have that name.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f'"{name}" cannot be a model: a name has lower-case letters, digits, . _ and -')
        return self._models / name / _RECORD

    def file(self, name: str, version: str) -> Path:
        """Where a kept bundle is."""
        return self._models / name / f"{version}{SUFFIX}"

    def open_live(self, name: str) -> Loaded:
        """Verify, load and self-test what is live.

        Raises:
            ConfigError: nothing is, or nothing that may be.
            BundleError: it is not what was installed, or scores differently here.
            ScoreError: a runtime is missing or refuses a model.
        """
        return self.open(name, self._live(name))

    def open(self, name: str, entry: Entry) -> Loaded:
        """Verify, load and self-test an entry's bundle.

        Raises:
            ConfigError: it came unsigned where signing is on.
            BundleError: it is not what was installed, or scores differently here.
            ScoreError: a runtime is missing or refuses a model.
        """
        self._allow(name, entry)
        path = self.file(name, entry.version)
        bundle = open_bundle(path)
        if bundle.sha256 != entry.sha256:
            raise DigestError(f"{path}: not the file that was installed; install it again")
        scorer = load_scorer(bundle)
        self_test(bundle, scorer)
        return Loaded(bundle, scorer)

    def start_live(self, name: str, *, again: bool = False) -> tuple[Entry, Loaded]:
        """Open what is live for an agent that begins to run it; where that is damaged, or again and again brings the agent down, what was
        live before.

        Args:
            name: The model.
            again: The agent runs already, and has brought itself to begin once more: that is nothing against the model.

        Raises:
            ConfigError: nothing is, or nothing that may be.
            BundleError: as `open_live`, and there is no way back.
            ScoreError: as `open_live`, and there is no way back.
        """
        entry = self._live(name)
        if not again and not entry.settled and entry.starts >= MAX_STARTS and self._has_way_back(name):
            self._go_back(name, f"the agent ended {entry.starts} times soon after it had begun to run it")
            entry = self._live(name)
        self.begin(name, entry.sha256)
        try:
            return entry, self.open(name, entry)
        except (BundleError, ScoreError) as error:
            if not self._has_way_back(name):
                raise
            self._go_back(name, str(error))
        entry = self._live(name)
        return entry, self.open(name, entry)

    def install(
        self, path: Path, *, signed: bool = False, trial: bool = False, fits: Callable[[Manifest], None] | None = None
    ) -> Installed:
        """Verify a bundle, prove it in a process of its own, and keep it.

        Args:
            path: The file; it is read once, what is proved is what is kept.
            signed: Its digest is that of a signed update.
            trial: A running agent is to try it beside what is live; otherwise, and where nothing is live, it is live at once.
            fits: Raises ConfigError where the streams that use the model cannot feed this one.

        Raises:
            ConfigError: it came unsigned where signing is on, or does not fit.
            BundleError: it does not verify, does not prove itself here, or cannot be stored.
            ScoreError: a runtime is missing or refuses a model.
        """
        if self._signed_only and not signed:
            raise ConfigError(f"{path}: signing is on (updates in agent.yaml): only vedette model update brings models in")
        data = read_file(path)
        try:
            bundle = read(data)
        except BundleError as error:
            raise type(error)(f"{path}: {error}") from error
        manifest, digest = bundle.manifest, bundle.sha256
        if fits:
            fits(manifest)
        with self._changing(manifest.name) as record:
            entry = Entry(version=manifest.version, sha256=digest, signed=signed)
            role = record.role_of(digest)
            on_trial = trial and record.live is not None
            if role == "live" or (role == "candidate" and on_trial):
                held = record.live if role == "live" else record.candidate
                if held and signed and not held.signed:
                    self._write(manifest.name, msgspec.structs.replace(record, **{role: msgspec.structs.replace(held, signed=True)}))
                return Installed(manifest, digest, "there")
            for other in filter(None, (record.live, record.previous, record.candidate)):
                if other.version == entry.version and other.sha256 != digest:
                    raise BundleError(
                        f"{path}: {manifest.name} {entry.version} is installed already with other contents; "
                        "give this one another version (vedette export --version)"
                    )
            self._keep(manifest, data)
            wanted = record.without_refusal(entry)
            self._write(manifest.name, msgspec.structs.replace(wanted, candidate=entry) if on_trial else wanted.with_live(entry))
            return Installed(manifest, digest, "candidate" if on_trial else "live")

    def activate(self, name: str, version: str) -> Entry:
        """Make a version that is kept here the live one, whatever was said of it before.

        Raises:
            ConfigError: it is not here, or came unsigned where signing is on.
            BundleError: it no longer proves itself here.
            ScoreError: a runtime is missing or refuses a model.
        """
        with self._changing(name) as record:
            if record.live and record.live.version == version:
                return record.live
            entry = next((e for e in (record.candidate, record.previous) if e and e.version == version), None)
            if entry is None:
                kept = ", ".join(e.version for e in (record.live, record.candidate, record.previous) if e) or "nothing"
                raise ConfigError(f"{name} {version} is not kept here (kept: {kept}); install its file again")
            entry = msgspec.structs.replace(self._proved(name, entry), settled=False, starts=0)
            self._write(name, record.without_refusal(entry).with_live(entry))
            return entry

    def rollback(self, name: str, reason: str = "rolled back by hand") -> Entry:
        """Make what was live before live again, and refuse what is live now.

        Raises:
            ConfigError: there is no way back.
            BundleError: what was live before no longer proves itself here.
            ScoreError: a runtime is missing or refuses a model.
        """
        with self._changing(name) as record:
            live, previous = record.live, record.previous
            if not live or not previous:
                raise ConfigError(f"{name}: there is no version to go back to")
            if refusal := record.refusal_of(previous.sha256):
                raise ConfigError(
                    f"{name}: {previous.version}, which was live before, was refused here ({refusal.reason}); "
                    f"if you want it nevertheless: vedette model activate {name} {previous.version}"
                )
            entry = msgspec.structs.replace(self._proved(name, previous), settled=True, starts=0)
            self._write(name, record.with_refusal(live, reason).with_live(entry))
            return entry

    def promote(self, name: str, sha256: str) -> None:
        """Make the candidate live, if it is still this one: its trial has gone well.

        Raises:
            BundleError: the store cannot be written.
        """
        self._end_trial(name, sha256, Record.with_live)

    def reject(self, name: str, sha256: str, reason: str) -> None:
        """Refuse the candidate, if it is still this one.

        Raises:
            BundleError: the store cannot be written.
        """
        self._end_trial(name, sha256, lambda record, entry: msgspec.structs.replace(record.with_refusal(entry, reason), candidate=None))

    def withdraw(self, name: str, sha256: str) -> None:
        """End the candidate's trial, if it is still this one, without a word against it: its publisher has put another in its place.

        Raises:
            BundleError: the store cannot be written.
        """
        self._end_trial(name, sha256, lambda record, _: msgspec.structs.replace(record, candidate=None))

    def _end_trial(self, name: str, sha256: str, change: Callable[[Record, Entry], Record]) -> None:
        with self._changing(name) as record:
            if record.candidate and record.candidate.sha256 == sha256:
                self._write(name, change(record, record.candidate))

    def begin(self, name: str, sha256: str) -> None:
        """Remember, before a bundle is loaded, that an agent begins to run it."""
        self._mark(name, sha256, lambda entry: msgspec.structs.replace(entry, starts=entry.starts + 1))

    def end(self, name: str, sha256: str) -> None:
        """Take `begin` back: the agent stopped in good order."""
        self._mark(name, sha256, lambda entry: msgspec.structs.replace(entry, starts=max(0, entry.starts - 1)))

    def settle(self, name: str, sha256: str) -> None:
        """Remember that a bundle has run for a while without harm."""
        self._mark(name, sha256, lambda entry: msgspec.structs.replace(entry, settled=True, starts=0))

    def _mark(self, name: str, sha256: str, change: Callable[[Entry], Entry]) -> None:
        """Change an entry that has not settled. Where that cannot be written, scoring is worth more than the count."""
        try:
            record = self.record(name)
            entry = record.candidate if record.role_of(sha256) == "candidate" else record.live
            if entry is None or entry.sha256 != sha256 or entry.settled:
                return
            with self._changing(name, _BRIEF_PATIENCE_S) as record:
                role = record.role_of(sha256)
                if role in {"live", "candidate"}:
                    self._write(name, msgspec.structs.replace(record, **{role: change(getattr(record, role))}))
        except BundleError as error:
            log.warning("model %s: %s", name, error)

    def _has_way_back(self, name: str) -> bool:
        """Whether a rollback would be allowed."""
        record = self.record(name)
        previous = record.previous
        return previous is not None and record.refusal_of(previous.sha256) is None and (previous.signed or not self._signed_only)

    def _go_back(self, name: str, reason: str) -> None:
        refused = self._live(name)
        entry = self.rollback(name, reason)
        log.warning("model %s: back to %s; %s is refused: %s", name, entry.version, refused.version, reason)

    def _live(self, name: str) -> Entry:
        live = self.record(name).live
        if live is None:
            raise ConfigError(f'no model "{name}" in {self._models}; put one there with: vedette model install FILE{SUFFIX}')
        return live

    def _allow(self, name: str, entry: Entry) -> None:
        if self._signed_only and not entry.signed:
            raise ConfigError(f"{name} {entry.version} came unsigned, and signing is on (updates in agent.yaml): run vedette model update")

    def _proved(self, name: str, entry: Entry) -> Entry:
        self._allow(name, entry)
        path = self.file(name, entry.version)
        if prove(path).sha256 != entry.sha256:
            raise DigestError(f"{path}: not the file that was installed; install it again")
        return entry

    def _keep(self, manifest: Manifest, data: bytes) -> None:
        """Write a bundle, prove what was written, and give it its name."""
        path = self.file(manifest.name, manifest.version)
        unproved = path.with_name(f".{path.name}")
        self._write_out(unproved, data)
        try:
            prove(unproved)
            unproved.replace(path)
        except (BundleError, ScoreError) as error:
            unproved.unlink()
            # Whoever installs it knows it by its name, not by where it was tried.
            raise type(error)(str(error).replace(str(unproved), f"{manifest.name} {manifest.version}")) from error
        sync_folder(path.parent)

    def _write(self, name: str, record: Record) -> None:
        path = self.record_file(name)
        fresh = path.with_name(f".{path.name}")
        self._write_out(fresh, msgspec.json.format(msgspec.json.encode(record), indent=1))
        fresh.replace(path)
        sync_folder(path.parent)
        kept = {path.name} | {f"{e.version}{SUFFIX}" for e in (record.live, record.previous, record.candidate) if e}
        for file in path.parent.iterdir():
            if file.name not in kept:
                file.unlink()

    @contextmanager
    def _changing(self, name: str, patience_s: float = _PATIENCE_S) -> Iterator[Record]:
        """A model's record, with nobody else changing the store."""
        folder = self.record_file(name).parent
        try:
            self._models.mkdir(parents=True, exist_ok=True)
            with (self._models / ".lock").open("wb") as lock:
                _lock(lock.fileno(), patience_s)
                folder.mkdir(exist_ok=True)
                for made in (self._models, self._models / ".lock", folder):
                    self._own(made)
                for parent in (self._state_dir, self._models):
                    sync_folder(parent)
                yield self.record(name)
        except OSError as error:
            raise BundleError(f"{error.filename or folder}: {error.strerror}; is this user allowed to write there?") from error

    def _write_out(self, path: Path, data: bytes) -> None:
        try:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._own(path)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def _own(self, path: Path) -> None:
        """Where root installs, leave to the agent's user what it must be able to change."""
        if os.geteuid() == 0:
            owner = self._state_dir.stat()
            os.chown(path, owner.st_uid, owner.st_gid)


def _lock(descriptor: int, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise BundleError("another process has been changing the models for minutes; is a vedette model command stuck?") from error
            time.sleep(0.02)
        else:
            return
