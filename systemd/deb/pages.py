"""The man pages vedette(1) and agent.yaml(5) and the shells' completions, from the commands' own parsers and the one configuration file.

Rules this module keeps: nothing about a command is written here that its parser says; every command that `vedette` has is in them.
"""

import argparse
import gzip
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from unittest import mock

import shtab

from vedette import __version__

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "systemd" / "agent.yaml"

_ABOUT = """\
Vedette learns on a workstation what the telemetry of devices looks like when all is well, ships that as one small file, a bundle, and
scores every reading on the gateway itself, over MQTT, with no cloud. The agent is
.BR "vedette run" ,
which systemd starts as
.IR vedette.service .
Commands that learn, export and publish need packages that a gateway does not have, and say so."""

_FILES = {
    "/etc/vedette/agent.yaml": "The configuration; see agent.yaml(5).",
    "/etc/vedette/credentials/": "Passwords for root's eyes only; FILE is ${CREDENTIALS_DIRECTORY}/credentials_FILE for the service.",
    "/var/lib/vedette/": "Models, what the agent remembers, and alerts that wait for the broker.",
}

_EXIT = {"0": "All is well.", "1": "A fault in what was given; one line says which.", "2": "Usage.", "70": "A fault of vedette's own."}


class _CaughtError(Exception):
    """A parser, at the moment at which its command would use it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def whole_parser() -> argparse.ArgumentParser:
    """All commands as the subcommands of one parser."""

    def catch(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _CaughtError(parser)

    whole = argparse.ArgumentParser(prog="vedette", description="anomaly detection on the IoT gateway itself")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers(metavar="COMMAND")
    for point in sorted(entry_points(group="vedette.commands")):
        command = point.load()
        # Each command makes its parser when it is called; whatever it does with it, it begins by parsing.
        with mock.patch.object(argparse.ArgumentParser, "parse_args", catch):
            try:
                command([])
            except _CaughtError as caught:
                about = (command.__doc__ or "").splitlines()[0]
                commands.add_parser(point.name, parents=[caught.parser], add_help=False, help=about, description=about)
    return whole


def write_pages(share: Path) -> None:
    """Write what belongs below /usr/share."""
    parser = whole_parser()
    files = {
        "bash-completion/completions/vedette": shtab.complete(parser, "bash"),
        "zsh/vendor-completions/_vedette": shtab.complete(parser, "zsh"),
        "doc/vedette/changelog.gz": (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"),
        "man/man1/vedette.1.gz": manual(parser),
        "man/man5/agent.yaml.5.gz": configuration(CONFIG.read_text(encoding="utf-8")),
    }
    for name, text in files.items():
        path = share / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # No time and no name in it, so that the same text is the same file.
        path.write_bytes(gzip.compress(text.encode(), 9, mtime=0) if path.suffix == ".gz" else text.encode())


def manual(parser: argparse.ArgumentParser) -> str:
    """vedette(1)."""
    lines = [f'.TH VEDETTE 1 "" "vedette {__version__}"', ".SH NAME", rf"vedette \- {_roff(parser.description or '')}"]
    lines += [".SH SYNOPSIS", ".B vedette", r".I COMMAND \fR[\fIoptions\fR]", ".SH DESCRIPTION", _ABOUT, ".SH COMMANDS"]
    for name, command in subcommands(parser):
        lines += [f".SS vedette {_roff(name)}", _roff(_sentence(command.description or ""))]
        lines += list(_arguments(command))
        for action, sub in subcommands(command):
            lines += [".TP", rf"\fBvedette {_roff(name)} {_roff(action)}\fR", _roff(_sentence(sub.description or "")), ".RS"]
            lines += [*_arguments(sub), ".RE"]
    lines += [".SH FILES", *_table(_FILES), ".SH EXIT STATUS", *_table(_EXIT)]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR agent.yaml (5),", ".BR systemctl (1),", ".BR journalctl (1)", ""])


def configuration(text: str) -> str:
    """agent.yaml(5): the starting configuration, which has every option with its default."""
    shown = "\n".join(_roff(line) for line in text.splitlines())
    about = r"Read at the start. An unknown key is an error, and every error says where; \fBvedette check\fR tells without a start."
    return (
        f'.TH AGENT.YAML 5 "" "vedette {__version__}"\n.SH NAME\nagent.yaml \\- configuration of the vedette agent\n'
        f".SH DESCRIPTION\n{about}\n.SH OPTIONS\n.nf\n{shown}\n.fi\n.SH SEE ALSO\n.BR vedette (1)\n"
    )


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Names and parsers of a parser's subcommands."""
    for action in parser._actions:  # noqa: SLF001 because argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 because argparse has no other way to ask
            yield from action.choices.items()


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 because argparse has no other way to ask
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):  # noqa: SLF001 because argparse has no other way to ask
            continue
        yield from (".TP", _invocation(action), _roff(_sentence(_help(parser, action))) or "\\&")


def _invocation(action: argparse.Action) -> str:
    shown = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper())
    value = _roff(" ".join(shown) if isinstance(shown, tuple) else shown)
    if not action.option_strings:
        return rf"\fI{value}\fR"
    names = ", ".join(rf"\fB{_roff(name)}\fR" for name in action.option_strings)
    return names if action.nargs == 0 else rf"{names} \fI{value}\fR"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = action.help or ""
    return text % {**vars(action), "prog": parser.prog} if "%" in text else text


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def _table(rows: dict[str, str]) -> Sequence[str]:
    return [line for name, text in rows.items() for line in (".TP", rf"\fB{_roff(name)}\fR", _roff(text))]


def _roff(text: str) -> str:
    """Text in which nothing is an instruction."""
    text = text.replace("\\", "\\e").replace("-", r"\-").replace("'", r"\(aq")
    return rf"\&{text}" if text.startswith(".") else text
