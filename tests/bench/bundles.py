"""`make bench-bundles`: what becomes of models on their way to a gateway, and of gateways that are given bad ones.

Every part is a module of its own with `measure(folder, quick=…)`, which returns its figures and a text that shows them.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bench import bundle_corruption, bundle_kills, bundle_swap, conversion, figures, machine
from bench.figures import Figures, Line, Row

Measure = Callable[..., tuple[list[Row], str]]

PARTS: Mapping[str, Measure] = {
    "conversion": conversion.measure,
    "corruption": bundle_corruption.measure,
    "kills": bundle_kills.measure,
    "swap": bundle_swap.measure,
}
_DISTRIBUTIONS = ("vedette", "ai-edge-litert", "onnxruntime", "tensorflow-cpu", "keras", "scikit-learn", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the figures.

    Returns:
        0, whatever the figures say.
    """
    parser = argparse.ArgumentParser(prog="bench-bundles", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS, nargs="+", default=tuple(PARTS), help="parts (default: all)")
    parser.add_argument("--quick", action="store_true", help="see whether the bench works, in seconds; the figures say little")
    parser.add_argument("-o", "--output", type=Path, default=figures.FOLDER / "bundles.json", help="figures file (default: %(default)s)")
    given = parser.parse_args(arguments)
    # Many models in one process is what this is; TensorFlow would warn of it.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    rows: list[Row] = []
    for name in given.only:
        with tempfile.TemporaryDirectory(prefix="vedette-bench-") as folder:
            found, text = PARTS[name](Path(folder), quick=given.quick)
        rows += found
        print(f"{name}\n\n{text}\n", flush=True)
    versions = machine.versions(sys.executable, _DISTRIBUTIONS)
    figures.write(Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=tuple(rows)), given.output)
    print(figures.table(figures.in_order(Line("bundles", row) for row in rows if row.bar is not None)))
    print(f"\n{given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
