import threading
import time

from vedette.contract.readings import Message
from vedette.inbox import Inbox
from vedette.packets import Burst


def message(number: int) -> Message:
    return Message(str(number), b"", 0.0)


def put(inbox: Inbox, *numbers: int, qos: int = 0) -> None:
    """As the network's thread does."""
    inbox.put(inbox.make_room(Burst([message(n) for n in numbers], [n + 1 if qos else 0 for n in numbers], [])).messages)


def test_messages_leave_in_order_and_no_more_than_asked() -> None:
    inbox = Inbox(10, patience_s=0)
    for number in range(5):
        put(inbox, number)
    assert [m.topic for m in inbox.take(3, 0, 0)] == ["0", "1", "2"]
    assert [m.topic for m in inbox.take(3, 0, 0)] == ["3", "4"]
    assert inbox.take(3, 0.01, 0) == []


def test_without_room_a_message_is_dropped_and_counted() -> None:
    inbox = Inbox(2, patience_s=0.01)
    for number in range(5):
        put(inbox, number, qos=number == 4)
    assert inbox.dropped == 3 and len(inbox) == 2


def test_a_message_that_may_wait_waits_for_room() -> None:
    inbox = Inbox(1, patience_s=10)
    put(inbox, 0, qos=1)
    producer = threading.Thread(target=put, args=(inbox, 1), kwargs={"qos": 1}, daemon=True)
    producer.start()
    time.sleep(0.05)
    assert len(inbox) == 1
    assert [m.topic for m in inbox.take(1, 0, 0)] == ["0"]
    producer.join(5)
    assert [m.topic for m in inbox.take(1, 1, 0)] == ["1"] and inbox.dropped == 0


def test_where_there_is_no_room_only_messages_that_the_broker_waits_for_wait_and_the_others_go() -> None:
    inbox = Inbox(1, patience_s=10)
    put(inbox, 0)
    threading.Timer(0.05, inbox.take, (1, 0, 0)).start()
    burst = inbox.make_room(Burst([message(n) for n in (1, 2, 3, 4)], [0, 12, 0, 14], [1, 3]))
    assert ([m.topic for m in burst.messages], burst.ids, burst.again) == (["2", "4"], [12, 14], [0, 1]) and inbox.dropped == 2


def test_nothing_is_lost_between_two_busy_threads() -> None:
    inbox = Inbox(50, patience_s=30)
    taken: list[Message] = []

    def produce() -> None:
        for number in range(20_000):
            put(inbox, number, qos=1)

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    while len(taken) < 20_000 and (batch := inbox.take(64, 5, 0)):
        taken += batch
    producer.join(5)
    assert [m.topic for m in taken] == [str(n) for n in range(20_000)] and inbox.dropped == 0


def test_a_waiting_take_can_be_woken() -> None:
    inbox = Inbox(1, patience_s=0)
    threading.Timer(0.05, inbox.wake).start()
    began = time.monotonic()
    assert inbox.take(1, 30, 0) == [] and time.monotonic() - began < 10


def test_a_wake_before_the_take_is_not_lost() -> None:
    inbox = Inbox(1, patience_s=0)
    inbox.wake()
    began = time.monotonic()
    assert inbox.take(1, 30, 0) == [] and time.monotonic() - began < 10


def test_a_take_that_nobody_wakes_waits_its_time() -> None:
    inbox = Inbox(9, patience_s=0)
    put(inbox, 0)
    put(inbox, 1)
    assert len(inbox.take(9, 0, 0)) == 2
    began = time.monotonic()
    assert inbox.take(9, 0.3, 0) == [] and time.monotonic() - began >= 0.3
