"""What an attacker does with an account, in rows that each by itself might be the owner's.

It is the sequence that is wrong: too many failures from changing lines, two cities at once, a long silence and
then haste, a role that comes and is used at once, tokens renewed by a person's account at a machine's pace.
"""

from typing import Final

import msgspec

from vedette.simulate.logins.attacks import Attack
from vedette.simulate.logins.chance import Chance
from vedette.simulate.logins.geography import CITIES, OFFICES, Line, LineKind, draw_line, far_from
from vedette.simulate.logins.sessions import Event, Session
from vedette.simulate.logins.users import ADMIN_CLIENTS, ADMIN_ROLE, COMMON_CLIENTS, User
from vedette.simulate.logins.whereabouts import DAY_S, Whereabouts

# Rented lines: infected machines in homes, phones, cafés, and a VPN's exits, which innocent people use as well, and servers.
_RENTED: Final[dict[LineKind, float]] = {"home": 0.36, "mobile": 0.2, "public": 0.05, "vpn": 0.25, "datacentre": 0.14}
_NEAR_FIRM: Final = 0.3
_NETWORK_SIZE: Final = 24


def intrude(attack: Attack, user: User, places: Whereabouts, *, seed: int, stream: int) -> list[Event]:
    """The rows of one attack, in no particular order.

    Args:
        attack: Which, and from when to when; no row lies outside.
        user: The account that suffers it.
        places: The whereabouts of its owner.
        seed: The simulation's.
        stream: The seed's child for what attackers do.
    """
    chance = Chance(seed, stream, user.number, int(attack.start))
    # Nothing begins on a whole second but what a simulator plans.
    asked, attack = attack, msgspec.structs.replace(attack, start=attack.start + chance.between(0.0, 1.0))
    if attack.kind == "credential_stuffing":
        # Who rents machines rents them for days and tries many accounts from them.
        network = Chance(seed, stream, 0, int(attack.start // (2 * DAY_S)))
        lines = [_rent(chance=network) for _ in range(_NETWORK_SIZE)]
        events = _stuff(attack, user, lines, chance)
    elif attack.kind == "impossible_travel":
        events = _be_in_two_places(attack, user, places, chance)
    elif attack.kind == "dormant_account":
        events = _wake(attack, user, places, chance)
    elif attack.kind == "privilege_escalation":
        events = _escalate(attack, user, places, chance)
    else:
        events = _renew_tokens(attack, user, places, chance)
    return [event for event in events if asked.start <= event.time < asked.end]


def _stuff(attack: Attack, user: User, lines: list[Line], chance: Chance) -> list[Event]:
    """Try stolen passwords from changing lines; now and then one is right."""
    pace_s = chance.between(10.0, 45.0)
    succeeds = chance.happens(0.4)
    lasting_s = (attack.end - attack.start) * (chance.between(0.5, 0.8) if succeeds else 1.0)
    session = Session(user, chance.pick(lines), chance.pick((*user.clients, *COMMON_CLIENTS)), chance.pick(("code", "password")), chance)
    time = attack.start + chance.wait(2.0)
    while time < attack.start + lasting_s:
        if chance.happens(0.35):
            session.line = chance.pick(lines)
        time = session.fail(time, 1, pace_s)
    if succeeds:
        _look_around(session, session.sign_in(time), attack.end, chance)
    return session.events


def _be_in_two_places(attack: Attack, user: User, places: Whereabouts, chance: Chance) -> list[Event]:
    """Use a stolen password while the owner is at work far away."""
    here = places.city(attack.start) or user.home
    owner = Session(user, places.line(attack.start, here, chance), user.clients[0], "code", chance)
    owner.work(owner.sign_in(attack.start), attack.end, chance.between(120.0, 300.0))
    thief = Session(user, _rent(chance, far=owner.line), chance.pick(user.clients), chance.pick(("code", "password")), chance)
    time = thief.fail(attack.start + chance.between(60.0, 300.0), chance.weigh({0: 0.6, 1: 0.3, 2: 0.1}), 8.0)
    _look_around(thief, thief.sign_in(time), attack.end, chance)
    return owner.events + thief.events


def _wake(attack: Attack, user: User, places: Whereabouts, chance: Chance) -> list[Event]:
    """Use an account that everybody forgot: get into it, and look at what its owner never looked at."""
    line = _rent(chance, far=places.home_line(attack.start)) if chance.happens(0.6) else _rent(chance)
    session = Session(user, line, chance.pick((*COMMON_CLIENTS, user.clients[0])), chance.pick(("code", "password")), chance)
    time = session.fail(attack.start, chance.whole(0, 3), 12.0)
    if chance.happens(0.6):
        time = session.renew_password(time)
    visits = chance.whole(2, 4)
    for visit in range(visits):
        until = attack.start + (attack.end - attack.start) * (visit + 1) / visits
        time = session.sign_in(time)
        client = chance.pick(("wiki", "crm", "erp", "helpdesk", "plant-portal", "build-server"))
        time = session.open_client(time, client)
        time = session.work(time, min(until, time + chance.between(300.0, 900.0)), chance.between(30.0, 90.0), client)
        if chance.happens(0.4):
            session.add(time + chance.between(2.0, 60.0), "LOGOUT")
        time = until + chance.between(0.0, 120.0)
    return session.events


def _escalate(attack: Attack, user: User, places: Whereabouts, chance: Chance) -> list[Event]:
    """Give the account a role that it should not have, and use that at once."""
    line = _own_line(attack, user, places, chance) if chance.happens(0.65) else _rent(chance)
    session = Session(user, line, user.clients[0], "code", chance)
    lasting_s = attack.end - attack.start
    half = attack.start + lasting_s * chance.between(0.25, 0.5)
    time = session.work(session.sign_in(attack.start), half - 0.1 * lasting_s, chance.between(60.0, 200.0))
    client = chance.weigh({ADMIN_CLIENTS[0]: 0.6, ADMIN_CLIENTS[1]: 0.4})
    time = session.open_client(max(time, half), client)
    for _ in range(chance.whole(1, 3)):
        time += chance.between(4.0, 50.0)
        session.add(time, "GRANT_ROLE", client)
    session.roles = (*user.roles, ADMIN_ROLE)
    time = session.open_client(time + chance.between(2.0, 30.0), client)
    time = session.work(time, time + 0.5 * (attack.end - time), chance.between(20.0, 70.0), client)
    for _ in range(chance.whole(0, 3)):
        time += chance.between(5.0, 60.0)
        session.add(time, "IMPERSONATE", client)
        other = chance.pick(("crm", "erp", "mail", "helpdesk"))
        time = session.work(session.open_client(time, other), time + chance.between(30.0, 240.0), chance.between(15.0, 60.0), other)
    if chance.happens(0.4):
        session.add(time + chance.between(2.0, 60.0), "LOGOUT", client)
    return session.events


def _renew_tokens(attack: Attack, user: User, places: Whereabouts, chance: Chance) -> list[Event]:
    """Keep a stolen token alive, far too often, from the owner's machine or from elsewhere."""
    line = _own_line(attack, user, places, chance) if chance.happens(0.5) else _rent(chance)
    auth = "client_credentials" if user.job == "service" else chance.pick(("code", "password"))
    session = Session(user, line, chance.pick(user.clients), auth, chance)
    pace_s = chance.between(2.0, 7.0)
    time = session.open_client(attack.start, user.clients[0]) if chance.happens(0.5) else attack.start
    while time < attack.end:
        time = session.hurry(time, chance.whole(4, 20), pace_s, 0.3 * pace_s)
        for _ in range(chance.whole(0, 4)):
            session.add(time, None)
            time += chance.between(0.2, pace_s)
    return session.events


def _look_around(session: Session, time: float, end: float, chance: Chance) -> None:
    """Use what was opened, in more of a hurry than its owner."""
    if chance.happens(0.35):
        time += chance.between(5.0, 60.0)
        session.add(time, "UPDATE_PASSWORD")
    time = session.work(time, min(end, time + chance.between(400.0, 1800.0)), chance.between(25.0, 90.0))
    if chance.happens(0.3):
        session.add(time + chance.between(1.0, 60.0), "LOGOUT")


def _own_line(attack: Attack, user: User, places: Whereabouts, chance: Chance) -> Line:
    return places.line(attack.start, places.city(attack.start) or user.home, chance)


def _rent(chance: Chance, *, far: Line | None = None) -> Line:
    """A line of any kind in any city, or in one that is `far` from a line; more often where the firm is, to go unseen."""
    cities = far_from(far.city) if far else CITIES
    near_firm = [city for city in cities if city in OFFICES]
    return draw_line(chance.weigh(_RENTED), chance.pick(near_firm if chance.happens(_NEAR_FIRM) else cities), chance)
