"""A publisher with keys and a repository, and a gateway that follows it, for tests."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vedette import updates
from vedette.config import Updates
from vedette.contract import bundle as bundles
from vedette_exporter.signing.keys import KeyFolder, Role, in_days
from vedette_exporter.signing.repository import Lifetimes, Repository, State

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Publisher:
    """Keys in `folder/keys`, signing what is in `folder/repo`.

    Args:
        folder: Need not be empty of others.
        root_days: Days from NOW until the first root expires.
    """

    def __init__(self, folder: Path, root_days: float = 365.0) -> None:
        self.keys, self.repo = folder / "keys", folder / "repo"
        KeyFolder(self.keys).create(in_days(NOW, root_days))

    def publish(
        self, *data: bytes, channels: Sequence[str] = ("stable",), now: datetime = NOW, lifetimes: Lifetimes | None = None
    ) -> State:
        """Sign bundles, or only what is there, at a time."""
        opened = [(bundles.read(each), each) for each in data]
        return Repository(self.repo, KeyFolder(self.keys)).sign(opened, channels, lifetimes or Lifetimes(), now)

    def rotate(self, role: Role, now: datetime = NOW) -> None:
        """Put a new key in a role's place."""
        KeyFolder(self.keys).rotate(role, in_days(now, 365.0))

    def target(self, channel: str = "stable") -> Path:
        """The one bundle of a channel that there is a file of."""
        (path,) = (self.repo / "targets" / channel).glob("*.vedette")
        return path


class Gateway:
    """A gateway that follows a repository.

    Args:
        folder: For its state and its root.
        publisher: Whom it trusts.
        repository: Where it looks: the publisher's own folder, unless it is said.
    """

    def __init__(
        self, folder: Path, publisher: Publisher, repository: str | None = None, channel: str = "stable", ca: str | None = None
    ) -> None:
        self.state = folder / "state"
        self.root = folder / "root.json"
        self.state.mkdir(parents=True, exist_ok=True)
        shutil.copy(publisher.keys / "root.json", self.root)
        self.settings = Updates(repository=repository or str(publisher.repo), root=str(self.root), channel=channel, ca_file=ca)

    def update(self, name: str = "fridge", now: datetime = NOW) -> bytes:
        """The bundle that the channel holds, fetched."""
        with updates.opened(self.settings, self.state, now.timestamp()) as channel:
            offer = channel.offer(name)
            with channel.fetched(offer) as path:
                data = path.read_bytes()
                assert bundles.read(data).sha256 == offer.sha256
                return data

    def version(self, name: str = "fridge", now: datetime = NOW) -> str:
        """The version of the bundle that the channel holds, fetched."""
        return bundles.read(self.update(name, now)).manifest.version


def later(days: float) -> datetime:
    """Some days after NOW."""
    return NOW + timedelta(days=days)
