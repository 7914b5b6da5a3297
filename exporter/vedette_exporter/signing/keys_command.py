"""`vedette keys`."""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from vedette.contract.errors import VedetteError
from vedette_exporter.arguments import days
from vedette_exporter.signing import passphrase

ROOT_DAYS = 365.0
_OURS = {"vedette", "vedette_exporter", "vedette_training"}


def keys(arguments: Sequence[str]) -> int:
    """Make the keys that sign bundles for a fleet, replace one, or put off the root's expiry."""
    parser = argparse.ArgumentParser(prog="vedette keys", description=(keys.__doc__ or "").splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make root, targets and online keys, and the root that gateways trust")
    rotate = actions.add_parser("rotate", help="put a new key in a role's place; gateways follow with their next update")
    renew = actions.add_parser("renew", help="put off the root's expiry, with the same keys")
    rotate.add_argument("role", choices=("root", "targets", "online"), metavar="ROLE", help="root, targets or online")
    create.add_argument("keys", type=Path, metavar="DIR", help="where to")
    for action in (rotate, renew):
        action.add_argument("--keys", type=Path, required=True, metavar="DIR", help="the folder that vedette keys create made")
    for action in (create, rotate, renew):
        action.add_argument(
            "--days", type=days, default=ROOT_DAYS, metavar="N", help=f"days until the root expires (default: {ROOT_DAYS:.0f})"
        )
        action.add_argument("--json", action="store_true", help="print the result as JSON")
        passphrase.add_options(action)
    given = parser.parse_args(arguments)
    with requirements("keys"):
        return _act(given)


def _act(given: argparse.Namespace) -> int:
    from vedette_exporter.signing.keys import ROLES, KeyFolder, in_days

    secret = passphrase.obtain(given.passphrase_file, new=given.action == "create")
    folder = KeyFolder(given.keys, secret)
    expires = in_days(datetime.now(UTC), given.days)
    if given.action == "create":
        root = folder.create(expires)
    elif given.action == "rotate":
        root = folder.rotate(given.role, expires)
    else:
        root = folder.renew(expires)
    keyids = {role: root.roles[duties[0]].keyids[0] for role, duties in ROLES.items()}
    if given.json:
        print(
            json.dumps(
                {"root": str(given.keys / "root.json"), "version": root.version, "expires": root.expires.isoformat(), "keys": keyids}
            )
        )
        return 0
    for role, keyid in keyids.items():
        print(f"{role:8} {keyid[:8]}{'   new' if given.action == 'rotate' and given.role == role else ''}")
    print(f"root     version {root.version}, expires {root.expires:%Y-%m-%d}: {given.keys / 'root.json'}")
    if given.action == "create":
        print(
            f"private  {'encrypted with your passphrase' if secret else 'NOT encrypted: whoever reads these files can sign'}\n"
            f"next     copy {given.keys / 'root.json'} to every gateway; keep root-{keyids['root'][:8]}.pem offline, in two places"
        )
    else:
        print("next     vedette publish --refresh: gateways learn of it from there")
    return 0


@contextmanager
def requirements(command: str) -> Iterator[None]:
    """Say what to install where a library is missing.

    Raises:
        VedetteError: one is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        raise VedetteError(f"vedette {command} needs {error.name}, which is not installed: pip install 'vedette[publish]'") from error
