"""What an account's owner does on a day, all of it innocent."""

from typing import Final

from vedette.simulate.logins.chance import Chance
from vedette.simulate.logins.geography import City
from vedette.simulate.logins.sessions import Event, Session
from vedette.simulate.logins.users import ADMIN_CLIENTS, Timetable, User
from vedette.simulate.logins.whereabouts import DAY_S, Whereabouts

_HOUR_S: Final = 3600.0

# Chances in a session.
_MISTYPED: Final = 0.09
_FORGOTTEN: Final = 0.12  # of those who mistyped
_SIGNED_OUT: Final = 0.45
_TABS: Final = 0.02  # a browser whose tabs all renew their token at once
# Chances in a day.
_OLD_PASSWORD: Final = 0.007  # a phone goes on with a password that was changed
_ADMINISTERS: Final = 0.3
_GRANTS: Final = 0.5  # of the sessions in which an admin administers
_IMPERSONATES: Final = 0.22  # support sees what the customer sees
_BROKEN_SECRET: Final = 0.02  # somebody changed a service account's secret

_BROKEN_FOR_S: Final = 3 * _HOUR_S


def draw_day(user: User, places: Whereabouts, day: int, chance: Chance) -> list[Event]:
    """The rows of one local day.

    Args:
        user: The account.
        places: Its whereabouts.
        day: Days since the epoch, by the clock at home. What is begun late in the day may end in the next.
        chance: Chance for this account and day.

    Returns:
        Rows in no particular order.
    """
    midnight = day * DAY_S - user.home.utc_h * _HOUR_S
    if user.timetable is not None:
        return _run_machine(user, user.timetable, places, midnight, chance)
    weekend = (day + 3) % 7 >= 5  # 1970-01-01 was a Thursday
    works = chance.happens(user.weekend if weekend else 0.93)
    person = _Person(user, places, chance)
    noon = places.city(midnight + 12 * _HOUR_S) or user.home
    midnight = day * DAY_S - noon.utc_h * _HOUR_S
    begins = midnight + (user.starts_h + chance.between(-0.7, 0.7)) * _HOUR_S
    if works:
        person.sit(begins, chance.between(1.2, 3.5) * _HOUR_S)
        if chance.happens(0.85):
            person.sit(begins + chance.between(4.2, 5.2) * _HOUR_S, chance.between(1.0, 3.5) * _HOUR_S)
        person.have_duties(begins + chance.between(0.5, 8.0) * _HOUR_S)
    for _ in range(chance.whole(0, 2) if works else chance.whole(0, 1)):
        person.glance(midnight + chance.between(6.5, 24.5) * _HOUR_S)
    if chance.happens(_OLD_PASSWORD):
        person.keep_an_old_password(midnight + chance.between(7.0, 22.0) * _HOUR_S)
    return [event for event in person.events if places.city(event.time) is not None]


