"""`vedette model`."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from vedette import config
from vedette.commands import add_config, parser
from vedette.store import Store


def model(arguments: Sequence[str]) -> int:
    """Install a bundle on this gateway, or list those that are here."""
    options = parser("model", model.__doc__ or "")
    actions = options.add_subparsers(dest="action", required=True)
    install = actions.add_parser("install", help="verify a bundle, prove it on this machine, and make it the active one of its name")
    install.add_argument("bundle", type=Path, metavar="FILE")
    listing = actions.add_parser("list", help="what is installed, and which version is active")
    for action in (install, listing):
        add_config(action)
        action.add_argument("--state-dir", type=Path, help="instead of the configuration's state_dir")
        action.add_argument("--json", action="store_true", help="print JSON")
    given = options.parse_args(arguments)
    store = Store(given.state_dir or Path(config.load(given.config).state_dir))
    if given.action == "install":
        manifest = store.install(given.bundle).manifest
        facts = {"name": manifest.name, "version": manifest.version, "detector": manifest.detector}
        text = f"{manifest.name} {manifest.version} ({manifest.detector}) verified, proved on this machine and active"
        print(msgspec.json.encode(facts).decode() if given.json else text)
        return 0
    models = [{"name": name, "version": version, "active": active} for name, version, active in store.installed()]
    if given.json:
        print(msgspec.json.encode(models).decode())
    for entry in [] if given.json else models:
        print(f"{entry['name']} {entry['version']}{' (active)' if entry['active'] else ''}")
    return 0
