"""`vedette bench`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from vedette import config
from vedette.bench import environment
from vedette.bench.cost import BATCHES, OpenBundle, StreamCost, measure
from vedette.bench.environment import Start
from vedette.bench.made_up import DEVICES
from vedette.broker import Broker
from vedette.commands import DEFAULT_CONFIG, add_config, parser
from vedette.config import Config, Stream
from vedette.contract.bundle import Bundle, open_bundle, self_test
from vedette.contract.documents import blaming
from vedette.runtimes import load_scorer
from vedette.store import Store

_LONGEST_S, _STREAM_S = 15.0, 3.0


def bench(arguments: Sequence[str]) -> int:
    """Measure what a reading costs on this machine, offline: us a reading, windows/s, memory, start."""
    options = parser("bench", bench.__doc__ or "")
    add_config(options)
    options.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="a bundle's file, instead of the configured models")
    options.add_argument("--json", action="store_true", help="print JSON")
    given = options.parse_args(arguments)
    shown = sys.stderr.isatty()

    def step(what: str) -> None:
        if shown:
            print(f"\r\033[Kmeasuring {what} …" if what else "\r\033[K", end="", file=sys.stderr, flush=True)

    step("the start")
    agent, opened = _models(given.bundle, given.config)
    try:
        started = environment.start(*([str(given.bundle)] if given.bundle else ["-c", str(given.config)]))
        with blaming(given.bundle or given.config):
            costs = measure(agent, opened, min(_STREAM_S, _LONGEST_S / len(agent.streams)), step)
    finally:
        step("")
    if given.json:
        print(msgspec.json.encode(_as_json(started, costs)).decode())
    else:
        print(_as_text(started, costs))
    return 0


def open_all(option: str, path: str | None = None) -> None:
    """Load, verify and self-test all models, as an agent that starts does: `BUNDLE`, or `-c FILE`."""
    agent, opened = _models(None if path else Path(option), Path(path) if path else DEFAULT_CONFIG)
    for name in sorted({stream.model for stream in agent.streams}):
        bundle = opened(name)
        self_test(bundle, load_scorer(bundle))


def _models(bundle: Path | None, config_file: Path) -> tuple[Config, OpenBundle]:
    """A configuration, and what opens the bundles of its models: of a bundle's file, one stream that is made for it."""
    if bundle is None:
        agent = config.load(config_file)
        store = Store(Path(agent.state_dir), signed_only=agent.updates is not None)
        return agent, lambda name: store.open_live(name).bundle
    opened = open_bundle(bundle)
    name = opened.manifest.name
    streams = (Stream(name=name, topic="bench/{device}", model=name),)

    def the_one(_name: str) -> Bundle:
        return opened

    return Config(gateway="bench", broker=Broker(url="mqtt://localhost"), streams=streams), the_one


def _as_json(started: Start, costs: Sequence[StreamCost]) -> dict[str, object]:
    return {"machine": environment.machine(), "versions": environment.versions(), "start": started, "streams": costs}


def _as_text(started: Start, costs: Sequence[StreamCost]) -> str:
    header = [
        environment.machine(),
        ", ".join(f"{name} {version}" for name, version in environment.versions().items()),
        f"start {started.total_s:.2f} s (imports {started.import_s:.2f} s, models {started.load_s:.2f} s)",
        f"memory with the models loaded {started.rss_bytes / 1e6:.0f} MB",
    ]
    cells = [["us a reading:", "decode", "windows", "models", "judge", "all", "readings/s", *(f"windows/s, {n}" for n in BATCHES)]]
    for cost in costs:
        parts = cost.us_a_reading
        figures = [parts.decode, parts.windows, parts.models, parts.judge, parts.total, cost.readings_a_second]
        figures += [cost.windows_a_second[batch] for batch in BATCHES]
        what = f"{cost.stream}: {cost.model} {cost.version}, {cost.detector}, {cost.steps} steps"
        cells.append([what, *(f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}" for figure in figures)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    footer = (
        f"\n{DEVICES} devices, one reading of each a batch, without network and broker; readings/s: on one core; "
        f"windows/s: the models alone, in batches of {', '.join(map(str, BATCHES))}"
    )
    return "\n".join([*header, "", *table, footer])
