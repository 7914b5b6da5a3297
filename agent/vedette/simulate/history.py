"""Labelled history as CSV: what a detector is trained and judged on.

Columns: `device`, `ts` (epoch seconds, whole), the scenario's values, `label` (0 or 1) and `fault` (empty or
its kind). The same samples give the same bytes.
"""

from collections.abc import Iterable, Sequence
from typing import TextIO

from vedette.simulate.fleet import Sample
from vedette.simulate.scenario import Tally


def write_history(samples: Iterable[Sample], file: TextIO, *, columns: Sequence[str]) -> Tally:
    """Write a header and one line a sample.

    Args:
        samples: In order of time.
        file: Open for text, without newline translation.
        columns: Names of the values.
    """
    file.write(",".join(("device", "ts", *columns, "label", "fault")) + "\n")
    readings = anomalous = 0
    for sample in samples:
        values = ",".join(str(sample.values[column]) for column in columns)
        label = int(sample.fault is not None)
        file.write(f"{sample.device},{int(sample.time)},{values},{label},{sample.fault or ''}\n")
        readings += 1
        anomalous += label
    return Tally(readings, anomalous)
