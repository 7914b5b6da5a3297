"""docs/failure-modes.md and docs/security.md say nothing in a table with a column "shown by" that no test shows."""

import re

import pytest

from conftest import REPOSITORY

_LINK = re.compile(r"\[([a-z0-9 _]+)\]\(([^)]+\.py)\)")


@pytest.mark.parametrize(("page", "least"), [("failure-modes.md", 50), ("security.md", 10)])
def test_every_row_names_tests_that_there_are(page: str, least: int) -> None:
    path = REPOSITORY / "docs" / page
    tables = re.findall(r"^\|[^\n]* shown by \|\n\| ---[^\n]*\n((?:\|[^\n]*\n)+)", path.read_text(), re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) >= least
    for row in rows:
        shown = _LINK.findall(row.rstrip("| ").rpartition(" | ")[2])
        assert shown, f"no test shows this: {row}"
        for words, target in shown:
            file = (path.parent / target).resolve()
            name = f"test_{words.replace(' ', '_')}"
            assert file.exists() and re.search(rf"^def {name}\(", file.read_text(), re.MULTILINE), f"{target}::{name} is not there: {row}"
