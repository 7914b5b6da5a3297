"""The inbox: the bounded queue between the network's thread and the worker's, and the only hand-off on the way in."""

import threading
import time
from collections import deque
from collections.abc import Sequence

from vedette.contract.readings import Message
from vedette.packets import Burst


class Inbox:
    """A bounded queue of messages with one producer and one consumer.

    Args:
        capacity: In messages; more by no more than a burst.
        patience_s: How long room is waited for where the broker expects messages to be acknowledged. Waiting holds the
            connection back, so the broker keeps the rest; it must stay well under the keepalive.

    Attributes:
        dropped: Messages that found no room.
    """

    def __init__(self, capacity: int, patience_s: float) -> None:
        self._capacity, self._patience_s = capacity, patience_s
        self._messages: deque[Message] = deque()
        self._arrived, self._room = threading.Event(), threading.Event()
        self._woken = False
        self.dropped = 0

    def __len__(self) -> int:
        """Messages that wait."""
        return len(self._messages)

    def make_room(self, burst: Burst) -> Burst:
        """What of a burst there is room for; the rest is dropped and counted. Called by the network's thread.

        Where the inbox is full, what the broker does not wait for goes first; for the other messages room is waited for.
        """
        if len(self._messages) < self._capacity:
            return burst
        wanted = [position for position, number in enumerate(burst.ids) if number]
        self._room.clear()
        # Looked at again after clear: the consumer may have made room in between.
        if len(self._messages) >= self._capacity and not (wanted and self._room.wait(self._patience_s)):
            wanted = []
        self.dropped += len(burst.messages) - len(wanted)
        places = {position: place for place, position in enumerate(wanted)}
        again = [places[position] for position in burst.again if position in places]
        return Burst([burst.messages[position] for position in wanted], [burst.ids[position] for position in wanted], again)

    def put(self, messages: Sequence[Message]) -> None:
        """Add messages, which `make_room` let pass. Called by the network's thread."""
        self._messages.extend(messages)
        if messages and not self._arrived.is_set():
            self._arrived.set()

    def take(self, most: int, timeout_s: float, linger_s: float) -> list[Message]:
        """Remove and return what is there, in order. Called by the worker's thread.

        Args:
            most: At most this many.
            timeout_s: How long to wait for the first.
            linger_s: How long to wait for company once the first is there: larger batches cost less a reading.
        """
        messages = self._messages
        deadline = time.monotonic() + timeout_s
        while not messages and not self._woken:
            if not self._arrived.wait(deadline - time.monotonic()):
                break
            # Cleared before the next look: whatever comes in between is either seen there or sets it again.
            self._arrived.clear()
        self._woken = False
        if not messages:
            return []
        if len(messages) < most:
            time.sleep(linger_s)
        taken = [messages.popleft() for _ in range(min(most, len(messages)))]
        self._room.set()
        return taken

    def wake(self) -> None:
        """Let a waiting `take`, or else the next, return at once. Called by any thread."""
        self._woken = True
        self._arrived.set()
