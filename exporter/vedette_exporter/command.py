"""`vedette export`."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from vedette.contract.errors import BundleError, VedetteError
from vedette.contract.scores import Precision
from vedette_exporter.arguments import NAME, VERSION, checked
from vedette_exporter.choice import Choice
from vedette_exporter.files import write_whole

if TYPE_CHECKING:
    from vedette_exporter.parity import Parity
    from vedette_exporter.routes import Tried
    from vedette_exporter.variants import Variant


def export(arguments: Sequence[str]) -> int:
    """Make a run into the one file that a gateway needs.

    Args:
        arguments: The command line after `vedette export`.

    Returns:
        The exit code, 0.

    Raises:
        VedetteError: the run or the installation is at fault, or the exported model does not score as the original.
    """
    parser = argparse.ArgumentParser(prog="vedette export", description="Make a run into the one file that a gateway needs.")
    parser.add_argument("run", metavar="RUN", type=Path, help="a folder that vedette train wrote")
    parser.add_argument(
        "-o",
        "--output",
        metavar="BUNDLE",
        type=Path,
        default=Path(),
        help="a .vedette file, or a folder to put NAME-VERSION.vedette in (default: here)",
    )
    parser.add_argument("--name", type=checked(NAME, "lower-case letters, digits, . _ and -"), help="instead of the recipe's")
    parser.add_argument("--version", type=checked(VERSION, "MAJOR.MINOR.PATCH"), help="instead of the recipe's")
    parser.add_argument(
        "--runtime", choices=("litert", "onnx"), default="litert", help="what runs an LSTM on the gateway (default: litert, TFLite files)"
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="of the weights; float16 and int8 are recalibrated and shown beside float32 (default: float32)",
    )
    parser.add_argument(
        "--max-bytes",
        metavar="N",
        type=int,
        default=Choice().max_bytes,
        help="take no larger model file (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    choice = Choice(runtime=options.runtime, precision=options.precision, max_bytes=options.max_bytes)
    try:
        return _export(options.run, options.output, options.name, options.version, choice, as_json=options.json)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"vedette", "vedette_training", "vedette_exporter"}:
            raise
        raise VedetteError(f"exporting needs {error.name}, which is not installed: pip install 'vedette[export]'") from error


def _export(run: Path, output: Path, name: str | None, version: str | None, choice: Choice, *, as_json: bool) -> int:
    from vedette import runtimes
    from vedette.contract import bundle
    from vedette_exporter import timing
    from vedette_exporter.pack import pack

    print("converting and comparing with the original …", file=sys.stderr)
    packed = pack(run, name, version, choice)
    path = output if output.suffix == bundle.SUFFIX else output / bundle.file_name(packed.manifest)
    try:
        write_whole(path, packed.data)
    except OSError as error:
        raise BundleError(f"{path}: cannot write the bundle: {error.strerror}") from error

    # What counts is what is on the disk: read it back as a gateway would.
    written = bundle.open_bundle(path)
    scorer = runtimes.load_scorer(written)
    bundle.self_test(written, scorer)
    scorers = [*(variant.scorer for variant in packed.variants[:-1]), scorer]
    variants = list(zip(packed.variants, timing.us_per_window(scorers, written.golden_windows), strict=True))
    speed_us = variants[-1][1]
    stages = [
        {
            "name": stage.name,
            "file": stage.file,
            "bytes": len(written.files[stage.file]),
            "runtime": stage.runtime,
            "precision": stage.precision,
            "routes": [tried._asdict() for tried in packed.routes[stage.name]],
        }
        for stage in written.manifest.stages
    ]
    if as_json:
        result = {
            "bundle": str(path),
            "name": written.manifest.name,
            "version": written.manifest.version,
            "bytes": len(packed.data),
            "sha256": written.sha256,
            "stages": stages,
            "parity": {**packed.parity._asdict(), "allowed": packed.parity.allowed._asdict()},
            "us_per_window": _rounded(speed_us),
            "variants": [
                {
                    "precision": variant.precision,
                    "bytes": variant.model_bytes,
                    "us_per_window": _rounded(us),
                    "average_precision": variant.average_precision,
                }
                for variant, us in variants
            ],
        }
        print(json.dumps(result))
        return 0
    for stage in written.manifest.stages:
        print(f"stage       {stage.file}, {len(written.files[stage.file]) / 1024:.0f} KiB, {stage.runtime}, {stage.precision}")
        for tried in packed.routes[stage.name]:
            print(f"{'':<12}{_tell_route(tried)}")
    if kept := [stage.name for stage in written.manifest.stages if stage.precision != choice.precision]:
        print(f"            {', '.join(kept)}: no {choice.precision} form, float32")
    print(
        f"{_tell(packed.parity)}\n"
        f"{_compare(variants)}"
        f"speed       {speed_us[1]:.0f} us a window one by one, "
        f"{speed_us[32]:.0f} us in batches of 32, {speed_us[256]:.0f} us of 256, on this machine\n"
        f"size        {len(packed.data) / 1024:.0f} KiB\n"
        f"self-test   passed\n{path}"
    )
    return 0


def _rounded(speed_us: Mapping[int, float]) -> dict[str, float]:
    return {str(size): round(value, 1) for size, value in speed_us.items()}


def _compare(variants: "Sequence[tuple[Variant, Mapping[int, float]]]") -> str:
    """Variants as a table, where there are several."""
    if len(variants) < 2:
        return ""
    sizes = list(variants[0][1])
    rows = [("variant", "weights", "models", "average precision", *(f"us, {size} a call" for size in sizes))]
    for variant, us in variants:
        found = "no labels" if variant.average_precision is None else f"{variant.average_precision:.4f}"
        rows.append(("", variant.precision, f"{variant.model_bytes / 1024:.0f} KiB", found, *(f"{us[size]:.1f}" for size in sizes)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(f"{row[0]:<12}{'  '.join(map(str.rjust, row[1:], widths[1:]))}\n" for row in rows)


def _tell_route(tried: "Tried") -> str:
    """What came of a route."""
    if tried.refused:
        return f"route {tried.route}: refused: {tried.refused}"
    speed = [f"{us:.0f} us a window in batches of {size}" for size, us in tried.us_per_window.items()]
    return f"route {tried.route}: {', '.join([f'{tried.bytes / 1024:.0f} KiB', *speed])}{': taken' if tried.is_taken else ''}"


def _tell(parity: "Parity") -> str:
    """What the gate measured."""
    from vedette_exporter.parity import FED

    allowed = parity.allowed if parity.share_beyond else f"{parity.allowed.usual:g}"
    lines = [f"{parity.windows} windows, scores differ by at most {parity.largest_difference:.1g} (allowed {allowed})"]
    if parity.share_beyond:
        why = ": rounding between two stages took them over a cut" if parity.allowed == FED else ""
        lines.append(f"{parity.share_beyond:.2%} of them by more than {parity.allowed.usual:g}{why}")
    lines.append(f"{parity.verdicts_flipped} verdicts flip, all that near to 1.0" if parity.verdicts_flipped else "no verdict flips")
    if len(parity.stages) > 1:
        lines += [f"{name}, given the same input: at most {difference:.1g}" for name, difference in parity.stages.items()]
    lines.append(f"batches of {', '.join(map(str, parity.batch_sizes))} and of unequal sizes: equal to the last bit")
    return "\n".join(f"{'' if number else 'parity':<12}{line}" for number, line in enumerate(lines))