class _Person:
    """Collects the rows of one person's day."""

    def __init__(self, user: User, places: Whereabouts, chance: Chance) -> None:
        self.events: list[Event] = []
        self._user = user
        self._places = places
        self._chance = chance

    def sit(self, time: float, lasting_s: float) -> None:
        """Work at a desk, wherever it is."""
        session = self._session(time)
        if session is None:
            return
        user, chance = self._user, self._chance
        first = user.clients[0]
        time = session.sign_in(self._try_password(session, time))
        if chance.happens(0.4) and len(user.clients) > 1:
            other = chance.pick(user.clients[1:])
            half = time + lasting_s * chance.between(0.2, 0.7)
            session.work(time, half, user.pace_s, first)
            time = session.open_client(half, other)
            last = session.work(time, half + lasting_s * 0.4, user.pace_s, other)
        else:
            last = session.work(time, time + lasting_s, user.pace_s)
        if chance.happens(_TABS):
            last = session.hurry(last + chance.between(1.0, 60.0), chance.whole(5, 14), chance.between(0.2, 3.0), 1.5)
        if chance.happens(_SIGNED_OUT):
            session.add(last + chance.between(2.0, 90.0), "LOGOUT")
        self.events += session.events

    def glance(self, time: float) -> None:
        """Look at the phone."""
        session = self._session(time, client=self._chance.pick(self._user.clients), auth="password", mobile=self._chance.happens(0.65))
        if session is None:
            return
        time = session.sign_in(self._try_password(session, time))
        session.work(time, time + self._chance.between(30.0, 500.0), self._chance.between(30.0, 200.0))
        self.events += session.events

    def have_duties(self, time: float) -> None:
        """Do what only some may: administer, or see an application as another user does."""
        user, chance = self._user, self._chance
        administers = user.is_admin and chance.happens(_ADMINISTERS)
        if not administers and not (user.job == "support" and chance.happens(_IMPERSONATES)):
            return
        client = chance.weigh({ADMIN_CLIENTS[0]: 0.7, ADMIN_CLIENTS[1]: 0.3}) if administers else user.clients[0]
        session = self._session(time, client=client)
        if session is None:
            return
        time = session.work(session.sign_in(time), time + chance.between(60.0, 900.0), chance.between(20.0, 120.0))
        if administers and chance.happens(_GRANTS):
            for _ in range(chance.whole(1, 3)):
                time += chance.between(8.0, 90.0)
                session.add(time, "GRANT_ROLE")
        if not administers or chance.happens(0.25):
            time += chance.between(5.0, 60.0)
            session.add(time, "IMPERSONATE")
            client = chance.pick(user.clients)
            time = session.work(session.open_client(time, client), time + chance.between(60.0, 600.0), chance.between(15.0, 90.0), client)
        if chance.happens(_SIGNED_OUT):
            session.add(time + chance.between(2.0, 90.0), "LOGOUT")
        self.events += session.events

    def keep_an_old_password(self, time: float) -> None:
        """Change the password, and let a forgotten app go on with the old one."""
        session = self._session(time, client=self._chance.pick(self._user.clients), auth="password", mobile=self._chance.happens(0.6))
        if session is None:
            return
        time = session.renew_password(time)
        session.fail(time, self._chance.whole(8, 40), self._chance.between(4.0, 150.0))
        self.events += session.events

    def _session(self, time: float, *, client: str = "", auth: str = "code", mobile: bool = False) -> Session | None:
        city: City | None = self._places.city(time)
        if city is None:
            return None
        line = self._places.line(time, city, self._chance, mobile=mobile)
        return Session(self._user, line, client or self._user.clients[0], auth, self._chance)

    def _try_password(self, session: Session, time: float) -> float:
        """Mistype now and then; when the right password is given."""
        chance = self._chance
        if not chance.happens(_MISTYPED):
            return time
        time = session.fail(time, chance.weigh({1: 0.6, 2: 0.25, 3: 0.1, 6: 0.05}), 6.0)
        return session.renew_password(time + 3.0) if chance.happens(_FORGOTTEN) else time


def _run_machine(user: User, timetable: Timetable, places: Whereabouts, midnight: float, chance: Chance) -> list[Event]:
    """A day of a service account: the same job again and again, and for some a batch that renews tokens as fast as it works."""
    line = places.line(midnight, user.home, chance)
    session = Session(user, line, user.clients[0], "client_credentials", chance)
    broken_s = chance.between(0.0, DAY_S) if chance.happens(_BROKEN_SECRET) else 2 * DAY_S
    due_s = timetable.phase_s
    while due_s < DAY_S:
        time = midnight + due_s + chance.between(0.0, 2.5)
        if broken_s <= due_s < broken_s + _BROKEN_FOR_S:
            session.fail(time, chance.whole(3, 12), 20.0)
        else:
            time = session.sign_in(time)
            for _ in range(chance.whole(1, 3)):
                session.add(time, None)
                time += chance.between(0.5, 3.0)
        due_s += timetable.every_s
    if timetable.batch_s is not None:
        time = session.open_client(midnight + timetable.batch_s, user.clients[1])
        session.hurry(time, chance.whole(35, 70), timetable.batch_pace_s, 0.4 * timetable.batch_pace_s)
    return session.events
