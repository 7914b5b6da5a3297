"""The scenario `login-events` as the command sees it: its options, its files and its topic."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vedette.simulate.live import level
from vedette.simulate.logins.attacks import KINDS, Attack, AttackError, parse_attack
from vedette.simulate.logins.log import payload, write_logs
from vedette.simulate.logins.realm import Realm, draw_users
from vedette.simulate.logins.sessions import Event
from vedette.simulate.logins.users import User
from vedette.simulate.options import add_fleet, add_live, add_output, count, rate, share, topic_without_wildcards
from vedette.simulate.scenario import Chronicle, Period, Scenario, Tally, iso

_TOPIC: Final = "idp/{realm}/events"
_FILE_DURATION_S: Final = 28 * 86400.0
_USERS_PER_ATTACK: Final = 80  # a day; some 3 % of the rows are then labelled


class IdentityProvider:
    """An identity provider's log with the attacks named and the attacks drawn.

    Raises:
        AttackError: an attack cannot be as asked.
    """

    def __init__(self, options: argparse.Namespace, period: Period) -> None:
        self.population = f"{options.users} users"
        self._options = options
        self._period = period
        self._until_s = period.start_s
        attacks_per_day = options.users / _USERS_PER_ATTACK if options.attack_rate is None else options.attack_rate
        users = draw_users(options.users, seed=options.seed, start=period.start_s)
        self._realm = Realm(
            users,
            seed=options.seed,
            start=period.start_s,
            attacks=_attacks(options, users, period),
            attacks_per_day=attacks_per_day,
        )
        self._chronicle = Chronicle(self._realm.attacks, lambda attack: str(attack.user))
        self._files: dict[str, Tally] = {}

    def samples(self) -> Iterator[Event]:
        """Rows of all accounts."""
        for event in self._realm.events(self._period.end_s):
            self._until_s = event.time
            yield event
        self._until_s = self._period.end_s

    def write(self, output: str, samples: Iterator[Event]) -> Tally:
        """Write the training and the test log into a folder."""
        split_s = self._period.start_s + self._options.train_share * (self._period.end_s - self._period.start_s)
        train, test = write_logs(samples, Path(output), split=split_s)
        self._files = {"train": train, "test": test}
        return Tally(train.readings + test.readings, train.anomalous + test.anomalous)

    def topic(self, template: str, sample: Event) -> str:
        """The topic of the account's realm."""
        return template.replace("{realm}", level(sample.realm))

    def payload(self, sample: Event) -> bytes:
        """The row without its label."""
        return payload(sample)

    def news(self, sample: Event) -> Iterator[str]:
        """Which attacks start and end."""
        return self._chronicle.until(sample.time)

    def summary(self) -> dict[str, object]:
        """The realm, its files, and the attacks that have begun."""
        return {
            "users": self._options.users,
            "end": iso(self._until_s),
            **{name: {"readings": tally.readings, "anomalous": tally.anomalous} for name, tally in self._files.items()},
            "attacks": [
                {"kind": attack.kind, "user": attack.user, "start": iso(attack.start), "end": iso(attack.end)}
                for attack in self._realm.attacks
                if attack.start < self._until_s
            ],
        }


def _attacks(options: argparse.Namespace, users: list[User], period: Period) -> list[Attack]:
    attacks = [parse_attack(text, users=users, start=period.start_s) for text in options.attack]
    for text, attack in zip(options.attack, attacks, strict=True):
        if attack.start >= period.end_s:
            raise AttackError(f'attack "{text}": starts when the simulation of {period.duration_s:g} s is over')
    return attacks


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"Attacks: {', '.join(KINDS)}. A seed gives the same rows on every machine."
    add_output(parser, metavar="FOLDER", help_="labelled train_logs.json and test_logs.json, divided by time")
    realm = add_fleet(parser, "the realm", file_duration="28d")
    realm.add_argument("--users", type=count, default=200, metavar="N", help="accounts; default 200")
    realm.add_argument("--train-share", type=share, default=0.7, metavar="SHARE", help="of the duration, for train_logs.json; default 0.7")
    attacks = parser.add_argument_group("what goes wrong")
    attacks.add_argument(
        "--attack",
        action="append",
        default=[],
        metavar="KIND:USER:START:DURATION",
        help="such as impossible_travel:user-017:30h:40m, START from the simulation's; may be repeated",
    )
    attacks.add_argument(
        "--attack-rate",
        type=rate,
        metavar="N",
        help="attacks drawn per day, on accounts that no --attack names; default one for 80 accounts",
    )
    add_live(parser, topic=_TOPIC, topic_type=topic_without_wildcards, topic_help="{realm} stands for the realm's name")


def _check(options: argparse.Namespace) -> str | None:
    return "-o - cannot be: there are two files; name a folder" if options.output == "-" else None


LOGIN_EVENTS: Final = Scenario(
    help="an identity provider's log with attacks, one message or JSON row an event",
    add_options=_add_options,
    check=_check,
    make=IdentityProvider,
    file_duration_s=_FILE_DURATION_S,
)
