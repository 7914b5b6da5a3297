"""Where an account's owner is, and by which lines they reach the identity provider from there.

Journeys and leave are drawn for a stretch of days from the seed and the account's number, so that any moment
can be asked for without those before it.
"""

from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from vedette.simulate.logins.chance import Chance
from vedette.simulate.logins.geography import CITIES, OFFICES, City, Line, distance_km, draw_line, journey_s
from vedette.simulate.logins.users import User

DAY_S: Final = 86400.0
_JOURNEY_DAYS: Final = 14
_LEAVE_DAYS: Final = 56
_LEAVE_CHANCE: Final = 0.25
# Children of the seed, after the account's number.
_HABIT, _LEASE, _JOURNEY, _LEAVE = range(4)


class Journey(NamedTuple):
    """A business trip: away from `out` to `back` (epoch seconds), in the air for `flight_s` after each."""

    city: City
    out: float
    back: float
    flight_s: float


class Whereabouts:
    """One account's places.

    Args:
        user: Whose.
        seed: The simulation's.
        stream: The seed's child for whereabouts.
        start: Epoch seconds from which stretches of days are counted.
    """

    def __init__(self, user: User, *, seed: int, stream: int, start: float) -> None:
        self._user = user
        self._key = (seed, stream, user.number)
        self._start = start
        self.journey = lru_cache(maxsize=4)(self._draw_journey)
        self._leave = lru_cache(maxsize=4)(self._draw_leave)

    def city(self, time: float) -> City | None:
        """Where the owner is at `time` (epoch seconds), or None: in the air, on leave, not there yet or gone."""
        user = self._user
        if not user.joins <= time < user.leaves:
            return None
        if user.job == "service":
            return user.home
        away = self._leave(self._stretch(time, _LEAVE_DAYS))
        if away is not None and away[0] <= time < away[1]:
            return None
        journey = self.journey(self._stretch(time, _JOURNEY_DAYS))
        if journey is None or not journey.out <= time < journey.back + journey.flight_s:
            return user.home
        in_the_air = time < journey.out + journey.flight_s or time >= journey.back
        return None if in_the_air else journey.city

    def line(self, time: float, city: City, chance: Chance, *, mobile: bool = False) -> Line:
        """The line for a session that starts at `time` in `city`."""
        user = self._user
        if user.job == "service":
            return self._machine
        if mobile:
            return draw_line("mobile", city, chance)
        if city in OFFICES and chance.happens(user.at_office):
            return draw_line("office", city, chance)
        return self._line_outside(time, city, chance)

    def _line_outside(self, time: float, city: City, chance: Chance) -> Line:
        """A line for a desk that is not in an office."""
        user = self._user
        if chance.happens(user.by_mobile):
            return draw_line("mobile", city, chance)
        if chance.happens(user.by_company_vpn):
            return draw_line("office", self._gateway, chance)
        if chance.happens(user.by_private_vpn):
            return draw_line("vpn" if chance.happens(0.65) else "datacentre", chance.pick(self._exits), chance)
        return self.home_line(time) if city == user.home else draw_line("public", city, chance)

    def home_line(self, time: float) -> Line:
        """The line at home, whose address is another when the provider's lease is over."""
        lease = self._stretch(time, self._user.lease_days)
        return draw_line("home", self._user.home, self._chance(_LEASE, lease))

    @cached_property
    def _machine(self) -> Line:
        return draw_line("datacentre", self._user.home, self._chance(_HABIT, 0))

    @cached_property
    def _gateway(self) -> City:
        """The office through which the company's VPN leads."""
        return min(OFFICES, key=lambda office: distance_km(office, self._user.home))

    @cached_property
    def _exits(self) -> tuple[City, ...]:
        """Where the owner likes to leave a VPN, or rents a server to work on."""
        return tuple(self._chance(_HABIT, 1).shuffled(CITIES)[:3])

    def _draw_journey(self, stretch: int) -> Journey | None:
        chance = self._chance(_JOURNEY, stretch)
        if not chance.happens(self._user.travels):
            return None
        city = chance.pick([other for other in CITIES if other != self._user.home])
        flight_s = journey_s(self._user.home, city)
        first = self._start + (stretch - 1) * _JOURNEY_DAYS * DAY_S
        out = first + chance.between(0.2, 7.0) * DAY_S
        return Journey(city, out, out + flight_s + chance.between(1.0, 4.0) * DAY_S, flight_s)

    def _draw_leave(self, stretch: int) -> tuple[float, float] | None:
        chance = self._chance(_LEAVE, stretch)
        if not chance.happens(_LEAVE_CHANCE):
            return None
        lasting_s = chance.between(6.0, 21.0) * DAY_S
        first = self._start + (stretch - 1) * _LEAVE_DAYS * DAY_S
        begin = first + chance.between(0.0, _LEAVE_DAYS * DAY_S - lasting_s)
        return begin, begin + lasting_s

    def _stretch(self, time: float, days: int) -> int:
        # One stretch before the start is enough: the first local days begin up to a day before it. Chance takes
        # no negative keys.
        return max(0, int((time - self._start) // (days * DAY_S)) + 1)

    def _chance(self, *key: int) -> Chance:
        seed, *stream = self._key
        return Chance(seed, *stream, *key)
