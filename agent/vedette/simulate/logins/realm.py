"""All accounts together: the log as the identity provider's subscribers see it, in order of time, with the truth beside it.

What a row's `attack` says (its label): from an attack's start until just before its end, every row of the
account is labelled with its kind, the owner's own among them. Whoever reads the log cannot tell the two apart,
and it is the series that is wrong. As soon as the attack is over, the owner's rows are innocent again.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from itertools import chain

from vedette.simulate.logins.attacks import SILENCED_S, Attack, check_attacks, plan_attacks
from vedette.simulate.logins.chance import Chance
from vedette.simulate.logins.days import draw_day
from vedette.simulate.logins.intrusions import intrude
from vedette.simulate.logins.sessions import Event
from vedette.simulate.logins.users import User, draw_user
from vedette.simulate.logins.whereabouts import DAY_S, Whereabouts

# Children of the seed.
_USER, _PLACES, _DAY, _PLAN, _INTRUSION = range(5)


class Realm:
    """The accounts of one identity provider, with attacks.

    A seed gives the same rows always. An account's own rows depend on the seed, its number and the start; not on
    how many others there are or what befalls them.

    Args:
        users: The accounts, as `draw_users` draws them.
        seed: At least 0.
        start: Epoch seconds at which the log begins.
        attacks: What goes wrong, whose and when. A dormant account's owner is silent for three weeks before.
        attacks_per_day: Attacks drawn besides, on accounts that `attacks` does not name.

    Attributes:
        attacks: Those known so far, in order of their start: those of all days that have been drawn.

    Raises:
        AttackError: two attacks on an account overlap.
    """

    def __init__(
        self, users: Sequence[User], *, seed: int, start: float, attacks: Sequence[Attack] = (), attacks_per_day: float = 0.0
    ) -> None:
        named = check_attacks(attacks)
        silent_from = {attack.user: attack.start - SILENCED_S for attack in named if attack.kind == "dormant_account"}
        self._users = {user.name: user._replace(leaves=silent_from.get(user.name, user.leaves)) for user in users}
        self._places = {user.name: Whereabouts(user, seed=seed, stream=_PLACES, start=start) for user in self._users.values()}
        self._seed = seed
        self._start = start
        names = {attack.user for attack in named}
        others = [user for user in self._users.values() if user.name not in names]
        drawn: Iterator[Attack] = iter(())
        if attacks_per_day > 0:
            drawn = plan_attacks(others, seed=seed, stream=_PLAN, start=start, per_day=attacks_per_day)
        self._coming = heapq.merge(named, drawn, key=lambda attack: attack.start)
        self._ahead: Attack | None = next(self._coming, None)
        self.attacks: list[Attack] = []

    def events(self, end: float = math.inf) -> Iterator[Event]:
        """Every row from the start until just before `end` (epoch seconds), in order of time. Can be called once."""
        first = int(self._start // DAY_S)
        waiting: list[Event] = []
        # A local day may begin half a day before or after the day of the same date in UTC.
        local_day = first - 1
        day = first
        while day * DAY_S < end:
            until = (day + 1) * DAY_S
            while local_day <= day + 1:
                waiting += chain.from_iterable(self._draw_day(user, local_day) for user in self._users.values())
                local_day += 1
            waiting += self._begin_attacks(until)
            waiting.sort(key=lambda event: (event.time, event.user))
            split = next((number for number, event in enumerate(waiting) if event.time >= until), len(waiting))
            spans = self._spans((day - 1) * DAY_S)
            for event in waiting[:split]:
                if self._start <= event.time < end:
                    yield _label(event, spans.get(event.user, ()))
            del waiting[:split]
            day += 1

    def _draw_day(self, user: User, local_day: int) -> list[Event]:
        return draw_day(user, self._places[user.name], local_day, Chance(self._seed, _DAY, user.number, local_day + 1))

    def _begin_attacks(self, until: float) -> list[Event]:
        """The rows of the attacks that start before `until`."""
        events: list[Event] = []
        while self._ahead is not None and self._ahead.start < until:
            attack = self._ahead
            self.attacks.append(attack)
            events += intrude(attack, self._users[attack.user], self._places[attack.user], seed=self._seed, stream=_INTRUSION)
            self._ahead = next(self._coming, None)
        return events

    def _spans(self, since: float) -> dict[str, list[Attack]]:
        """The attacks on each account that were not over at `since`."""
        spans: dict[str, list[Attack]] = {}
        for attack in self.attacks:
            if attack.end > since:
                spans.setdefault(attack.user, []).append(attack)
        return spans


def draw_users(count: int, *, seed: int, start: float) -> list[User]:
    """The accounts with the numbers from 1 to `count`."""
    return [draw_user(number, Chance(seed, _USER, number), start) for number in range(1, count + 1)]


def _label(event: Event, attacks: Sequence[Attack]) -> Event:
    for attack in attacks:
        if attack.start <= event.time < attack.end:
            return event._replace(attack=attack.kind)
    return event
