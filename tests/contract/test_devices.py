from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.devices import Devices, PerDevice, grouped

NAMES = st.lists(st.sampled_from("abcdefg"), max_size=40)


@given(NAMES, st.integers(1, 8), st.integers(0, 40))
def test_the_device_least_recently_heard_of_gives_way_whatever_the_batches(names: list[str], most: int, cut: int) -> None:
    remembered: OrderedDict[str, None] = OrderedDict()
    given_way = []
    for name in names:
        if name not in remembered and len(remembered) == most:
            given_way.append(remembered.popitem(last=False)[0])
        remembered[name] = None
        remembered.move_to_end(name)
    devices = Devices(most)
    forgotten, seen = [], []
    for batch in (names[:cut], names[cut:]):
        for part in devices.place(batch):
            forgotten += part.forgotten
            assert len(part.slots) == len(batch[part.readings])
            seen += [devices.names[slot] for slot in part.slots.tolist()]
    assert seen == names
    assert (forgotten, devices.evicted) == (given_way, len(given_way))
    assert [devices.names[slot] for slot in devices.recent()] == list(remembered)
    assert len(devices) == len(remembered)


def test_who_gave_way_is_told_before_its_slot_is_used_again() -> None:
    devices = Devices(1)
    parts = [(part.readings, part.slots.tolist(), part.evicted.tolist(), part.forgotten) for part in devices.place(["a", "a", "b", "a"])]
    assert parts == [(slice(0, 2), [0, 0], [], []), (slice(2, 3), [0], [0], ["a"]), (slice(3, 4), [0], [0], ["b"])]


def test_a_record_is_fresh_until_it_is_written_and_after_a_reset() -> None:
    records = PerDevice(np.array(7.0))
    records.reach(np.array([2]))[2] = 1.0
    assert records.values[:3].tolist() == [7.0, 7.0, 1.0]
    records.reset(np.array([2, 99_999]))
    assert records.values[2] == 7.0
    assert len(records.values) < 1000


def test_records_move_with_their_devices() -> None:
    records = PerDevice(np.array(0))
    records.reach(np.arange(3))[:3] = [10, 11, 12]
    records.move(np.array([4, 0, 2]))
    assert records.values[:5].tolist() == [11, 0, 12, 0, 10]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_rounds_take_one_reading_of_each_device_at_a_time_in_its_order(slots: list[int]) -> None:
    groups = grouped(np.array(slots, dtype=np.intp))
    seen: dict[int, list[int]] = {}
    for devices, places in groups.rounds():
        turn = groups.slots[devices].tolist()
        assert len(set(turn)) == len(turn)
        for slot, position in zip(turn, groups.order[places].tolist(), strict=True):
            seen.setdefault(slot, []).append(position)
    assert seen == {slot: [p for p, s in enumerate(slots) if s == slot] for slot in set(slots)}
