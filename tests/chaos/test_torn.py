"""A torn copy of the database opens to what some transaction committed, or is set aside."""

from chaos import torn
from chaos.progress import Progress


def test_a_torn_copy_is_never_opened_to_what_was_never_committed() -> None:
    rows = torn.run(Progress(), 300, seed=1)
    figures = {row.name: row.value for row in rows}
    assert not any(row.missed for row in rows), figures
    assert figures["torn copies: opened to what a transaction committed"] > 50
    assert figures["torn copies: set aside"] > 50
