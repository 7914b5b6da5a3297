"""`vedette model update`: take what the channel holds, one model after the other.

Rules this module keeps: what is live stays live until its successor was fetched, verified and proved; one model's failure is not another's;
what was refused on this gateway is not tried again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from vedette import updates
from vedette.config import Config, check_repository
from vedette.contract.errors import ConfigError, UpdateError, VedetteError
from vedette.contract.manifest import Manifest
from vedette.pipeline import check_fit
from vedette.store import Store
from vedette.updates import Channel


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one model.

    Attributes:
        version: Of the bundle that the channel holds, where that is known.
        result: It is `live` or on trial as `candidate` now, or was there already (`current`); `skipped`: it was refused here before.
        reason: Of a failure, or why it is skipped.
    """

    name: str
    result: Literal["live", "candidate", "current", "skipped", "failed"]
    version: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        """A line for people."""
        what = f"{self.name} {self.version}" if self.version else self.name
        return {
            "live": f"{what}  fetched, proved on this machine and live",
            "candidate": f"{what}  fetched and proved on this machine; the agent tries it beside the one that is live",
            "current": f"{what}  up to date",
            "skipped": f"{what}  was refused here: {self.reason}; if you want it nevertheless: vedette model update {self.name} --again",
            "failed": f"{what}: {self.reason}",
        }[self.result]


def update(store: Store, agent: Config, names: Sequence[str], source: str | None, given: argparse.Namespace) -> int:
    """Update models from the configured repository.

    Args:
        store: Where they go.
        agent: The configuration; its `updates` says whom to trust.
        names: Of models; those of the configured streams where there are none.
        source: Instead of the configured repository: an address, or a folder's path.
        given: The command line, for `now`, `again` and `json`.

    Returns:
        0, or 1 where a model could not be updated.

    Raises:
        ConfigError: updates are not configured.
        UpdateError: nothing newer can be had or trusted.
    """
    if agent.updates is None:
        raise ConfigError(f"{given.config}: updates: is not set, so no publisher is trusted; set updates.repository and updates.root")
    settings = msgspec.structs.replace(agent.updates, repository=_repository(source)) if source else agent.updates
    wanted = names or sorted({stream.model for stream in agent.streams})
    trial = bool(agent.trial) and not given.now
    outcomes = []
    with updates.opened(settings, Path(agent.state_dir)) as channel:
        for name in wanted:
            outcome = _update(store, agent, channel, name, trial=trial, again=given.again)
            outcomes.append(outcome)
            if outcome.result == "failed":
                print(f"vedette: {outcome}", file=sys.stderr)
            elif not given.json:
                print(outcome, flush=True)
    if given.json:
        print(msgspec.json.encode(outcomes).decode())
    return 1 if any(outcome.result == "failed" for outcome in outcomes) else 0


def _update(store: Store, agent: Config, channel: Channel, name: str, *, trial: bool, again: bool) -> Outcome:
    version: str | None = None

    def fits(manifest: Manifest) -> None:
        if (manifest.name, manifest.version) != (name, version):
            raise UpdateError(f"it is {manifest.name} {manifest.version} in truth; the publisher has to publish {name} anew")
        check_fit(agent, manifest)

    try:
        offer = channel.offer(name)
        version = offer.version
        record = store.record(name)
        if record.candidate and record.candidate.sha256 != offer.sha256:
            store.withdraw(name, record.candidate.sha256)  # its publisher has thought better of it
        if (refusal := record.refusal_of(offer.sha256)) and not again:
            return Outcome(name=name, version=version, result="skipped", reason=refusal.reason)
        live_or_tried = [entry for entry in (record.live, record.candidate) if entry and entry.sha256 == offer.sha256]
        if live_or_tried and live_or_tried[0].signed:
            return Outcome(name=name, version=version, result="current")
        with channel.fetched(offer) as path:
            became = store.install(path, signed=True, trial=trial, fits=fits).became
        return Outcome(name=name, version=version, result="current" if became == "there" else became)
    except VedetteError as error:
        return Outcome(name=name, version=version, result="failed", reason=str(error))


def _repository(source: str) -> str:
    repository = source if "://" in source else str(Path(source).resolve())
    try:
        check_repository(repository)
    except ValueError as error:
        raise ConfigError(f"--from: {str(error).removeprefix('repository: ')}") from error
    return repository
