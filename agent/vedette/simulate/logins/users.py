"""Who has an account: people with jobs, homes and habits, and service accounts."""

import math
from typing import Final, Literal, NamedTuple

from vedette.simulate.logins.chance import Chance
from vedette.simulate.logins.geography import CITIES, OFFICES, City

Job = Literal["engineer", "sales", "support", "finance", "manager", "operator", "service"]

ADMIN_ROLE: Final = "realm-admin"
ADMIN_CLIENTS: Final = ("security-admin-console", "admin-cli")
# What everybody may use, and so what a thief tries first.
COMMON_CLIENTS: Final = ("account-console", "mail", "mobile-app")

_ROLES: Final[dict[Job, tuple[str, ...]]] = {
    "engineer": ("employee", "developer"),
    "sales": ("employee", "sales"),
    "support": ("employee", "support"),
    "finance": ("employee", "finance"),
    "manager": ("employee", "approver"),
    "operator": ("employee", "operator"),
    "service": ("service", "reader"),
}
_CLIENTS: Final[dict[Job, tuple[str, ...]]] = {
    "engineer": ("wiki", "build-server", "mail"),
    "sales": ("crm", "mail", "wiki"),
    "support": ("helpdesk", "crm", "mail"),
    "finance": ("erp", "mail"),
    "manager": ("erp", "crm", "mail"),
    "operator": ("plant-portal", "mail"),
    "service": ("erp", "crm", "build-server", "plant-portal"),
}
# Jobs are dealt by the account's number and not drawn: even a small realm then has some of each, and admins in most.
_JOBS: Final[tuple[Job, ...]] = (
    *("engineer", "sales", "support", "operator", "finance", "engineer", "manager", "sales", "engineer", "support"),
    *("service", "engineer", "sales", "operator", "finance", "support", "engineer", "manager", "sales", "operator"),
)
_ADMIN_EVERY: Final = 7  # most of them somebody's deputy
_REALMS: Final = {"works": 0.7, "partners": 0.3}

_ABROAD_SHARE: Final = 0.3  # live where there is no office
_NEW_SHARE, _GONE_SHARE = 0.06, 0.09
_DAY_S: Final = 86400.0


class Timetable(NamedTuple):
    """When a machine does its job: every `every_s` seconds, first `phase_s` after midnight, and perhaps a batch at `batch_s`."""

    every_s: float
    phase_s: float
    batch_s: float | None
    batch_pace_s: float


class User(NamedTuple):
    """One account and the habits of its owner.

    Attributes:
        number: From 1.
        name: What the log calls it, such as `user-017`.
        realm: The realm that it belongs to.
        job: "service" if it is a machine's.
        roles: What its tokens carry, in the order in which they do.
        clients: What it uses, the favourite first.
        home: Where it lives; of a service account, where its machine stands.
        starts_h: Local hour at which a working day begins.
        weekend: Chance that a day at the weekend is a working one.
        at_office: Share of the sessions from an office, where there is one.
        by_company_vpn: Share of the sessions from home that leave by an office's addresses.
        by_private_vpn: Share of the sessions from home or a hotel that leave by a commercial VPN or a rented
            server.
        by_mobile: Share of the sessions outside an office that leave by a mobile network.
        travels: Chance of a journey in a fortnight.
        lease_days: For how many days its line at home keeps an address.
        pace_s: Mean time between two rows of its work.
        joins: Epoch seconds before which the account does nothing.
        leaves: Epoch seconds from which it does nothing more, though nobody closes it.
        timetable: A service account's; None for a person.
    """

    number: int
    name: str
    realm: str
    job: Job
    roles: tuple[str, ...]
    clients: tuple[str, ...]
    home: City
    starts_h: float
    weekend: float
    at_office: float
    by_company_vpn: float
    by_private_vpn: float
    by_mobile: float
    travels: float
    lease_days: int
    pace_s: float
    joins: float
    leaves: float
    timetable: Timetable | None

    @property
    def is_admin(self) -> bool:
        """Whether it may rightly use the admin clients."""
        return ADMIN_ROLE in self.roles


def draw_user(number: int, chance: Chance, start: float) -> User:
    """Draw the account with this number, from 1, of a realm that is watched from `start` (epoch seconds) on."""
    job = _JOBS[(number - 1) % len(_JOBS)]
    service = job == "service"
    admin = (number + 3 * (number // len(_JOBS))) % _ADMIN_EVERY == 0 and not service
    home = chance.pick(CITIES[len(OFFICES) :]) if chance.happens(_ABROAD_SHARE) and not service else chance.pick(OFFICES)
    night = job == "operator" and chance.happens(0.5)
    novelty = chance.between(0.0, 1.0)
    joins = start + chance.between(1.0, 45.0) * _DAY_S if novelty < _NEW_SHARE and not service else -math.inf
    gone = 1.0 - novelty < _GONE_SHARE and not service
    leaves = start + chance.between(-12.0, 8.0) * _DAY_S if gone else math.inf
    common = chance.shuffled(COMMON_CLIENTS)[: chance.whole(1, 3)]
    return User(
        number=number,
        name=f"{'service-account' if service else 'user'}-{number:03d}",
        realm=chance.weigh(_REALMS),
        job=job,
        roles=(*_ROLES[job], ADMIN_ROLE) if admin else _ROLES[job],
        clients=tuple(chance.shuffled(_CLIENTS[job])) if service else tuple(dict.fromkeys((*_CLIENTS[job], *common))),
        home=home,
        starts_h=chance.between(20.0, 22.0) if night else chance.between(6.5, 10.0),
        weekend=0.6 if job == "operator" else chance.weigh({0.02: 0.6, 0.15: 0.25, 0.5: 0.15}),
        at_office=chance.between(0.1, 0.8),
        by_company_vpn=chance.between(0.3, 0.9) if chance.happens(0.25) else 0.0,
        by_private_vpn=chance.between(0.3, 0.9) if chance.happens(0.35) else 0.02,
        by_mobile=chance.between(0.3, 0.9) if chance.happens(0.3) else 0.03,
        travels=0.4 if job in {"sales", "manager"} else 0.12,
        lease_days=chance.weigh({1: 0.5, 5: 0.25, 30: 0.25}),
        pace_s=chance.between(700.0, 2400.0),
        joins=joins,
        leaves=leaves,
        timetable=_draw_timetable(chance) if service else None,
    )


def _draw_timetable(chance: Chance) -> Timetable:
    every_s = chance.pick((3600.0, 5400.0, 7200.0))
    return Timetable(
        every_s=every_s,
        phase_s=chance.between(0.0, every_s),
        batch_s=chance.between(0.0, _DAY_S) if chance.happens(0.6) else None,
        batch_pace_s=chance.between(0.6, 5.0),
    )
