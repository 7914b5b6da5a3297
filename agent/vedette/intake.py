"""The intake: what the network's thread does with messages, which is to refuse repeats, keep the rest, and hand it to the worker.

Rules this module keeps: a message is kept before it is acknowledged, and handed on once it is kept; nothing is taken for which there is
no room.
"""

from collections.abc import Callable

from vedette.contract.readings import Message
from vedette.database import Database
from vedette.inbox import Inbox
from vedette.journal import Journal
from vedette.packets import Burst


class Intake:
    """The way in.

    Args:
        database: Whether the disk works.
        journal: Keeps messages.
        inbox: Is given them.
        aside: Takes a message that is no telemetry, and says whether it was one; None where there are none.
        holds: While the disk fails, nothing is acknowledged.

    Attributes:
        received: Messages, without those set aside.
        repeated: Of those, the ones that were taken before.
    """

    def __init__(self, database: Database, journal: Journal, inbox: Inbox, aside: Callable[[Message], bool] | None, *, holds: bool) -> None:
        self._database, self._journal, self._inbox, self._aside, self._holds = database, journal, inbox, aside, holds
        self.received = self.repeated = 0

    def take(self, burst: Burst) -> bool:
        """Take a burst, and say whether it may be acknowledged. With an empty one: whether what waits for that may be now."""
        if burst.messages:
            if self._aside:
                burst = self._without_aside(burst, self._aside)
            arrived = len(burst.messages)
            self.received += arrived
            burst = self._journal.without_repeats(burst)
            self.repeated += arrived - len(burst.messages)
            burst = self._inbox.make_room(burst)
            if burst.messages:
                self._journal.take(burst)
                self._inbox.put(burst.messages)
        return not (self._holds and self._database.failing)

    def _without_aside(self, burst: Burst, aside: Callable[[Message], bool]) -> Burst:
        kept = [position for position, message in enumerate(burst.messages) if not aside(message)]
        if len(kept) == len(burst.messages):
            return burst
        places = {position: place for place, position in enumerate(kept)}
        again = [places[position] for position in burst.again if position in places]
        return Burst([burst.messages[p] for p in kept], [burst.ids[p] for p in kept], again)
