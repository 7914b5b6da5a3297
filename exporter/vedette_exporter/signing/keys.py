"""The publisher's keys, and the chain of roots that tells gateways which keys to trust.

Rules this module keeps: a private key is written before the root that names it, and removed only once another root is written, so that
whenever power fails the keys of the newest root are there; a private key is readable by its owner alone; a root is signed by its own
key and by its predecessor's, so that a gateway that holds any one root can follow the chain to the newest.

A key folder: `root.json`, the newest root, for gateways; `N.root.json`, the chain; `ROLE-KEYID.pem`, the private keys (PKCS #8).
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization.json import JSONSerializer

from vedette.contract.errors import SigningError
from vedette_exporter.files import write_whole

Role = Literal["root", "targets", "online"]
ROLES: dict[Role, tuple[str, ...]] = {"root": ("root",), "targets": ("targets",), "online": ("snapshot", "timestamp")}
"""Our roles, and those of TUF that each one's key signs."""


class KeyFolder:
    """Keys in a folder.

    Args:
        folder: Where they are, or will be.
        passphrase: What private keys are encrypted with, if they are.
    """

    def __init__(self, folder: Path, passphrase: bytes | None = None) -> None:
        self._folder, self._passphrase = folder, passphrase

    @property
    def chain(self) -> dict[int, bytes]:
        """Every root's bytes by version, oldest first.

        Raises:
            SigningError: there is none.
        """
        try:
            paths = {path.name.partition(".")[0]: path for path in self._folder.glob("*.root.json")}
            found = {int(version): path.read_bytes() for version, path in paths.items() if version.isdigit()}
        except OSError as error:
            raise SigningError(f"{error.filename}: {error.strerror}") from error
        if not found:
            raise SigningError(f"{self._folder}: no keys there; make them with: vedette keys create {self._folder}")
        return dict(sorted(found.items()))

    @property
    def root(self) -> Root:
        """The newest root."""
        return read_root(list(self.chain.values())[-1], self._folder).signed

    def create(self, expires: datetime) -> Root:
        """Make a key for every role, and the first root.

        Raises:
            SigningError: there are keys already, or the folder cannot be written.
        """
        if self._folder.exists() and any(self._folder.glob("*.root.json")):
            raise SigningError(f"{self._folder}: has keys already; vedette keys rotate replaces one")
        root = Root(version=1, expires=expires, consistent_snapshot=True)
        signers = {role: self._generate(role) for role in ROLES}
        for role, signer in signers.items():
            for duty in ROLES[role]:
                root.add_key(signer.public_key, duty)
        return self._write(root, [signers["root"]])

    def rotate(self, role: Role, expires: datetime) -> Root:
        """Put a new key in a role's place. Gateways trust the new one from the next `vedette publish` on.

        Raises:
            SigningError: the root's key is not there or does not open, or the folder cannot be written.
        """
        root = self.root
        signers = [self.signer("root")]
        new = self._generate(role)
        old = {keyid for duty in ROLES[role] for keyid in root.roles[duty].keyids}
        for duty in ROLES[role]:
            for keyid in list(root.roles[duty].keyids):
                root.revoke_key(keyid, duty)
            root.add_key(new.public_key, duty)
        if role == "root":
            signers.append(new)
        renewed = self._succeed(root, expires, signers)
        for keyid in old:
            self._path(role, keyid).unlink(missing_ok=True)
        return renewed

    def renew(self, expires: datetime) -> Root:
        """Put off the root's expiry, with the same keys.

        Raises:
            SigningError: as `rotate`.
        """
        return self._succeed(self.root, expires, [self.signer("root")])

    def signer(self, role: Role) -> CryptoSigner:
        """Open a role's private key.

        Raises:
            SigningError: it is not there, or the passphrase does not open it.
        """
        root = self.root
        keyid = root.roles[ROLES[role][0]].keyids[0]
        path = self._path(role, keyid)
        try:
            private = load_pem_private_key(path.read_bytes(), self._passphrase)
        except OSError as error:
            raise SigningError(
                f"{path}: the {role} key is needed for this: {error.strerror}; put it back for as long as it takes"
            ) from error
        except TypeError as error:  # cryptography's own for a passphrase too many or too few
            what = "is not encrypted, but a passphrase was given" if self._passphrase else "is encrypted, and no passphrase was given"
            raise SigningError(f"{path}: {what}") from error
        except ValueError as error:
            raise SigningError(f"{path}: the passphrase does not open it, or it is damaged") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise SigningError(f"{path}: not an Ed25519 key")
        signer = CryptoSigner(private)
        if signer.public_key.keyid != keyid:
            raise SigningError(f"{path}: not the key that the newest root names")
        return signer

    def has(self, role: Role) -> bool:
        """Whether a role's private key is in the folder."""
        return self._path(role, self.root.roles[ROLES[role][0]].keyids[0]).exists()

    def _path(self, role: Role, keyid: str) -> Path:
        return self._folder / f"{role}-{keyid[:8]}.pem"

    def _generate(self, role: Role) -> CryptoSigner:
        private = Ed25519PrivateKey.generate()
        signer = CryptoSigner(private)
        encryption: KeySerializationEncryption = BestAvailableEncryption(self._passphrase) if self._passphrase else NoEncryption()
        data = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path(role, signer.public_key.keyid), data, mode=0o600)
        except OSError as error:
            raise SigningError(f"{error.filename}: {error.strerror}") from error
        return signer

    def _succeed(self, root: Root, expires: datetime, signers: list[CryptoSigner]) -> Root:
        root.version += 1
        root.expires = expires
        return self._write(root, signers)

    def _write(self, root: Root, signers: list[CryptoSigner]) -> Root:
        metadata = Metadata(root)
        for signer in signers:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes(JSONSerializer())
        try:
            write_whole(self._folder / f"{root.version}.root.json", data)
            write_whole(self._folder / "root.json", data)
        except OSError as error:
            raise SigningError(f"{error.filename}: {error.strerror}") from error
        return root


def read_root(data: bytes, whose: Path) -> Metadata[Root]:
    """Read a root and check that it is signed by its own key.

    Raises:
        SigningError: it is damaged.
    """
    try:
        metadata = Metadata[Root].from_bytes(data)
        metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except RepositoryError as error:
        raise SigningError(f"{whose}: a root in it is damaged: {error}; put it back from a copy") from error
    return metadata


def in_days(now: datetime, days: float) -> datetime:
    """A time so many days from now, to the second as TUF wants it."""
    return (now + timedelta(days=days)).replace(microsecond=0)
