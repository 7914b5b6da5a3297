"""`vedette check`."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from vedette import config
from vedette.commands import add_config, needing_updates, parser, surroundings
from vedette.commands.credentials import look_at_credentials
from vedette.commands.findings import Found, Level
from vedette.commands.listening import Heard, listen
from vedette.commands.users import seen_as_service
from vedette.contract.durations import parse_duration
from vedette.contract.errors import BrokerError, ConfigError, VedetteError
from vedette.pipeline import Pipeline
from vedette.report import find, state_dir_of
from vedette.scrapes import ScrapeServer
from vedette.store import Store
from vedette.topics import AgentTopics
from vedette.visits import probe, try_topics

_NO_DEVICE = "vedette-check"

_WORDS: dict[Level, str] = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}


class Finding(NamedTuple):
    """One line of the check.

    Attributes:
        what: Was looked at.
        ok: Whether it is no fault.
        detail: What was found; of a fault, and of a note on what is none, also what to do.
        level: `ok`, `note` or `fault`.
    """

    what: str
    ok: bool
    detail: str
    level: Level

    def __str__(self) -> str:
        """For people."""
        return f"{_WORDS[self.level]}  {self.what:11} {self.detail}"


def check(arguments: Sequence[str]) -> int:
    """Check configuration, credentials, models, state, disk, clock and broker, one line each; exit 1 on a fault."""
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
    findings = list[Finding]()

    def say(finding: Finding) -> None:
        findings.append(finding)
        if not given.json:
            print(finding, flush=True)

    agent = _check_config(given.config, say)
    for finding in _findings(agent, given.config):
        say(finding)
    heard: list[Heard] = []
    if agent and given.listen is not None and all(finding.ok for finding in findings):
        heard = listen(
            agent, given.listen, show=lambda line: print(line, end="", file=sys.stderr, flush=True) if sys.stderr.isatty() else None
        )
        say(_listened(heard, given.listen))
        if not given.json:
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
        return _made("listen", "fault", f"nothing of what came for {', '.join(deaf)} could be used; the reasons are below")
    if not total:
        return _made("listen", "note", f"no message in {seconds:g} s; do devices publish on these topics?")
    return _made("listen", "ok", f"{total} messages in {seconds:g} s")


def _check_config(file: Path, say: Callable[[Finding], None]) -> config.Config | None:
    """Read the configuration, as the user who runs the service where root asks; None where it is at fault."""
    with seen_as_service(state_dir_of(file)) as user:
        try:
            agent = config.load(file)
        except ConfigError as error:
            say(_made("config", "fault", f"{error}{f' (seen as user {user})' if user else ''}"))
            return None
    seen = f", seen as user {user}" if user else ""
    say(_made("config", "ok", f"{file}: gateway {agent.gateway}, {len(agent.streams)} streams{seen}"))
    return agent


def _findings(agent: config.Config | None, file: Path) -> Iterator[Finding]:
    if agent:
        state_dir = Path(agent.state_dir)
        with seen_as_service(state_dir):
            found = list(_each("credentials", lambda: look_at_credentials(agent)))
        yield from found
        yield _finding("models", lambda: _check_models(agent))
        with seen_as_service(state_dir):
            found = list(_each("state", lambda: surroundings.look_at_state(state_dir)))
        yield from found
        yield from _each("disk", lambda: surroundings.look_at_disk(agent))
    yield from _each("clock", surroundings.look_at_clock)
    if agent:
        yield _finding("broker", lambda: _check_broker(agent))
        if agent.updates:
            yield _finding("updates", lambda: _check_updates(agent))
        if agent.metrics:
            yield _finding("metrics", lambda: _check_metrics(agent, file))
    yield from _each("running", lambda: surroundings.look_for_agent(file))


def _made(what: str, level: Level, detail: str) -> Finding:
    return Finding(what, level != "fault", detail, level)


def _finding(what: str, test: Callable[[], str]) -> Finding:
    """What one check found, in one line."""
    return next(_each(what, lambda: iter([Found("ok", test())])))


def _each(what: str, look: Callable[[], Iterator[Found]]) -> Iterator[Finding]:
    """What was found: a line for each fault and each note, and one that all is well only where there is no fault."""
    is_well = True
    try:
        for level, detail in look():
            is_well = is_well and level != "fault"
            if level != "ok" or is_well:
                yield _made(what, level, detail)
    except VedetteError as error:
        yield _made(what, "fault", str(error))
    except OSError as error:
        yield _made(what, "fault", f"{error.filename or ''}: {error.strerror}; is this user allowed to look at it?")


def _check_models(agent: config.Config) -> str:
    store = Store(Path(agent.state_dir), signed_only=agent.updates is not None)
    Pipeline(agent, store.open_live)
    names = sorted({stream.model for stream in agent.streams})
    found = []
    for name in names:
        record = store.record(name)
        found += [f"{name} {entry.version}{what}" for entry, what in ((record.live, ""), (record.candidate, " (on trial)")) if entry]
    return f"{', '.join(found)}: whole, and scoring as where they were made"


def _check_broker(agent: config.Config) -> str:
    broker, client_id = agent.broker, f"vedette-check-{agent.gateway}-{os.getpid()}"
    probe(broker, client_id, agent.subscriptions, timeout_s=5.0)
    topics = AgentTopics(agent.prefix, agent.gateway)
    # A device and a model that are none: what is retained of others stays as it is. Status and stats are the agent's own word alone.
    passing = [topics.alert(stream.name, _NO_DEVICE) for stream in agent.streams]
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
    return found


def _check_updates(agent: config.Config) -> str:
    with needing_updates():
        from vedette import updates
    assert agent.updates
    if not Path(agent.state_dir).is_dir():
        raise ConfigError("there is no state folder to keep what was seen in: see state")
    with updates.opened(agent.updates, Path(agent.state_dir)) as channel:
        offers = [channel.offer(name) for name in sorted({stream.model for stream in agent.streams})]
    held = ", ".join(f"{offer.name} {offer.version}" for offer in offers)
    return f"{agent.updates.repository}: signed by whom we trust; channel {agent.updates.channel} has {held}"


def _check_metrics(agent: config.Config, file: Path) -> str:
    assert agent.metrics
    listen, report = agent.metrics.listen, find(file, os.environ)
    if report and report.is_alive() and report.metrics == str(listen):
        return f"http://{listen}/metrics: the agent that runs answers there"
    server = ScrapeServer(listen)
    server.start()
    server.stop()
    return f"http://{listen}/metrics: free for the agent"
