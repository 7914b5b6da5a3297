"""No column of the login log gives an attack away by itself; a window of an account's rows does."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from vedette.simulate.command import simulate
from vedette.simulate.logins.attacks import KINDS

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]

MOST_OF_ONE_COLUMN = 0.80
LEAST_OF_A_WINDOW = 0.90
WINDOW = 20
KEYS = ["timestamp", "log_type", "userId", "ipAddress", "location", "city", "roles", "type", "realmId", "clientId", "authType"]
TEXTS = ["timestamp", "log_type", "userId", "ipAddress", "location", "city", "type", "realmId", "clientId", "authType"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], list[Row]]:
    """The files of the default command: train and test."""
    folder = tmp_path_factory.mktemp("logins")
    assert simulate(["login-events", "-o", str(folder)]) == 0
    return json.loads((folder / "train_logs.json").read_bytes()), json.loads((folder / "test_logs.json").read_bytes())


@cache
def moment(row_time: str) -> datetime:
    return datetime.fromisoformat(row_time)


def text(name: str) -> Callable[[Row], str]:
    return lambda row: row.get(name, "")


def folded(name: str) -> Callable[[Row], str]:
    return lambda row: row.get(name, "").strip().casefold()


def length(name: str) -> Callable[[Row], int]:
    return lambda row: len(row.get(name, ""))


def role(name: str) -> Callable[[Row], bool]:
    return lambda row: name in row["roles"]


COLUMNS: dict[str, Callable[[Row], Hashable]] = {
    **{name: text(name) for name in TEXTS},
    **{f"{name}, folded": folded(name) for name in TEXTS},
    **{f"{name}, length": length(name) for name in TEXTS},
    "ipAddress/8": lambda row: row["ipAddress"].split(".")[0],
    "ipAddress/16": lambda row: tuple(row["ipAddress"].split(".")[:2]),
    "ipAddress/24": lambda row: tuple(row["ipAddress"].split(".")[:3]),
    "ipAddress, last byte": lambda row: row["ipAddress"].split(".")[3],
    "userId, kind": lambda row: row["userId"].rsplit("-", 1)[0],
    "roles": lambda row: ",".join(row["roles"]),
    "roles, in any order": lambda row: frozenset(row["roles"]),
    "roles, count": lambda row: len(row["roles"]),
    **{f"roles, {name}": role(name) for name in ("realm-admin", "employee", "developer", "approver", "support", "service")},
    "timestamp, date": lambda row: row["timestamp"][:10],
    "timestamp, hour": lambda row: moment(row["timestamp"]).hour,
    "timestamp, weekday": lambda row: moment(row["timestamp"]).weekday(),
    "timestamp, hour of the week": lambda row: (moment(row["timestamp"]).weekday(), moment(row["timestamp"]).hour),
    "timestamp, minute": lambda row: moment(row["timestamp"]).minute,
    "timestamp, second": lambda row: moment(row["timestamp"]).second,
    "timestamp, millisecond": lambda row: moment(row["timestamp"]).microsecond // 1000,
    "number of keys": len,  # a label and an attack are on every row
}


def labels(rows: Iterable[Row]) -> npt.NDArray[np.int64]:
    return np.array([row["label"] for row in rows])


@pytest.mark.parametrize("name", COLUMNS)
def test_no_single_column_gives_an_attack_away(name: str, logs: tuple[list[Row], list[Row]]) -> None:
    train, test = logs
    of = COLUMNS[name]
    rows: Counter[Hashable] = Counter(of(row) for row in train)
    attacks: Counter[Hashable] = Counter(of(row) for row in train if row["label"])
    prior = sum(attacks.values()) / len(train)
    rates = [(attacks[of(row)] + 5 * prior) / (rows[of(row)] + 5) for row in test]
    rarity = [-rows[of(row)] for row in test]
    truth = labels(test)
    auc = {"rate in train": roc_auc_score(truth, rates), "rarity in train": roc_auc_score(truth, rarity)}
    print(f"{name:28} " + " ".join(f"{how} {value:.3f}" for how, value in auc.items()))
    assert max(auc.values()) < MOST_OF_ONE_COLUMN
    telling = [value for value in rows if rows[value] >= 20 and attacks[value] > 0.9 * rows[value]]
    assert all(attacks[value] <= 0.25 * sum(attacks.values()) for value in telling)


def test_every_type_client_role_country_and_kind_of_line_of_attackers_is_used_innocently_too(
    logs: tuple[list[Row], list[Row]],
) -> None:
    for rows in logs:
        for of in (text("type"), text("clientId"), text("location"), text("city"), text("authType"), COLUMNS["ipAddress/8"]):
            innocent = Counter(of(row) for row in rows if not row["label"])
            for value, count in Counter(of(row) for row in rows if row["label"]).items():
                assert innocent[value] >= max(20, count / 4), f"{value}: {innocent[value]} innocent, {count} of attackers"
        innocent_roles = {COLUMNS["roles"](row) for row in rows if not row["label"]}
        assert {COLUMNS["roles"](row) for row in rows} <= innocent_roles


def window_features(rows: list[Row]) -> Floats:
    """Of the last `WINDOW` rows of the row's account: `(rows, features)`; a file is judged without the one before."""
    types = ["LOGIN", "LOGIN_ERROR", "REFRESH_TOKEN", "CODE_TO_TOKEN", "GRANT_ROLE", "IMPERSONATE", "LOGOUT", "UPDATE_PASSWORD", "access"]
    features = np.zeros((len(rows), len(types) + 9))
    accounts: dict[str, list[tuple[Row, float]]] = defaultdict(list)
    for number, row in enumerate(rows):
        past = accounts[row["userId"]]
        past.append((row, moment(row["timestamp"]).timestamp()))
        del past[:-WINDOW]
        window = [one for one, _ in past]
        kinds = Counter(one.get("type", "access") for one in window)
        gaps = np.log1p([after[1] - before[1] for before, after in pairwise(past)] or [1e6])
        moves = sum(one["city"] != other["city"] for one, other in pairwise(window))
        features[number] = [
            *(kinds[kind] / len(window) for kind in types),
            *(len({one[name] for one in window}) for name in ("city", "ipAddress", "clientId")),
            moves,
            len({len(one["roles"]) for one in window}),
            gaps.mean(),
            gaps.max(),
            gaps[-5:].mean(),
            sum("admin" in one["clientId"] for one in window),
        ]
    return features


