"""`vedette check`."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from vedette import config
from vedette.commands import add_config, needing_updates, parser
from vedette.commands.listening import Heard, listen
from vedette.contract.durations import parse_duration
from vedette.contract.errors import BrokerError, ConfigError, VedetteError
from vedette.pipeline import Pipeline
from vedette.store import Store
from vedette.topics import AgentTopics
from vedette.transport import exposed_files
from vedette.visits import probe, try_topics

_NO_DEVICE = "vedette-check"

_RELEASED = 1_760_000_000  # no clock that is right shows a time before this version was written


class Finding(NamedTuple):
    """One line of the check."""

    what: str
    ok: bool
    detail: str


def check(arguments: Sequence[str]) -> int:
    """Check configuration, models, state folder, clock, broker and updates, one line each; exit 1 on a fault."""
    options = parser("check", check.__doc__ or "")
    add_config(options)
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument(
        "--listen",
        nargs="?",
        const=10.0,
        type=_seconds,
        metavar="SECONDS",
        help="listen to live telemetry for so long (10) and tell what each stream made of it",
    )
    given = options.parse_args(arguments)
    agent = config.load(given.config)
    findings = []
    for finding in _findings(agent, str(given.config)):
        findings.append(finding)
        if not given.json:
            print(f"{'ok   ' if finding.ok else 'FAULT'}  {finding.what:8} {finding.detail}", flush=True)
    heard: list[Heard] = []
    if given.listen is not None and all(finding.ok for finding in findings):
        heard = listen(
            agent, given.listen, show=lambda line: print(line, end="", file=sys.stderr, flush=True) if sys.stderr.isatty() else None
        )
        findings.append(_listened(heard, given.listen))
        if not given.json:
            print(f"{'ok   ' if findings[-1].ok else 'FAULT'}  {'listen':8} {findings[-1].detail}")
            print("\n".join(line for each in heard for line in each.lines(given.listen)))
    if given.json:
        told = [finding._asdict() for finding in findings]
        print(
            msgspec.json.encode(
                told if given.listen is None else {"check": told, "heard": [each.facts(given.listen) for each in heard]}
            ).decode()
        )
    return 0 if all(finding.ok for finding in findings) else 1


def _seconds(text: str) -> float:
    seconds = parse_duration(text)
    if not 0 < seconds <= 3600:
        raise ValueError(text)
    return seconds


def _listened(heard: Sequence[Heard], seconds: float) -> Finding:
    deaf = [each.name for each in heard if each.messages and not each.accepted]
    total = sum(each.messages for each in heard)
    if deaf:
        return Finding("listen", False, f"nothing of what came for {', '.join(deaf)} could be used; the reasons are below")
    return Finding(
        "listen",
        True,
        f"{total} messages in {seconds:g} s" if total else f"no message in {seconds:g} s; do devices publish on these topics?",
    )


def _findings(agent: config.Config, file: str) -> Iterator[Finding]:
    yield Finding("config", True, f"{file}: gateway {agent.gateway}, {len(agent.streams)} streams")
    yield _finding("models", lambda: _check_models(agent))
    yield _finding("state", lambda: _check_state(Path(agent.state_dir)))
    yield _finding("clock", _check_clock)
    yield _finding("broker", lambda: _check_broker(agent))
    if agent.updates:
        yield _finding("updates", lambda: _check_updates(agent))


def _finding(what: str, test: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, test())
    except VedetteError as error:
        return Finding(what, False, str(error))


def _check_models(agent: config.Config) -> str:
    store = Store(Path(agent.state_dir), signed_only=agent.updates is not None)
    Pipeline(agent, store.open_live)
    names = sorted({stream.model for stream in agent.streams})
    found = []
    for name in names:
        record = store.record(name)
        found += [f"{name} {entry.version}{what}" for entry, what in ((record.live, ""), (record.candidate, " (on trial)")) if entry]
    return f"{', '.join(found)}: whole, and scoring as where they were made"


def _check_state(folder: Path) -> str:
    if not folder.is_dir():
        raise ConfigError(f"state_dir: {folder} is not a folder; make it, or set state_dir")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"state_dir: {folder} is not writable for this user")
    disk = os.statvfs(folder)
    return f"{folder} is writable, {disk.f_bavail * disk.f_frsize // 1024**2} MiB free"


def _check_clock() -> str:
    now = time.time()
    if now < _RELEASED:
        raise ConfigError("clock: it shows a time long past; set it, or readings' own times will be refused as in the future")
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))


def _check_broker(agent: config.Config) -> str:
    broker, client_id = agent.broker, f"vedette-check-{agent.gateway}-{os.getpid()}"
    probe(broker, client_id, agent.subscriptions, timeout_s=5.0)
    topics = AgentTopics(agent.prefix, agent.gateway)
    # The agent's own topics, and a device that is none: what is retained of a device or a model stays as it is.
    passing = [topics.status, topics.stats, *(topics.alert(stream.name, _NO_DEVICE) for stream in agent.streams)]
    retained = [topics.model(_NO_DEVICE), *(topics.state(stream.name, _NO_DEVICE) for stream in agent.streams)]
    verdict = try_topics(broker, client_id, [*passing, *retained], retained, timeout_s=5.0)
    if verdict.refused:
        refused = ", ".join(f"{topic} ({reason})" for topic, reason in verdict.refused.items())
        raise BrokerError(f"broker: {broker.url} refuses messages on {refused}; allow the agent to write {topics.root}/#")
    found = f"{broker.url}: connected and allowed to subscribe to {', '.join(name for name, _ in agent.subscriptions)}"
    if verdict.unknown:
        found += (
            f"; whether messages on {', '.join(verdict.unknown)} are taken is not known: a broker that speaks MQTT 3.1.1 does not say, and"
            f" none came back; see that the agent may write {topics.root}/#, or read it for this check"
        )
    else:
        found += f", and to publish on {topics.root}/#"
    if exposed := exposed_files(broker):
        found += f"; every user of this machine can read {' and '.join(exposed)}: chmod o-r"
    return found


def _check_updates(agent: config.Config) -> str:
    with needing_updates():
        from vedette import updates
    assert agent.updates
    with updates.opened(agent.updates, Path(agent.state_dir)) as channel:
        offers = [channel.offer(name) for name in sorted({stream.model for stream in agent.streams})]
    held = ", ".join(f"{offer.name} {offer.version}" for offer in offers)
    return f"{agent.updates.repository}: signed by whom we trust; channel {agent.updates.channel} has {held}"
