"""Accounts have habits, attacks break them where and when it was said, and a seed decides everything."""

from collections import defaultdict
from functools import cache
from itertools import islice, pairwise

import numpy as np
import pytest

from vedette.simulate.logins.attacks import KINDS, Attack, AttackError, Kind, parse_attack, plan_attacks
from vedette.simulate.logins.geography import distance_km, journey_s
from vedette.simulate.logins.realm import Realm, draw_users
from vedette.simulate.logins.sessions import Event
from vedette.simulate.logins.users import ADMIN_CLIENTS, ADMIN_ROLE, User

MONDAY = 1767571200.0
DAY_S = 86400.0
USERS = draw_users(40, seed=5, start=MONDAY)
VICTIM = next(
    user.name for user in USERS if user.job == "sales" and not user.is_admin and user.joins < MONDAY < MONDAY + 30 * DAY_S < user.leaves
)
START, END = MONDAY + 30 * 3600, MONDAY + 31 * 3600


def history(attacks: tuple[Attack, ...] = (), *, users: list[User] = USERS, days: float = 3.0, rate: float = 0.0) -> dict[str, list[Event]]:
    accounts: dict[str, list[Event]] = defaultdict(list)
    for event in Realm(users, seed=5, start=MONDAY, attacks=attacks, attacks_per_day=rate).events(MONDAY + days * DAY_S):
        accounts[event.user].append(event)
    return accounts


@cache
def untouched() -> dict[str, list[Event]]:
    return history()


@cache
def struck(kind: Kind) -> list[Event]:
    return history((Attack(kind=kind, user=VICTIM, start=START, end=END),))[VICTIM]


def during(events: list[Event]) -> list[Event]:
    return [event for event in events if START <= event.time < END]


@pytest.mark.parametrize("kind", KINDS)
def test_attack_on_one_account_leaves_all_others_as_they_were(kind: Kind) -> None:
    accounts = history((Attack(kind=kind, user=VICTIM, start=START, end=END),))
    for name, events in untouched().items():
        assert name == VICTIM or accounts[name] == events


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_of_the_account_is_labelled_from_start_to_end_and_none_besides(kind: Kind) -> None:
    assert {event.attack for event in during(struck(kind))} == {kind}
    besides = [event for event in struck(kind) if event not in during(struck(kind))]
    assert len(besides) > 20 or kind == "dormant_account"
    assert {event.attack for event in besides} <= {None}
    assert len(during(struck(kind))) >= 10


def test_stuffing_is_a_burst_of_failures_from_changing_lines() -> None:
    events = during(struck("credential_stuffing"))
    failures = [event for event in events if event.type == "LOGIN_ERROR"]
    assert len(failures) > 0.5 * len(events)
    assert len({event.line.ip for event in failures}) > 5


def test_impossible_traveller_is_in_two_cities_sooner_than_anybody_flies() -> None:
    events = during(struck("impossible_travel"))
    moves = [(one, other) for one, other in pairwise(events) if one.line.city != other.line.city]
    assert len(moves) >= 2
    assert all(other.time - one.time < journey_s(one.line.city, other.line.city) for one, other in moves)
    assert max(distance_km(one.line.city, other.line.city) for one, other in moves) >= 2500


def test_dormant_account_is_silent_before_it_is_found() -> None:
    assert [event for event in struck("dormant_account") if event.time < START] == []
    assert {"LOGIN", None} <= {event.type for event in struck("dormant_account")}


def test_escalated_account_grants_itself_a_role_and_uses_it_at_once() -> None:
    events = during(struck("privilege_escalation"))
    granted = next(number for number, event in enumerate(events) if event.type == "GRANT_ROLE")
    assert not any(ADMIN_ROLE in event.roles for event in events[:granted])
    assert any(ADMIN_ROLE in event.roles and event.client in ADMIN_CLIENTS for event in events[granted:])