def test_a_window_of_an_accounts_rows_shows_the_attack(logs: tuple[list[Row], list[Row]]) -> None:
    train, test = logs
    model = HistGradientBoostingClassifier(max_iter=80, class_weight="balanced", random_state=0)
    model.fit(window_features(train), labels(train))
    scores = model.predict_proba(window_features(test))[:, 1]
    truth = labels(test)
    auc = roc_auc_score(truth, scores)
    print(f"window of {WINDOW} rows: ROC AUC {auc:.3f}")
    assert auc > LEAST_OF_A_WINDOW
    for kind in KINDS:
        judged = np.array([row["attack"] in ("", kind) for row in test])
        of_kind = roc_auc_score(truth[judged], scores[judged])
        print(f"{kind:24} {of_kind:.3f}")
        assert of_kind > 0.8


def test_amounts_are_those_of_a_small_firm_with_few_attacks(logs: tuple[list[Row], list[Row]]) -> None:
    rows = [*logs[0], *logs[1]]
    assert 70_000 < len(rows) < 200_000
    assert 0.6 < len(logs[0]) / len(rows) < 0.8
    for part in logs:
        assert 0.015 < labels(part).mean() < 0.04
        assert {row["attack"] for row in part} == {"", *KINDS}


def test_rows_are_in_order_of_time_within_their_files_period(logs: tuple[list[Row], list[Row]]) -> None:
    train, test = ([row["timestamp"] for row in rows] for rows in logs)
    assert train == sorted(train)
    assert test == sorted(test)
    assert train[0] >= "2026-01-05T00:00:00.000+00:00"
    assert train[-1] < "2026-01-24T14:24:00.000+00:00" <= test[0]
    assert test[-1] < "2026-02-02T00:00:00.000+00:00"


def test_attacks_and_innocent_rows_overlap_in_time_in_both_files(logs: tuple[list[Row], list[Row]]) -> None:
    for rows in logs:
        changes = sum(one["label"] != other["label"] for one, other in pairwise(rows))
        assert changes > 0.2 * labels(rows).sum()
        days = {row["timestamp"][:10] for row in rows}
        assert len({row["timestamp"][:10] for row in rows if row["label"]}) > 0.7 * len(days)


def test_texts_are_clean_and_uniform(logs: tuple[list[Row], list[Row]]) -> None:
    for row in (row for rows in logs for row in rows):
        values = [row[name] for name in TEXTS if name in row] + row["roles"]
        assert all(value == value.strip() and value.isascii() and value for value in values)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", row["timestamp"])
        assert ("type" in row) == (row["log_type"] == "event")
        assert list(row) == [key for key in KEYS if key in row] + ["label", "attack"]
        assert (row["label"], bool(row["attack"])) in ((0, False), (1, True))


def test_accounts_say_one_thing_with_one_word(logs: tuple[list[Row], list[Row]]) -> None:
    for name in ("userId", "location", "city", "type", "clientId", "authType", "realmId"):
        words = {row[name] for rows in logs for row in rows if name in row}
        assert len({word.casefold() for word in words}) == len(words)
    cities = {(row["city"], row["location"]) for rows in logs for row in rows}
    assert len({city for city, _ in cities}) == len(cities)


def test_rows_are_one_a_line(tmp_path: Path) -> None:
    assert simulate(["login-events", "--users", "5", "--duration", "2d", "-o", str(tmp_path)]) == 0
    for name in ("train_logs.json", "test_logs.json"):
        lines = (tmp_path / name).read_text().splitlines()
        assert (lines[0], lines[-1]) == ("[", "]")
        assert [json.loads(line.removesuffix(",")) for line in lines[1:-1]] == json.loads((tmp_path / name).read_bytes())
