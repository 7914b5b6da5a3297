"""`vedette run`."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from vedette import config, logs
from vedette.commands import add_config, parser
from vedette.lifetime import Lifetime
from vedette.scorelog import ScoreLog


def run(arguments: Sequence[str]) -> int:
    """Run the agent: score telemetry from the broker and publish alerts."""
    options = parser("run", run.__doc__ or "")
    add_config(options)
    options.add_argument("--scores", type=Path, metavar="FILE", help="write every window's score to FILE, as JSON lines")
    given = options.parse_args(arguments)
    logs.begin()
    agent = config.load(given.config)  # one that is wrong must not empty the file of scores
    with ExitStack() as stack:
        on_scores = stack.enter_context(ScoreLog(given.scores)).write if given.scores else None
        Lifetime(agent, given.config, on_scores).run()
    return 0
