"""The gateway's subcommands, one module each. A command takes its arguments and returns its exit code."""

import argparse
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/vedette/agent.yaml")


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser for `vedette NAME`."""
    return argparse.ArgumentParser(prog=f"vedette {name}", description=description.splitlines()[0])


def add_config(arguments: argparse.ArgumentParser) -> None:
    """Add `-c agent.yaml`."""
    arguments.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"the agent's configuration (default: {DEFAULT_CONFIG})"
    )
