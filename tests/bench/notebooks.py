"""`make notebooks`: every system of the two notebooks that this project comes from, trained, exported and judged as a user would.

Writes build/figures/notebooks.json and the table in docs/notebooks.md. The commands are those of the table; figures come from
`vedette evaluate`, which means through the gateway's runtime on the exported bundle.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import entities, figures, machine
from bench.figures import Figures, Row

PAGE = machine.REPOSITORY / "docs" / "notebooks.md"
FRIDGE = entities.DATA / "ton_iot" / "fridge_39k.csv"
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"


class System(NamedTuple):
    """One of the notebooks' systems, and the recipe that is it."""

    what: str
    recipe: str


FRIDGE_SYSTEMS = (
    System("1: LSTM classifier, text left raw, as the notebook had it", "fridge-lstm-notebook"),
    System("1: LSTM classifier, text as the gateway reads it", "fridge-lstm"),
)
LOGIN_SYSTEMS = (
    System("2: LSTM autoencoder", "login-events-autoencoder"),
    System("2.1: DBSCAN and isolation forest on latent and error", "login-events-hybrid-1"),
    System("2.2: isolation forest on the latent vector", "login-events-hybrid-2"),
    System("2.3: DBSCAN or one-class SVM on latent and error", "login-events-hybrid-3"),
    System("2.4: one-class SVM on the latent vector", "login-events-hybrid-4"),
    System("2.5: DBSCAN alone on latent and error", "login-events-hybrid-5"),
    System("2, windows per user: LSTM autoencoder", "login-events-per-user-autoencoder"),
    System("2, windows per user: DBSCAN or one-class SVM", "login-events-per-user-hybrid"),
    System("2, windows per user: LSTM classifier, with labels", "login-events-per-user-lstm"),
)


class Outcome(NamedTuple):
    """What came of a system: the evaluation's figures, its first line if it is an artefact, and how long training took; None where a
    kept run was there already.
    """

    system: System
    model: dict[str, Any]
    artefact: bool
    training_s: float | None
    loss_share: float | None


def measure(system: System, history: Sequence[Path], folder: Path) -> Outcome:
    """Train and evaluate one system."""
    run = folder / f"{system.recipe}.run"
    files = [str(path) for path in history]
    training_s = None
    if not run.is_dir():
        began = time.monotonic()
        _vedette("train", system.recipe, "--history", *files, "-o", str(run), "--json")
        training_s = time.monotonic() - began
    judged = json.loads(_vedette("evaluate", str(run), "--json"))
    made = json.loads((run / "run.json").read_text())
    shares = [min(c["validation_loss"]) / c["baseline"] for c in made["curves"].values() if c["validation_loss"] and c["baseline"]]
    artefact = any(finding["severity"] == "artefact" for finding in made["findings"])
    return Outcome(system, judged["models"][0], artefact, training_s, shares[0] if shares else None)


def rows(outcome: Outcome) -> list[Row]:
    """An outcome as figures."""
    name, windows, episodes = outcome.system.recipe, outcome.model["windows"], outcome.model["episodes"]
    found = {f"{metric.replace('_', ' ')}, {name}": (value, "") for metric, value in windows.items()}
    found[f"episodes detected, {name}"] = (episodes["detected"] / max(1, episodes["labelled"]), "share")
    if episodes["false_alerts_per_day"] is not None:
        found[f"false alerts a device-day, {name}"] = (episodes["false_alerts_per_day"], "1/d")
    if outcome.training_s is not None:
        found[f"training, {name}"] = (outcome.training_s, "s")
    result = [Row(name=text, value=value, unit=unit, runs=1) for text, (value, unit) in found.items()]
    if outcome.loss_share is not None and "autoencoder" in name:
        result.append(
            Row(
                name=f"validation loss beside predicting the mean, {name}",
                value=outcome.loss_share,
                unit="ratio",
                bar=0.6,
                better="lower",
                runs=1,
            )
        )
    return result


def table(outcomes: Sequence[Outcome]) -> str:
    """Outcomes as the page's table."""
    lines = [
        "| system | `vedette train …` | ROC AUC | AP | precision | recall | F1 | episodes | false alerts a device-day | loss / mean's |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for outcome in outcomes:
        windows, episodes = outcome.model["windows"], outcome.model["episodes"]
        cells = [outcome.system.what + (" **artefact**" if outcome.artefact else ""), f"`{outcome.system.recipe}`"]
        cells += [_number(windows.get(metric)) for metric in ("roc_auc", "average_precision", "precision", "recall", "f1")]
        cells += [f"{episodes['detected']} of {episodes['labelled']}"]
        cells += [_number(episodes["false_alerts_per_day"]), _number(outcome.loss_share)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if value >= 10 else f"{value:.2f}"  # noqa: RUF001 because a dash is what a table says for nothing


def _vedette(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "vedette", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"vedette {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all systems, print the table, write the figures and the page."""
    options = argparse.ArgumentParser(description="The notebooks' systems as recipes.")
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="keep runs and reports there, and go on with those that are there")
    options.add_argument("--only", metavar="TEXT", default="", help="recipes whose names hold it; neither page nor figures are written")
    given = options.parse_args(arguments)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        logs = folder / "logs"
        _vedette("simulate", "login-events", "-o", str(logs))
        plan = [(system, [logs / "train_logs.json", logs / "test_logs.json"]) for system in LOGIN_SYSTEMS]
        if FRIDGE.is_file():
            plan = [(system, [FRIDGE]) for system in FRIDGE_SYSTEMS] + plan
        else:
            print(f"the fridge is skipped: {FRIDGE.name} is not there", file=sys.stderr)
        for system, history in plan:
            if given.only in system.recipe:
                print(f"{system.recipe} …", file=sys.stderr)
                outcomes.append(measure(system, history, folder))
    print(table(outcomes))
    if given.only:
        return 0
    versions = machine.versions(sys.executable, ["vedette", "tensorflow-cpu", "scikit-learn", "ai-edge-litert", "onnxruntime"])
    found = tuple(row for outcome in outcomes for row in rows(outcome))
    figures.write(
        Figures(commit=machine.commit(), machine=machine.machine(), versions=versions, rows=found), figures.FOLDER / "notebooks.json"
    )
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{table(outcomes)}\n\n{_END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
