"""Who looks and whose files are looked at: a check sees with the eyes of the user who runs the service, so that what root may read hides
nothing, and nothing of root's is left behind.
"""

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVICE_USER = "vedette"
"""User= of systemd/vedette.service."""


@contextmanager
def seen_as_service(state_dir: Path) -> Iterator[str | None]:
    """Where root asks, look in this block as the user who runs the service: the one of systemd's unit, or else whom the state belongs to.
    Gives that user's name; None where this process looks as who it is.
    """
    user = _service_user(state_dir) if os.geteuid() == 0 else None
    if user is None:
        yield None
        return
    groups, group = os.getgroups(), os.getegid()
    os.initgroups(user.pw_name, user.pw_gid)
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield user.pw_name
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _service_user(state_dir: Path) -> pwd.struct_passwd | None:
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        try:
            user = pwd.getpwuid(state_dir.stat().st_uid)
        except (OSError, KeyError):
            return None
    return user if user.pw_uid else None


def is_service_user() -> bool:
    """Whether this process sees what the service sees: it runs as its user, or this machine has no user of that name."""
    try:
        return pwd.getpwnam(SERVICE_USER).pw_uid == os.geteuid()
    except KeyError:
        return True


def owner(path: Path) -> str:
    """User and group, as chown takes them."""
    found = path.lstat()
    return ":".join(names(found.st_uid, found.st_gid))


def names(uid: int, gid: int) -> tuple[str, str]:
    """Of a user and a group; their numbers where they have none."""
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    try:
        return user, grp.getgrgid(gid).gr_name
    except KeyError:
        return user, str(gid)
