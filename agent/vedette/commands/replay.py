"""`vedette replay`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from vedette import config
from vedette.alerts import Alert
from vedette.budget import Budget, ScoreHistory, Summary
from vedette.commands import add_config, parser
from vedette.comparison import SideBySide, compare
from vedette.config import Config
from vedette.contract.bundle import Bundle, open_bundle, self_test
from vedette.contract.documents import blaming
from vedette.contract.errors import ConfigError
from vedette.contract.readings import Message
from vedette.contract.scores import Scorer
from vedette.phrases import TrialLength
from vedette.pipeline import Outcome, Pipeline
from vedette.progress import Progress
from vedette.proving import prove
from vedette.replay import messages_of
from vedette.replay import replay as replay_messages
from vedette.runtimes import load_scorer
from vedette.scorelog import ScoreLog
from vedette.store import Store
from vedette.topics import AgentTopics
from vedette.trial import Trial


def replay(arguments: Sequence[str]) -> int:
    """Take recorded telemetry through the agent's own path and show what would have fired."""
    given = _parse(arguments)
    agent = config.load(given.config)
    store = Store(Path(agent.state_dir), signed_only=agent.updates is not None)
    other = _other(given, agent, store) if given.bundle or given.model else None
    with blaming(given.config):
        pipeline = Pipeline(agent, store.open_live)
        beside = _Beside(agent, pipeline, *other) if other else None
    read, summary = _Read(given.files), Summary()
    rules = {stream.name: agent.alerts_of(stream) for stream in agent.streams}
    models = {stream.name: (rules[stream.name], stream.judge.model) for stream in pipeline.streams}
    history = ScoreHistory(agent.gateway, models) if given.budget is not None else None
    show = _printer(given, AgentTopics(agent.prefix, agent.gateway), read.progress)
    messages = chain.from_iterable(messages_of(path, agent, given.stream, given.device, read.advance) for path in given.files)
    with ExitStack() as stack:
        write_scores = stack.enter_context(ScoreLog(given.scores)).write if given.scores else None
        for outcome in replay_messages(pipeline, beside.listen(messages) if beside else messages):
            if write_scores:
                write_scores(outcome.scored)
            summary.add(outcome.scored, outcome.alerts)
            if history:
                history.add(outcome.scored)
            if beside:
                beside.take(outcome)
            show(outcome.alerts)
        read.progress.clear()
    budget = history.find(given.budget, summary.days) if history and summary.windows else None
    together = beside.compare() if beside else None
    if given.json:
        reports = {"recording": summary.document(), "budget": budget, "comparison": together}
        print(msgspec.json.encode({**pipeline.stats(), **{name: report for name, report in reports.items() if report}}).decode())
    else:
        _print_reports(budget, together)
        _print_counters(pipeline, summary)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    options = parser("replay", replay.__doc__ or "")
    add_config(options)
    options.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recordings (.jsonl) or tables (.csv), also packed (.gz)")
    options.add_argument("--stream", help="the stream that a table's rows belong to (needed where there are several)")
    options.add_argument("--device", help="a table's column of device names, or its one device's name (default: device, else the file's)")
    options.add_argument("--scores", type=Path, metavar="FILE", help="write every window's score to FILE, as JSON lines")
    options.add_argument(
        "--budget", type=_number, metavar="N", help="also say which threshold would have given at most N new alerts a day, of all devices"
    )
    other = options.add_mutually_exclusive_group()
    other.add_argument(
        "--with", dest="bundle", type=Path, metavar="BUNDLE", help="set what this bundle finds beside what the live one does"
    )
    other.add_argument("--model", metavar="NAME=VERSION", help="as --with, with a version that is kept on this gateway")
    options.add_argument("--json", action="store_true", help="print each alert as it would be published, then the counters, as JSON lines")
    return options.parse_args(arguments)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f'expected a number of alerts a day, got "{text}"')
    return number


def _printer(given: argparse.Namespace, topics: AgentTopics, progress: Progress) -> Callable[[Sequence[Alert]], None]:
    """How alerts are shown as they come: not at all where they are shown beside another bundle's in the end."""
    is_quiet = bool(given.bundle or given.model) and not given.json

    def show(alerts: Sequence[Alert]) -> None:
        if alerts and not is_quiet:
            progress.clear()
            for alert in alerts:
                print(_as_json(alert, topics) if given.json else line(alert))

    return show


