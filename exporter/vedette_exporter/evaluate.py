"""`vedette evaluate`: figures through the gateway's own runtime, and the report."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vedette import config
from vedette.contract.errors import ConfigError, VedetteError

if TYPE_CHECKING:
    from vedette.config import Alerts
    from vedette.contract.bundle import Bundle
    from vedette_training.evaluate import Evaluation
    from vedette_training.judging import Judged
    from vedette_training.run import Labelled, Run
    from vedette_training.study import Study


def evaluate(arguments: Sequence[str]) -> int:
    """Judge runs or bundles on labelled history, as a gateway would, and write a report.

    Args:
        arguments: The command line after `vedette evaluate`.

    Returns:
        The exit code, 0.

    Raises:
        VedetteError: a run, a bundle, the history or the installation is at fault.
    """
    parser = argparse.ArgumentParser(prog="vedette evaluate", description=(evaluate.__doc__ or "").splitlines()[0])
    parser.add_argument("models", metavar="RUN|BUNDLE", nargs="+", type=Path, help="folders that vedette train wrote, or .vedette files")
    parser.add_argument("--history", metavar="FILE", nargs="+", help="judge on these, all of them, instead of the run's own test part")
    parser.add_argument("--recipe", metavar="RECIPE", help="says where label, device and time are in --history; a run brings its own")
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="an agent.yaml, for its alert rules (default: the agent's defaults)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="HTML", help="the report (default: report.html in the run, else here)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    try:
        return _evaluate(options)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"vedette", "vedette_training", "vedette_exporter"}:
            raise
        raise VedetteError(f"evaluating needs {error.name}, which is not installed: pip install 'vedette[export]'") from error


def _evaluate(options: argparse.Namespace) -> int:
    from vedette_training import report

    rules = config.load(options.config).alerts if options.config else config.Alerts()
    evaluations = [_judge(path, options, rules) for path in options.models]
    only: Path = options.models[0]
    output: Path = options.output or (only / "report.html" if len(evaluations) == 1 and only.is_dir() else Path("report.html"))
    report.write(output, evaluations)
    if options.json:
        print(json.dumps({"report": str(output), "models": [_figures(evaluation) for evaluation in evaluations]}))
        return 0
    for evaluation in evaluations:
        print(_text(evaluation) + "\n")
    print(f"report: {output}")
    return 0


def _judge(path: Path, options: argparse.Namespace, rules: "Alerts") -> "Evaluation":
    """Take labelled readings through one model."""
    from vedette import runtimes
    from vedette_exporter import timing
    from vedette_training import judging
    from vedette_training import run as runs
    from vedette_training.evaluate import Evaluation, count_episodes, find_drift, measure

    bundle, folder = _open(path, options.models)
    run = runs.read(folder)[0] if folder else None
    labelled = _labelled(path, folder, run, options)
    scorer = runtimes.load_scorer(bundle)
    print(f"{path}: {len(labelled.times)} readings through the gateway's runtime …", file=sys.stderr)
    judged = judging.judge(bundle, scorer, labelled, rules)
    if not len(judged.scores):
        raise ConfigError(
            f"{path}: {len(labelled.times)} readings make no window of {bundle.manifest.window.steps} steps: give more history"
        )
    return Evaluation(
        manifest=bundle.manifest,
        run=run,
        judged=judged,
        labelled=labelled,
        metrics=measure(judged.scores, judged.anomalous),
        episodes=count_episodes(judged, labelled, bundle.manifest.window),
        drift=find_drift(judged),
        study=_study(bundle, judged),
        us_per_window=timing.us_per_window([scorer], judged.windows)[0],
    )


def _open(path: Path, others: Sequence[Path]) -> tuple["Bundle", Path | None]:
    """A bundle, or the bundle that a run becomes; and the run's folder, a bundle's being that of `others` which it was exported from."""
    from vedette.contract import bundle
    from vedette_exporter.pack import pack
    from vedette_training import run as runs

    if not path.is_dir():
        opened = bundle.open_bundle(path)
        folders = (other for other in others if other.is_dir())
        return opened, next((folder for folder in folders if runs.read(folder)[0].trained_on == opened.manifest.trained_on), None)
    print(f"{path}: converting and comparing with the original …", file=sys.stderr)
    return bundle.read(pack(path, None, None).data), path


def _labelled(path: Path, folder: Path | None, run: "Run | None", options: argparse.Namespace) -> "Labelled":
    """The readings to judge on: those that were asked for, or the run's test part."""
    from vedette_training import history, recipe
    from vedette_training.run import Labelled, read_test

    if not options.history:
        if folder is None:
            raise ConfigError(
                f"{path}: a bundle holds no test data: give --history FILE... and --recipe RECIPE, or name the run beside it that it was "
                "exported from"
            )
        return read_test(folder)
    if not options.recipe and run is None:
        raise ConfigError(f"{path}: a bundle does not say where label, device and time are in the history: give --recipe RECIPE")
    asked = recipe.load(options.recipe) if options.recipe else run.recipe if run else None
    assert asked
    read = history.read(asked, history.find_files(options.history, Path()))
    return Labelled(read.devices, read.times, read.values, read.anomalous.tolist())


