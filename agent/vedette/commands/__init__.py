"""The gateway's subcommands, one module each. A command takes its arguments and returns its exit code."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vedette.contract.errors import ConfigError

DEFAULT_CONFIG = Path("/etc/vedette/agent.yaml")


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser for `vedette NAME`."""
    return argparse.ArgumentParser(prog=f"vedette {name}", description=description.splitlines()[0])


def add_config(arguments: argparse.ArgumentParser) -> None:
    """Add `-c agent.yaml`."""
    arguments.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"the agent's configuration (default: {DEFAULT_CONFIG})"
    )


@contextmanager
def needing_updates() -> Iterator[None]:
    """Say what to install where the libraries of signed updates are missing.

    Raises:
        ConfigError: one is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "vedette":
            raise
        raise ConfigError(f"signed updates need {error.name}, which is not installed: pip install 'vedette[updates]'") from error
