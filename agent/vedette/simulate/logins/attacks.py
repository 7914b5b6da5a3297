"""Attacks on accounts: how they are written, and how a schedule of them is drawn.

What each attack does is in `intrusions`; here is only *which, whose and when*.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, get_args

import msgspec

from vedette.contract.durations import parse_duration
from vedette.contract.errors import VedetteError
from vedette.simulate.faults import name_range
from vedette.simulate.logins.chance import Chance
from vedette.simulate.logins.users import User

Kind = Literal["credential_stuffing", "impossible_travel", "dormant_account", "privilege_escalation", "token_refresh_storm"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_DAY_S: Final = 86400.0
# How long an account has been silent when somebody finds it. A named account is made silent for longer.
_DORMANT_S, SILENCED_S = 10 * _DAY_S, 21 * _DAY_S
# Between two drawn attacks on an account, so that each is judged by itself.
_REST_S: Final = 2 * _DAY_S
# Nobody is attacked in the first hours: a detector's windows shall fill with normal rows.
_QUIET_S: Final = 6 * 3600.0

# Shortest and longest drawn duration, seconds.
_DURATIONS_S: Final[dict[Kind, tuple[float, float]]] = {
    "credential_stuffing": (12 * 60.0, 40 * 60.0),
    "impossible_travel": (20 * 60.0, 60 * 60.0),
    "dormant_account": (2 * 3600.0, 6 * 3600.0),
    "privilege_escalation": (15 * 60.0, 50 * 60.0),
    "token_refresh_storm": (3 * 60.0, 7 * 60.0),
}
# Of the stuffings, those that go through a list of accounts and stay with each for minutes only.
_LISTED_SHARE: Final = 0.6
_LISTED_ACCOUNTS: Final = (4, 11)
_LISTED_S: Final = (150.0, 420.0)


class AttackError(VedetteError, ValueError):
    """An attack cannot be put into the simulation as asked. The message quotes it and names the choices."""


class Attack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attack on one account, from `start` until just before `end` (epoch seconds, UTC)."""

    kind: Kind
    user: str
    start: float
    end: float


def parse_attack(text: str, *, users: Sequence[User], start: float) -> Attack:
    """Read an attack written as `KIND:USER:START:DURATION`, such as `impossible_travel:user-017:30h:40m`.

    Args:
        text: What was written. START counts from the simulation's start.
        users: The accounts that there are.
        start: The simulation's start, epoch seconds.

    Raises:
        AttackError: a part is missing, unknown, or no duration; or the account cannot be attacked in this way.
    """
    parts = text.split(":")
    names = [user.name for user in users]
    if len(parts) != 4:
        raise AttackError(f'attack "{text}": expected KIND:USER:START:DURATION, such as impossible_travel:{names[0]}:30h:40m')
    kind, name, after, lasting = parts
    try:
        known_kind = msgspec.convert(kind, Kind)
    except msgspec.ValidationError:
        raise AttackError(f'attack "{text}": kind: expected one of {", ".join(KINDS)}, got "{kind}"') from None
    user = next((user for user in users if user.name == name), None)
    if user is None:
        raise AttackError(f'attack "{text}": user: expected {name_range(names)}, got "{name}"')
    if known_kind == "privilege_escalation" and user.is_admin:
        raise AttackError(f'attack "{text}": user: {name} is an admin already; name one who is not')
    try:
        begin = start + parse_duration(after)
    except ValueError as error:
        raise AttackError(f'attack "{text}": start: {error}') from None
    try:
        duration_s = parse_duration(lasting)
    except ValueError as error:
        raise AttackError(f'attack "{text}": duration: {error}') from None
    if duration_s <= 0:
        raise AttackError(f'attack "{text}": duration: expected more than 0, got "{lasting}"')
    return Attack(kind=known_kind, user=name, start=begin, end=begin + duration_s)


def check_attacks(attacks: Iterable[Attack]) -> list[Attack]:
    """Put attacks in order of their start, sure that an account suffers one at a time.

    Raises:
        AttackError: two attacks on an account overlap, which would leave no answer to what a row's label should be.
    """
    ordered = sorted(attacks, key=lambda attack: (attack.start, attack.user))
    last: dict[str, Attack] = {}
    for attack in ordered:
        before = last.get(attack.user)
        if before is not None and attack.start < before.end:
            raise AttackError(f"{attack.kind} of {attack.user} starts before its {before.kind} is over; one attack at a time")
        last[attack.user] = attack
    return ordered


def plan_attacks(users: Sequence[User], *, seed: int, stream: int, start: float, per_day: float) -> Iterator[Attack]:
    """Draw attacks without end, in order of their beginning: one somewhere in each even share of the time, kinds dealt evenly.

    Each is drawn from a generator of its own. A stuffing that goes through a list gives an attack for each account on it.

    Args:
        users: The accounts that may be struck.
        seed: The simulation's.
        stream: The seed's child for schedules.
        start: The simulation's start, epoch seconds.
        per_day: Attacks a day, more than 0.
    """
    free_from: dict[str, float] = {}
    listed: list[Attack] = []
    share_s = _DAY_S / per_day
    number = 0
    while True:
        chance = Chance(seed, stream, 1, number)
        # A list that takes its time may run into the next share, whose attacks must not come before it.
        listed.sort(key=lambda attack: attack.start)
        while listed and listed[0].start < start + number * share_s:
            yield listed.pop(0)
        begin = start + round((number + chance.between(0.0, 1.0)) * share_s)
        kinds = Chance(seed, stream, 0, number // len(KINDS)).shuffled(KINDS)
        number += 1
        if begin < start + _QUIET_S:
            continue
        rested = [user for user in users if free_from.get(user.name, begin) <= begin]
        # Where there is no account of the kind that an attack needs, the next kind takes its turn.
        turn = (number - 1) % len(KINDS)
        for kind in kinds[turn:] + kinds[:turn]:
            victims = [user for user in rested if _may_suffer(user, kind, begin)]
            if victims:
                for attack in _strike(kind, victims, begin, chance):
                    free_from[attack.user] = attack.end + _REST_S
                    listed.append(attack)
                break


def _strike(kind: Kind, victims: Sequence[User], begin: float, chance: Chance) -> list[Attack]:
    limits_s = _DURATIONS_S[kind]
    count = 1
    if kind == "credential_stuffing" and chance.happens(_LISTED_SHARE):
        limits_s, count = _LISTED_S, chance.whole(*_LISTED_ACCOUNTS)
    attacks = []
    for user in chance.shuffled(victims)[:count]:
        attacks.append(Attack(kind=kind, user=user.name, start=begin, end=begin + round(chance.between(*limits_s))))
        begin += round(chance.between(0.0, 90.0))
    return attacks


def _may_suffer(user: User, kind: Kind, time: float) -> bool:
    if kind == "dormant_account":
        return user.leaves <= time - _DORMANT_S
    active = user.joins <= time < user.leaves
    if kind == "token_refresh_storm":
        return active
    return active and user.job != "service" and not (kind == "privilege_escalation" and user.is_admin)
