"""`vedette publish`."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_exporter.arguments import NAME, TOPIC_PREFIX, checked, days
from vedette_exporter.signing import passphrase
from vedette_exporter.signing.keys_command import requirements

if TYPE_CHECKING:
    from vedette.contract.bundle import Bundle
    from vedette_exporter.signing.repository import State

_SOON = timedelta(days=14)


def publish(arguments: Sequence[str]) -> int:
    """Put bundles into a channel of a signed repository that gateways follow."""
    parser = argparse.ArgumentParser(prog="vedette publish", description=(publish.__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", metavar="BUNDLE", type=Path, nargs="*", help="a .vedette file; of an earlier version for the way back")
    parser.add_argument("--repo", type=Path, required=True, metavar="DIR", help="the repository's folder; made where there is none")
    parser.add_argument("--keys", type=Path, required=True, metavar="DIR", help="the folder that vedette keys create made")
    parser.add_argument(
        "--channel",
        type=checked(NAME, "lower-case letters, digits, . _ and -"),
        action="append",
        metavar="NAME",
        help="who gets it: stable (default), or another; may be given again",
    )
    parser.add_argument("--refresh", action="store_true", help="publish nothing new, but put off expiry")
    parser.add_argument(
        "--announce", metavar="BROKER", help="tell gateways over MQTT: mqtt[s]://HOST[:PORT], or a YAML file with agent.yaml's broker keys"
    )
    parser.add_argument(
        "--prefix",
        type=checked(TOPIC_PREFIX, "topic levels of letters, digits, . _ and -"),
        default="vedette",
        help="what the announcement's topic starts with (default: vedette)",
    )
    parser.add_argument(
        "--targets-days", type=days, default=180.0, metavar="N", help="days until the channels' contents expire (default: 180)"
    )
    parser.add_argument("--online-days", type=days, default=30.0, metavar="N", help="days until a refresh is needed (default: 30)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    passphrase.add_options(parser)
    given = parser.parse_args(arguments)
    if bool(given.bundles) == given.refresh:
        parser.error("name the bundles to publish, or --refresh, and not both")
    with requirements("publish"):
        return _publish(given)


def _publish(given: argparse.Namespace) -> int:
    from vedette_exporter.signing.announce import announce, read_broker
    from vedette_exporter.signing.keys import KeyFolder
    from vedette_exporter.signing.repository import Lifetimes, Repository

    broker = read_broker(given.announce) if given.announce else None
    bundles = [_prove(path) for path in given.bundles]
    keys = KeyFolder(given.keys, passphrase.obtain(given.passphrase_file, new=False))
    now = datetime.now(UTC)
    lifetimes = Lifetimes(given.targets_days, given.online_days)
    state = Repository(given.repo, keys).sign(bundles, given.channel or ["stable"], lifetimes, now)
    names = {bundle.manifest.name for bundle, _ in bundles} or {place.name for place in state.heads}
    print(_json(state) if given.json else _tell(state), flush=True)
    for role, expires in state.expires.items():
        if expires - now < _SOON:
            print(f"vedette: {role} expires {expires:%Y-%m-%d %H:%M} UTC, and gateways take no updates after that", file=sys.stderr)
    # Last: it is published whether or not the broker is there to tell of it.
    if broker:
        announce(broker, given.prefix, state.heads, names)
    return 0


def _prove(path: Path) -> tuple["Bundle", bytes]:
    """Open a bundle as a gateway would, and let it reproduce its golden scores here: nothing is signed that does not."""
    from vedette import runtimes
    from vedette.contract import bundle as contract

    opened = contract.open_bundle(path)
    contract.self_test(opened, runtimes.load_scorer(opened))
    return opened, path.read_bytes()


def _tell(state: "State") -> str:
    lines = [f"{place.channel:12} {place.name} {head.version}, sha256 {head.sha256[:12]}…" for place, head in sorted(state.heads.items())]
    expiries = ", ".join(f"{role} {expires:%Y-%m-%d}" for role, expires in state.expires.items())
    return "\n".join([*lines, f"{'expires':12} {expiries}"])


def _json(state: "State") -> str:
    channels: dict[str, dict[str, object]] = {}
    for place, head in sorted(state.heads.items()):
        channels.setdefault(place.channel, {})[place.name] = head._asdict()
    return json.dumps({"channels": channels, "expires": {role: expires.isoformat() for role, expires in state.expires.items()}})
