"""A flood of seconds, and what would be told of an agent that it drowns."""

import math

from chaos import flood
from chaos.flood import Seen
from chaos.flooding_broker import Sent, State

COUNTERS = {"scored": 0, "rejected.newcomer": 0, "evicted": 0}
BEFORE = {"received": 0, "dropped": 0, "queued": 0, "streams": {"f": COUNTERS}}
AFTER = {"received": 5000, "dropped": 10, "queued": 0, "streams": {"f": {**COUNTERS, "scored": 100}}}


def test_a_flood_of_spoofed_names_costs_honest_devices_nothing_that_lasts() -> None:
    rows = {row.name: row for row in flood.run(lambda _: None, 6.0, 7)}
    assert len(rows) == 28
    for what in ("flood, QoS 0", "flood, some QoS 1"):
        assert rows[f"{what}: honest readings scored, QoS 1"].value >= 0.99
        assert rows[f"{what}: devices that had to give way"].value == 0
        assert rows[f"{what}: readings of newcomers refused"].value > 1000
        # What memory and time come to on a machine that others use says little; that it ends well does.
        assert rows[f"{what}: rss at most"].value < 250
        assert rows[f"{what}: recovered after"].value < flood.LONGEST_RECOVERY_S


def test_what_is_not_scored_grows_or_does_not_recover_misses_its_bar() -> None:
    sent = [Sent(f"honest-{n}", 100.0 + n, n % 2) for n in range(50)]
    states = [State(device, time, time + 0.1) for device, time, _ in sent]
    good = Seen(sent, states, frozenset((s.device, s.time) for s in sent), [(1.0, BEFORE), (2.0, AFTER)], 100_000_000, 5000, 1.0, 2.0)

    def missed(seen: Seen) -> list[str]:
        return [row.name.removeprefix("x: ") for row in flood.rows_of("x", seen, is_held_back=False) if row.missed]

    assert missed(good) == []
    assert missed(good._replace(scored=frozenset((s.device, s.time) for s in sent if s.time < 148))) == ["honest readings scored, QoS 1"]
    assert missed(good._replace(peak=201_000_000)) == ["rss at most"]
    assert missed(good._replace(recovered_s=None)) == ["recovered after"]
    assert missed(good._replace(stats=[(1.0, BEFORE), (7.0, AFTER)])) == ["longest wait for statistics"]
    assert math.isnan(
        next(r.value for r in flood.rows_of("x", good._replace(recovered_s=None), is_held_back=False) if "recovered" in r.name)
    )
