"""`vedette model`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from vedette import config
from vedette.commands import add_config, needing_updates, parser
from vedette.config import Config
from vedette.contract.bundle import SUFFIX, open_bundle
from vedette.contract.errors import ConfigError
from vedette.contract.manifest import Manifest
from vedette.pipeline import check_fit
from vedette.proving import prove
from vedette.records import Entry, Record
from vedette.store import Store


class _Gateway(NamedTuple):
    """Whose models they are; no configuration where --state-dir stands in for it."""

    store: Store
    config: Config | None


def model(arguments: Sequence[str]) -> int:
    """Install, update, try, list, verify and take back the models on this gateway."""
    options = parser("model", model.__doc__ or "")
    actions = options.add_subparsers(dest="action", required=True)

    def action(name: str, run: Callable[[_Gateway, argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=help_, description=help_)
        add_config(added)
        added.add_argument("--state-dir", type=Path, help="instead of the configuration, of which nothing is read then")
        added.add_argument("--json", action="store_true", help="print JSON")
        added.set_defaults(run=run)
        return added

    install = action("install", _install, "verify a bundle, prove it on this machine, and let it go live")
    install.add_argument("bundle", type=Path, metavar="FILE")
    install.add_argument("--now", action="store_true", help="live at once, without the trial that the configuration asks for")
    action("list", _list, "what is here: live, on trial, kept to go back to, and refused")
    verify = action("verify", _verify, "let a bundle, installed or not, prove itself on this machine again; changes nothing")
    verify.add_argument("bundle", metavar="NAME|FILE")
    activate = action("activate", _activate, "make a version that is kept here live at once")
    activate.add_argument("name", metavar="NAME")
    activate.add_argument("version", metavar="VERSION")
    rollback = action("rollback", _rollback, "go back to the version that was live before, and refuse the present one")
    rollback.add_argument("name", metavar="NAME")
    update = action("update", _update, "take what the publisher has signed for this gateway's channel")
    update.add_argument("names", metavar="NAME", nargs="*", help="models (default: those of the configured streams)")
    update.add_argument(
        "--from", dest="source", metavar="DIR|URL", help="instead of the configured repository, such as a USB stick's folder"
    )
    update.add_argument("--again", action="store_true", help="take also what was rejected or rolled back here before")
    update.add_argument("--now", action="store_true", help="live at once, without the trial that the configuration asks for")

    given = options.parse_args(arguments)
    agent = None if given.state_dir else config.load(given.config)
    store = Store(given.state_dir or Path(agent.state_dir if agent else ""), signed_only=agent is not None and agent.updates is not None)
    code: int = given.run(_Gateway(store, agent), given)
    return code


def _install(gateway: _Gateway, given: argparse.Namespace) -> int:
    agent = gateway.config
    on_trial = bool(agent and agent.trial and not given.now)

    def fits(manifest: Manifest) -> None:
        if agent:
            check_fit(agent, manifest)

    installed = gateway.store.install(given.bundle, trial=on_trial, fits=fits)
    manifest = installed.manifest
    what = f"{manifest.name} {manifest.version} ({manifest.detector}) verified, proved on this machine"
    facts = {"name": manifest.name, "version": manifest.version, "detector": manifest.detector, "became": installed.became}
    text = {
        "live": f"{what} and live",
        "candidate": f"{what}; the agent tries it for {agent.trial if agent else ''} beside the one that is live (at once: --now)",
        "there": f"{manifest.name} {manifest.version} is here already, as {gateway.store.record(manifest.name).role_of(installed.sha256)}",
    }
    _print(given, facts, text[installed.became])
    return 0


def _list(gateway: _Gateway, given: argparse.Namespace) -> int:
    records = {name: gateway.store.record(name) for name in gateway.store.names()}
    _print(given, [{"name": name, **msgspec.to_builtins(record)} for name, record in records.items()], None)
    if not given.json:
        for name, record in records.items():
            print("\n".join(_lines(name, record)))
        if not records:
            print("no model is here yet; put one here with: vedette model install FILE", file=sys.stderr)
    return 0


def _lines(name: str, record: Record) -> list[str]:
    """A record for people."""
    roles: list[tuple[str, Entry | None]] = [("live", record.live), ("on trial", record.candidate), ("kept to go back to", record.previous)]
    lines = [f"{name} {entry.version}  {role}{', signed' if entry.signed else ''}" for role, entry in roles if entry]
    for refusal in record.refused:
        when = datetime.fromtimestamp(refusal.time, UTC)
        lines.append(f"{name} {refusal.version}  refused {when:%Y-%m-%d %H:%M} UTC: {refusal.reason}")
    return lines


def _verify(gateway: _Gateway, given: argparse.Namespace) -> int:
    path = Path(given.bundle)
    expected = None
    if not path.exists() and path.suffix != SUFFIX:
        live = gateway.store.record(given.bundle).live
        if live is None:
            raise ConfigError(f"{given.bundle}: no model of that name is live here, and no file is called that")
        path, expected = gateway.store.file(given.bundle, live.version), live.sha256
    manifest, proof = open_bundle(path).manifest, prove(path)
    if expected and proof.sha256 != expected:
        raise ConfigError(f"{path}: not the file that was installed; install it again")
    facts = {"name": manifest.name, "version": manifest.version, **msgspec.to_builtins(proof)}
    took = f"{proof.us_per_window:g} us each, {proof.peak_bytes / 1e6:.0f} MB at most"
    text = f"{proof.windows} golden windows score here as where they were made (differ by at most {proof.largest_difference:.1g}), {took}"
    _print(given, facts, f"{manifest.name} {manifest.version} ({manifest.detector}): whole\n{text}\nsha256 {proof.sha256}")
    return 0


def _activate(gateway: _Gateway, given: argparse.Namespace) -> int:
    entry = gateway.store.activate(given.name, given.version)
    _print(given, {"name": given.name, "live": entry.version}, f"{given.name} {entry.version} is live")
    return 0


def _rollback(gateway: _Gateway, given: argparse.Namespace) -> int:
    refused = gateway.store.record(given.name).live
    entry = gateway.store.rollback(given.name)
    facts = {"name": given.name, "live": entry.version, "refused": refused.version if refused else None}
    _print(given, facts, f"{given.name} {entry.version} is live again; {facts['refused']} is refused until somebody asks for it by hand")
    return 0


def _update(gateway: _Gateway, given: argparse.Namespace) -> int:
    if gateway.config is None:
        raise ConfigError("vedette model update needs the configuration, which says whom to trust: give it -c FILE rather than --state-dir")
    with needing_updates():
        from vedette.commands.update import update
    return update(gateway.store, gateway.config, given.names, given.source, given)


def _print(given: argparse.Namespace, facts: object, text: str | None) -> None:
    if given.json:
        print(msgspec.json.encode(facts).decode())
    elif text:
        print(text)