def test_token_storm_renews_at_a_machines_pace() -> None:
    renewals = [event.time for event in during(struck("token_refresh_storm")) if event.type == "REFRESH_TOKEN"]
    assert len(renewals) > 200
    assert np.median(np.diff(renewals)) < 10


def test_innocent_admins_use_what_attackers_use() -> None:
    events = [event for account in history(days=14).values() for event in account]
    assert {"GRANT_ROLE", "IMPERSONATE", "LOGIN_ERROR", "FORGOT_PASSWORD", "UPDATE_PASSWORD"} <= {event.type for event in events}
    grants = [event for event in events if event.type == "GRANT_ROLE"]
    assert all(ADMIN_ROLE in event.roles for event in grants)
    assert {event.attack for event in events} == {None}


def test_account_is_the_same_in_a_small_and_in_a_large_realm() -> None:
    small = history(users=USERS[:6])
    assert all(untouched()[name] == events for name, events in small.items())


def test_people_work_by_day_and_machines_around_the_clock() -> None:
    hours: dict[bool, list[float]] = {True: [], False: []}
    people = {user.name: user for user in USERS}
    for name, events in untouched().items():
        offset_h = people[name].home.utc_h
        hours[people[name].job == "service"] += [(event.time / 3600 + offset_h) % 24 for event in events]
    assert np.mean([7 <= hour < 20 for hour in hours[False]]) > 0.7
    assert all(count > 0 for count in np.histogram(hours[True], bins=24, range=(0, 24))[0])


def test_drawn_attacks_come_in_order_evenly_by_kind_and_leave_accounts_a_rest() -> None:
    users = draw_users(200, seed=3, start=MONDAY)
    attacks = list(islice(plan_attacks(users, seed=3, stream=3, start=MONDAY, per_day=2.0), 200))
    assert [attack.start for attack in attacks] == sorted(attack.start for attack in attacks)
    ends: dict[str, float] = {}
    for attack in attacks:
        assert attack.start >= ends.get(attack.user, MONDAY)
        ends[attack.user] = attack.end + DAY_S
    counts = [sum(attack.kind == kind for attack in attacks) for kind in KINDS if kind != "credential_stuffing"]
    assert min(counts) > 0.5 * max(counts)


def test_named_accounts_are_spared_by_drawn_attacks() -> None:
    named = Attack(kind="impossible_travel", user=VICTIM, start=START, end=END)
    attacked = {event.attack for event in history((named,), days=10, rate=6.0)[VICTIM]}
    assert attacked == {None, "impossible_travel"}


def test_attack_is_read_from_text() -> None:
    attack = parse_attack("impossible_travel:user-003:30h:40m", users=USERS, start=MONDAY)
    assert attack == Attack(kind="impossible_travel", user="user-003", start=START, end=START + 2400)


ADMIN = next(user.name for user in USERS if user.is_admin)


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("impossible_travel:user-003:2h", "KIND:USER:START:DURATION"),
        ("phishing:user-003:2h:45m", r'credential_stuffing, .*token_refresh_storm, got "phishing"'),
        ("impossible_travel:user-777:2h:45m", r'user-001 to user-040, got "user-777"'),
        ("impossible_travel:user-003:soon:45m", r'start: .*"soon"'),
        ("impossible_travel:user-003:2h:long", r'duration: .*"long"'),
        ("impossible_travel:user-003:2h:0", "duration: expected more than 0"),
        (f"privilege_escalation:{ADMIN}:2h:1h", "is an admin already"),
    ],
)
def test_error_in_a_written_attack_names_the_part_and_the_choices(written: str, named: str) -> None:
    with pytest.raises(AttackError, match=named) as caught:
        parse_attack(written, users=USERS, start=MONDAY)
    assert written in str(caught.value)


def test_two_attacks_at_once_on_an_account_are_refused() -> None:
    attacks = [Attack(kind=kind, user=VICTIM, start=START, end=END) for kind in KINDS[:2]]
    with pytest.raises(AttackError, match="one attack at a time"):
        Realm(USERS, seed=1, start=MONDAY, attacks=attacks)
