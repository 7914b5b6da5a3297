"""Alerts wait for a broker that is gone, and no longer than there is room."""

from chaos import spooled
from chaos.progress import Progress


def test_an_hour_of_alerts_without_a_broker_waits_within_the_caps_and_drains_in_order() -> None:
    rows = spooled.run(Progress(), 1, seed=1)
    figures = {row.name: row.value for row in rows}
    assert not any(row.missed for row in rows), figures
    assert figures["1 h without a broker: dropped, spool_updates"] > 100
    assert figures["1 h without a broker: dropped, spool_episodes"] > 100
