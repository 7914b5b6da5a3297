"""Figures: what a bench measured, in a file that a claim can be traced to; run as a program, all of them as one table.

Rules this module keeps: a figures file is whole or not there; a row without a bar is information; nothing is rounded in the file.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

FOLDER = Path(__file__).resolve().parents[2] / "build" / "figures"


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One figure.

    Attributes:
        value: The median of `runs` measurements.
        bar: What `value` has to reach, on the side that `better` names; None for information.
        spread: The smallest and the largest measurement.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    better: Literal["lower", "higher"] | None = None
    runs: int
    spread: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.bar is not None and self.better is None:
            raise ValueError(f"{self.name}: a bar needs better: lower or higher")

    @property
    def missed(self) -> bool:
        """Whether there is a bar and the value is on its wrong side. NaN reaches no bar."""
        if self.bar is None:
            return False
        return not (self.value <= self.bar if self.better == "lower" else self.value >= self.bar)


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of one bench. `versions` maps what was measured, and what it ran on, to versions."""

    commit: str
    machine: str
    versions: Mapping[str, str]
    rows: tuple[Row, ...]


class Line(NamedTuple):
    """A row of the common table and the bench that it comes from."""

    bench: str
    row: Row


def write(figures: Figures, path: Path) -> None:
    """Write a figures file, making its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    unfinished.replace(path)


def read(path: Path) -> Figures:
    """Read a figures file.

    Raises:
        ValueError: it is not one.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}; run its bench again") from error


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Rows that miss their bar, then those that reach it, then information; otherwise as they came."""
    return sorted(lines, key=lambda line: 0 if line.row.missed else 1 if line.row.bar is not None else 2)


def table(lines: Sequence[Line]) -> str:
    """Rows as text, in the order given; those that miss their bar are marked."""
    cells = [["", "bench", "figure", "median", "unit", "bar", "spread", "runs"]]
    for bench, row in lines:
        bar = "" if row.bar is None else f"{'≤' if row.better == 'lower' else '≥'} {row.bar:g}"
        spread = "" if row.spread is None else f"{_digits(row.spread[0])} … {_digits(row.spread[1])}"
        cells.append(["MISSED" if row.missed else "", bench, row.name, _digits(row.value), row.unit, bar, spread, str(row.runs)])
    # A column that is empty throughout, such as the mark where nothing is missed, is left out.
    columns = [column for column in zip(*cells, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    numeric = {"median", "runs"}
    rows = zip(*columns, strict=True)
    aligned = (
        (cell.rjust(width) if column[0] in numeric else cell.ljust(width) for cell, column, width in zip(row, columns, widths, strict=True))
        for row in rows
    )
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def _digits(value: float) -> str:
    """Three significant digits, and no exponent for what a bench measures."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main(folder: Path = FOLDER) -> int:
    """Print all figures files of a folder as one table.

    Returns:
        0, whether bars are missed or not; 1 if there is nothing to read.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        print(f"{folder} holds no figures: run make bench", file=sys.stderr)
        return 1
    lines: list[Line] = []
    try:
        for path in paths:
            found = read(path)
            print(f"{path.stem}: commit {found.commit}, {found.machine}")
            lines += [Line(path.stem, row) for row in found.rows]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print()
    print(table(in_order(lines)))
    barred = [row for _, row in lines if row.bar is not None]
    print(f"\n{sum(row.missed for row in barred)} of {len(barred)} bars missed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
