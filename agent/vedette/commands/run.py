"""`vedette run`."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from vedette import config
from vedette.commands import add_config, parser
from vedette.contract.documents import blaming
from vedette.scorelog import ScoreLog
from vedette.service import Service, run_until_signalled


def run(arguments: Sequence[str]) -> int:
    """Run the agent: score telemetry from the broker and publish alerts."""
    options = parser("run", run.__doc__ or "")
    add_config(options)
    options.add_argument("--scores", type=Path, metavar="FILE", help="write every window's score to FILE, as JSON lines")
    given = options.parse_args(arguments)
    # systemd stamps the time itself.
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    agent = config.load(given.config)
    with ExitStack() as stack:
        on_scores = stack.enter_context(ScoreLog(given.scores)).write if given.scores else None
        with blaming(given.config):
            run_until_signalled(Service(agent, given.config, on_scores))
    return 0
