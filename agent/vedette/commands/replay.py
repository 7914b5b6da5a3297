"""`vedette replay`."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import msgspec

from vedette import config
from vedette.alerts import Alert
from vedette.commands import add_config, parser
from vedette.contract.documents import blaming
from vedette.pipeline import Pipeline
from vedette.replay import messages_of
from vedette.replay import replay as replay_messages
from vedette.scorelog import ScoreLog
from vedette.store import Store
from vedette.topics import AgentTopics


def replay(arguments: Sequence[str]) -> int:
    """Take recorded telemetry through the agent's own path and show what would have fired."""
    options = parser("replay", replay.__doc__ or "")
    add_config(options)
    options.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recordings (.jsonl) or tables (.csv), in this order")
    options.add_argument("--stream", help="the stream that a table's rows belong to (needed where there are several)")
    options.add_argument("--device", help="a table's column of device names, or its one device's name (default: device, else the file's)")
    options.add_argument("--scores", type=Path, metavar="FILE", help="write every window's score to FILE, as JSON lines")
    options.add_argument("--json", action="store_true", help="print each alert as it would be published, then the counters, as JSON lines")
    given = options.parse_args(arguments)
    agent = config.load(given.config)
    with blaming(given.config):
        pipeline = Pipeline(agent, Store(Path(agent.state_dir), signed_only=agent.updates is not None).open_live)
    topics = AgentTopics(agent.prefix, agent.gateway)
    messages = chain.from_iterable(messages_of(path, agent, given.stream, given.device) for path in given.files)
    with ExitStack() as stack:
        write_scores = stack.enter_context(ScoreLog(given.scores)).write if given.scores else None
        for outcome in replay_messages(pipeline, messages):
            if write_scores:
                write_scores(outcome.scored)
            for alert in outcome.alerts:
                print(_as_json(alert, topics) if given.json else line(alert))
    if given.json:
        print(msgspec.json.encode(pipeline.stats()).decode())
    else:
        for stream in pipeline.streams:
            print(f"{stream.name}: " + ", ".join(f"{name} {count}" for name, count in stream.stats().items()), file=sys.stderr)
        if pipeline.unmatched:
            print(f"{pipeline.unmatched} messages on topics of no stream", file=sys.stderr)
    return 0


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
