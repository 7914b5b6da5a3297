"""The files that a configuration names for logging in and for trusting others: what `vedette check` finds of them."""

import os
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from vedette import config
from vedette.commands.certificates import expiry
from vedette.commands.findings import Found
from vedette.commands.users import names
from vedette.contract.errors import ConfigError

_SOON_S = 30 * 86400
_SECRET = {"broker.password_file", "broker.key_file"}
_CERTIFICATES = {"broker.cert_file", "broker.ca_file", "updates.ca_file"}


def look_at_credentials(agent: config.Config) -> Iterator[Found]:
    """Files that the configuration names: there, readable, for nobody else where secret, and valid for a while yet."""
    files, is_whole = _named(agent), True
    for key, path in files.items():
        try:
            yield from _look_at_file(key, path)
        except ConfigError as error:
            is_whole = False
            yield Found("fault", str(error))
    if agent.broker.cert_file and is_whole:
        yield from _look_at_pair(files["broker.cert_file"], files["broker.key_file"])
    if files:
        yield Found("ok", f"{', '.join(files)} can be read")
    else:
        yield Found("ok", "a username alone" if agent.broker.username else "none are configured: the agent is anonymous to the broker")


def _named(agent: config.Config) -> dict[str, Path]:
    named = {f"broker.{key}": getattr(agent.broker, key) for key in ("password_file", "key_file", "cert_file", "ca_file")}
    if agent.updates:
        named |= {"updates.root": agent.updates.root, "updates.ca_file": agent.updates.ca_file}
    return {key: Path(os.path.expandvars(name)) for key, name in named.items() if name}


def _look_at_file(key: str, path: Path) -> Iterator[Found]:
    """One of them.

    Raises:
        ConfigError: it cannot be read.
    """
    if "$" in str(path):
        yield Found("note", f"{key}: {path} is there for the service only (LoadCredential=), and is not looked at")
        return
    try:
        with path.open("rb") as file:
            file.read(1)
    except PermissionError as error:
        me, group = names(os.geteuid(), os.getegid())
        mend = f"chgrp {group} {path} && chmod 640 {path}, and let {me} into its folders"
        raise ConfigError(f"{key}: {path} cannot be read by {me}: {mend}") from error
    except OSError as error:
        raise ConfigError(f"{key}: {path}: {error.strerror}") from error
    if key in _SECRET and _is_open_to_all(path):
        yield Found("fault", f"{key}: {path} can be read by everybody on this machine: chmod o= {path}")
    if key in _CERTIFICATES:
        yield from _look_at_certificate(key, path)


def _look_at_pair(certificate: Path, key: Path) -> Iterator[Found]:
    if "$" in f"{certificate}{key}":
        return
    try:
        ssl.create_default_context().load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        wrong = "do not go together, or the key needs a passphrase, which nobody is there to give"
        yield Found("fault", f"broker.cert_file and key_file {wrong}: {error}")


def _look_at_certificate(key: str, path: Path) -> Iterator[Found]:
    try:
        until = expiry(path)
    except ValueError as error:
        yield Found("fault", f"{key}: {path}: {error}")
        return
    left_s, day = until - time.time(), time.strftime("%Y-%m-%d", time.gmtime(until))
    if left_s < 0:
        yield Found("fault", f"{key}: {path} has expired on {day}; get a new one")
    elif left_s < _SOON_S:
        yield Found("note", f"{key}: {path} expires on {day}, in {left_s / 86400:.0f} days; get a new one, then: systemctl reload vedette")


def _is_open_to_all(path: Path) -> bool:
    """Whether others may read a file: its own mode, and a way to it."""
    ways = path.resolve().parents
    return bool(path.stat().st_mode & stat.S_IROTH) and all(way.stat().st_mode & stat.S_IXOTH for way in ways)
