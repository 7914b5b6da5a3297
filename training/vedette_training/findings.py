"""Findings: what an audit of the data says, and how it is shown."""

import textwrap
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

Kind = Literal[
    "text_variants",
    "leak",
    "classes_apart_in_time",
    "duplicates",
    "random_split",
    "one_class",
    "few_anomalies",
    "drift",
    "missing",
    "out_of_range",
    "unseen_category",
    "constant",
    "short_devices",
    "late",
    "gaps",
]
Severity = Literal["artefact", "warning", "note"]

LOOKED_AT = (
    "columns and devices that tell the label by themselves, texts that differ in spaces or case, classes apart in time, readings that are "
    "in training and test, drift, missing, out-of-range, unseen and constant values, too few anomalies, short, late and interrupted devices"
)


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found.

    Attributes:
        subject: The column, device or part that it is about.
        text: One line: what was found, with its numbers, and what to do.
    """

    kind: Kind
    severity: Severity
    subject: str
    text: str


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By severity, then in the order of Kind."""
    ranks = {name: rank for rank, name in enumerate((*get_args(Severity), *get_args(Kind)))}
    return tuple(sorted(findings, key=lambda finding: (ranks[finding.severity], ranks[finding.kind])))


def headline(findings: tuple[Finding, ...]) -> str | None:
    """The first line of every report on data that no figure can be trusted on; None where nothing is that bad."""
    artefacts = [finding for finding in findings if finding.severity == "artefact"]
    if not artefacts:
        return None
    more = f" ({len(artefacts) - 1} more: see the audit)" if len(artefacts) > 1 else ""
    return f"These results are an artefact: {artefacts[0].subject}: {artefacts[0].text}{more}"


def table(findings: tuple[Finding, ...]) -> str:
    """The findings for a terminal; also what was looked at."""
    counts = [count(sum(f.severity == severity for f in findings), severity) for severity in get_args(Severity)]
    lines = [f"data audit: {', '.join(counts) if findings else 'nothing found'}"]
    for finding in findings:
        mark = finding.severity.upper() if finding.severity == "artefact" else finding.severity
        lines += textwrap.wrap(f"{mark:<9} {finding.subject}: {finding.text}", 120, initial_indent="  ", subsequent_indent=" " * 12)
    return "\n".join([*lines, *textwrap.wrap(f"looked at: {LOOKED_AT}", 120, initial_indent="  ", subsequent_indent=" " * 12)])


def percent(share: float) -> str:
    """A share for people; one that is not nothing does not look like it."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def count(number: int, noun: str) -> str:
    """Such as 1 row, 1,234 rows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def quote(text: str) -> str:
    """Text whose spaces must be seen."""
    return f'"{text}"'
