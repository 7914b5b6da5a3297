"""The log as JSON: one row as the identity provider writes it, and the labelled files for training and test.

Keys: `timestamp` (ISO 8601, UTC, milliseconds), `log_type` ("event" or "access"), `userId`, `ipAddress`,
`location` (the country), `city`, `roles`, `type` (absent from access rows), `realmId`, `clientId`, `authType`;
in files also `label` (0 or 1) and `attack` (empty or its kind). A file is one array with a row a line. The same
events give the same bytes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

import msgspec

from vedette.simulate.logins.sessions import Event
from vedette.simulate.scenario import Tally

TRAIN_FILE: Final = "train_logs.json"
TEST_FILE: Final = "test_logs.json"


def payload(event: Event) -> bytes:
    """The JSON of a row as it is published. Never the label."""
    return msgspec.json.encode(_row(event))


def write_logs(events: Iterable[Event], folder: Path, *, split: float) -> tuple[Tally, Tally]:
    """Write both files into a folder, which is made if there is none.

    Args:
        events: In order of time.
        folder: Where to.
        split: Epoch seconds of the first moment that belongs to the test file.

    Returns:
        What the training and the test file hold.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _array(folder / TRAIN_FILE) as train, _array(folder / TEST_FILE) as test:
        for event in events:
            (test if event.time >= split else train).write(event)
    return Tally(train.rows, train.anomalous), Tally(test.rows, test.anomalous)


class _Rows:
    """The inside of a JSON array that is being written."""

    def __init__(self, file: TextIO) -> None:
        self.rows = 0
        self.anomalous = 0
        self._file = file

    def write(self, event: Event) -> None:
        label = int(event.attack is not None)
        row = _row(event) | {"label": label, "attack": event.attack or ""}
        self._file.write((",\n" if self.rows else "\n") + msgspec.json.encode(row).decode())
        self.rows += 1
        self.anomalous += label


@contextmanager
def _array(path: Path) -> Iterator[_Rows]:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("[")
        try:
            yield _Rows(file)
        finally:
            # A log that was interrupted ends early and can be read all the same.
            file.write("\n]\n")


def _row(event: Event) -> dict[str, object]:
    row: dict[str, object] = {
        "timestamp": datetime.fromtimestamp(event.time, UTC).isoformat(timespec="milliseconds"),
        "log_type": "access" if event.type is None else "event",
        "userId": event.user,
        "ipAddress": event.line.ip,
        "location": event.line.city.country,
        "city": event.line.city.name,
        "roles": event.roles,
        "type": event.type,
        "realmId": event.realm,
        "clientId": event.client,
        "authType": event.auth,
    }
    if event.type is None:
        del row["type"]
    return row