def _print_reports(budget: Budget | None, together: SideBySide | None) -> None:
    for text in together.lines() if together else []:
        print(text)
    if budget:
        print("\n".join(budget.lines()))
        if budget.alerts:
            print("the alerts would be:")
        for alert in budget.alerts:
            print(line(alert))


def _print_counters(pipeline: Pipeline, summary: Summary) -> None:
    for stream in pipeline.streams:
        print(f"{stream.name}: " + ", ".join(f"{name} {count}" for name, count in stream.stats().items()), file=sys.stderr)
    if pipeline.unmatched:
        print(f"{pipeline.unmatched} messages on topics of no stream", file=sys.stderr)
    print(summary.words(), file=sys.stderr)


class _Opened(NamedTuple):
    """A bundle that is not live, ready to score."""

    bundle: Bundle
    scorer: Scorer


def _other(given: argparse.Namespace, agent: Config, store: Store) -> _Opened:
    """The bundle to compare with.

    Raises:
        ConfigError: it is of a model that no stream uses, or is not kept here.
        BundleError: it does not verify or prove itself on this machine.
        ScoreError: a runtime is missing or refuses a model.
    """
    if given.bundle:
        prove(given.bundle)
        bundle = open_bundle(given.bundle)
        scorer = load_scorer(bundle)
        self_test(bundle, scorer)
    else:
        name, _, version = given.model.partition("=")
        record = store.record(name)
        kept = {entry.version: entry for entry in (record.previous, record.candidate, record.live) if entry}
        if version not in kept:
            raise ConfigError(
                f"--model: expected NAME=VERSION of what is kept here ({name}: {', '.join(kept) or 'nothing'}), got {given.model}"
            )
        bundle, scorer = store.open(name, kept[version])
    names = sorted({stream.model for stream in agent.streams})
    if bundle.manifest.name not in names:
        raise ConfigError(f"--with: {given.bundle} is of model {bundle.manifest.name}, but the streams use {', '.join(names)}")
    return _Opened(bundle, scorer)


class _Beside:
    """Another bundle that scores the same messages, as on trial."""

    def __init__(self, agent: Config, live: Pipeline, bundle: Bundle, scorer: Scorer) -> None:
        self._pipeline = Pipeline(agent, lambda _: (bundle, scorer), only=bundle.manifest.name)
        self._trial = Trial(self._pipeline, live, TrialLength(), began=0.0)
        self._streams = {stream.name for stream in self._pipeline.streams}
        self._batch: list[Message] = []
        self._live: list[Alert] = []
        self._given: list[Alert] = []

    def listen(self, messages: Iterator[Message]) -> Iterator[Message]:
        """Pass messages on to the live bundle, and remember them for the other."""
        for message in messages:
            self._batch.append(message)
            yield message

    def take(self, live: Outcome) -> None:
        """Let the other bundle take what the live one has just taken."""
        found = self._trial.process(self._batch, live)
        self._batch.clear()
        self._live += (alert for alert in live.alerts if alert.stream in self._streams)
        self._given += found.alerts

    def compare(self) -> SideBySide:
        """Both, side by side."""
        return compare(self._live, self._given, self._trial.numbers())


def line(alert: Alert) -> str:
    """An alert as one line for people."""
    scores = f"score {alert.score:.2f} peak {alert.peak:.2f}"
    text = f"{alert.time:%Y-%m-%d %H:%M:%S} {alert.type:6} {alert.severity:8} {about(alert)} {scores}"
    return "  ".join([text, *(cause.words() for cause in alert.explanation)])


def about(alert: Alert) -> str:
    """Whom an alert is about, and what kind it is where that is not an anomaly."""
    whom = f"{alert.stream}/{alert.device}" if alert.device else f"{alert.stream} ({alert.devices} devices)"
    return whom if alert.kind == "anomaly" else f"{whom} {alert.kind}"


def _as_json(alert: Alert, topics: AgentTopics) -> str:
    return msgspec.json.encode({"topic": topics.alert(alert.stream, alert.device), "payload": alert}).decode()


class _Read:
    """How much of some files was read, for a line on a terminal."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._total = sum(path.stat().st_size for path in files if path.is_file())
        self._done = 0
        self.progress = Progress(sys.stderr, lambda: f"replay {self._done / max(1, self._total):4.0%} of {self._total / 1e6:.1f} MB")

    def advance(self, count: int) -> None:
        self._done += count
        self.progress.show()