def _study(bundle: "Bundle", judged: "Judged") -> "Study | None":
    """The latent space's statistics, where a stage makes one."""
    from vedette import runtimes
    from vedette_training import study

    for stage in bundle.manifest.stages:
        if stage.runtime != "litert":
            continue
        outputs = runtimes.load(stage, bundle.files[stage.file]).run(judged.windows)
        if "latent" in outputs:
            scores = judged.scores[judged.kept]
            return study.study(
                outputs["latent"],
                outputs["error"].reshape(-1),
                scores,
                judged.anomalous[judged.kept],
                scores >= 1.0,
                seed=0,
                steps=-(-bundle.manifest.window.steps // bundle.manifest.window.stride),
                devices=[judged.devices[place] for place in judged.kept.tolist()],
                numbers=study.number(judged.devices)[judged.kept],
            )
    return None


def _figures(evaluation: "Evaluation") -> dict[str, object]:
    """An evaluation for scripts."""
    episodes = evaluation.episodes
    return {
        "name": evaluation.manifest.name,
        "version": evaluation.manifest.version,
        "detector": evaluation.manifest.detector,
        "precision": evaluation.manifest.precision,
        "bytes": evaluation.model_bytes,
        "findings": msgspec.to_builtins(evaluation.run.findings) if evaluation.run else None,
        "windows": dict(evaluation.metrics),
        "episodes": {
            "labelled": episodes.labelled,
            "detected": episodes.detected,
            "alerts": episodes.alerts,
            "false_alerts": episodes.false_alerts,
            "device_days": episodes.device_days,
            "false_alerts_per_day": episodes.false_alerts_per_day,
            "median_delay_s": episodes.median_delay_s,
        },
        "drift": evaluation.drift.verdict,
        "us_per_window": {str(size): round(us, 1) for size, us in evaluation.us_per_window.items()},
    }


def _text(evaluation: "Evaluation") -> str:
    """An evaluation for a terminal."""
    from vedette_training import audit
    from vedette_training.evaluate import table

    episodes, manifest = evaluation.episodes, evaluation.manifest
    weights = "" if manifest.precision == "float32" else f", {manifest.precision}"
    lines = [f"{manifest.name} {manifest.version} ({manifest.detector}{weights})"]
    headline = audit.headline(evaluation.run.findings) if evaluation.run else None
    lines = [line for line in (headline, *lines, evaluation.drift.verdict) if line]
    lines.append(table(evaluation.metrics))
    lines.append(f"{'episodes detected':<22}{episodes.detected:>10} of {episodes.labelled}")
    if episodes.median_delay_s is not None:
        lines.append(f"{'median delay':<22}{episodes.median_delay_s:>10.0f} s")
    rate = "" if episodes.false_alerts_per_day is None else f", {episodes.false_alerts_per_day:.3g} a device-day"
    lines.append(f"{'false alerts':<22}{episodes.false_alerts:>10} in {episodes.device_days:.3g} device-days{rate}")
    lines.append(f"{'models':<22}{evaluation.model_bytes / 1024:>10.0f} KiB")
    lines.append(f"{'scoring':<22}{', '.join(f'{us:.0f} us ({size} a call)' for size, us in evaluation.us_per_window.items())}")
    return "\n".join(lines)
