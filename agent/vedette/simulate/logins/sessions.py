"""One row of the log, and the session: the rows that belong together from a sign-in to a sign-out or expiry."""

from typing import Final, NamedTuple

from vedette.simulate.logins.chance import Chance
from vedette.simulate.logins.geography import Line
from vedette.simulate.logins.users import User

# Keycloak's default: an access token lives for five minutes, and a client in use renews it just before.
_TOKEN_S: Final = 300.0
# Of a client's rows at work, those that are an application's access and not a renewed token.
_ACCESS_SHARE: Final = 0.66


class Event(NamedTuple):
    """One row as the identity provider logs it, and what only the simulator knows.

    Attributes:
        time: Epoch seconds, UTC, to the millisecond.
        user: The account's name.
        line: Where it came from.
        roles: What the account's token carried.
        type: Keycloak's event type, or None for an access to an application.
        realm: The account's.
        client: The application.
        auth: How the session was begun: "code" (a browser), "password" (an app), "client_credentials" (a machine).
        attack: The attack's kind, or None; see `realm`.
    """

    time: float
    user: str
    line: Line
    roles: tuple[str, ...]
    type: str | None
    realm: str
    client: str
    auth: str
    attack: str | None = None

    @property
    def device(self) -> str:
        """The user: what is watched."""
        return self.user

    @property
    def fault(self) -> str | None:
        """The attack: what went wrong."""
        return self.attack


class Session:
    """Rows of one session, innocent or not: both are built from these pieces.

    Args:
        user: The account.
        line: Where the session comes from.
        client: The application that it begins with.
        auth: See `Event`.
        chance: Whose session it is decides whose chance.

    Attributes:
        events: The rows so far, nearly in order of time.
        roles: What the session's tokens carry from now on.
    """

    def __init__(self, user: User, line: Line, client: str, auth: str, chance: Chance) -> None:
        self.events: list[Event] = []
        self.roles = user.roles
        self.line = line
        self._user = user
        self._client = client
        self._auth = auth
        self._chance = chance

    def add(self, time: float, type_: str | None, client: str | None = None) -> None:
        """Add a row; of the session's first client unless another is named."""
        user = self._user
        client = client or self._client
        self.events.append(Event(round(time, 3), user.name, self.line, self.roles, type_, user.realm, client, self._auth))

    def fail(self, time: float, times: int, pause_s: float) -> float:
        """Mistype the password; when the last failure was answered."""
        for _ in range(times):
            self.add(time, "LOGIN_ERROR")
            time += 1.5 + self._chance.wait(pause_s)
        return time

    def renew_password(self, time: float) -> float:
        """Get a new password by mail; when it is set."""
        self.add(time, "FORGOT_PASSWORD")
        time += self._chance.between(25.0, 240.0)
        self.add(time, "UPDATE_PASSWORD")
        return time + self._chance.between(0.2, 4.0)

    def sign_in(self, time: float) -> float:
        """Sign in; when the work may begin."""
        self.add(time, "LOGIN")
        return self.open_client(time, self._client) if self._auth == "code" else time + self._chance.between(0.1, 2.0)

    def open_client(self, time: float, client: str) -> float:
        """Let a client have a token, by the session that there is; when it has it."""
        time += self._chance.between(0.15, 1.8)
        self.add(time, "CODE_TO_TOKEN", client)
        return time + self._chance.between(0.1, 2.0)

    def work(self, time: float, end: float, pace_s: float, client: str | None = None, access_share: float = _ACCESS_SHARE) -> float:
        """Use a client until `end`, with a row every `pace_s` on average; the time of the last row."""
        last = time
        renewed = time
        self.add(time, None, client)
        while (time := time + 0.3 + self._chance.wait(pace_s)) < end:
            # A token that is too old is renewed first; so is one that a client thinks it should.
            if time - renewed > _TOKEN_S or not self._chance.happens(access_share):
                self.add(time, "REFRESH_TOKEN", client)
                renewed = time
                time += self._chance.between(0.05, 0.8)
                if self._chance.happens(1.0 - access_share):
                    last = time
                    continue
            self.add(time, None, client)
            last = time
        return last

    def hurry(self, time: float, times: int, pace_s: float, wobble_s: float) -> float:
        """Renew the token again and again at a machine's pace; when it ends."""
        for _ in range(times):
            self.add(time, "REFRESH_TOKEN")
            time += pace_s + self._chance.between(0.0, wobble_s)
        return time
