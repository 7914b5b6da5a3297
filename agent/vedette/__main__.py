"""The `vedette` command. Its subcommands are the entry points of the group `vedette.commands`, whoever brings them."""

import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points

from vedette import __version__
from vedette.contract.errors import VedetteError

EXIT_BUG = 70

Command = Callable[[Sequence[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        0 fine, 1 a fault in what was given, 2 usage, 70 a fault of vedette's own (EX_SOFTWARE of sysexits.h).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    commands = {point.name: point for point in entry_points(group="vedette.commands")}
    name, *rest = arguments or [""]
    if name in {"-h", "--help", "--version"}:
        print(f"vedette {__version__}" if name == "--version" else _overview(commands))
        return 0
    if name not in commands:
        print(f"{f'vedette: no command {name!r}' if name else ''}\n{_overview(commands)}".lstrip(), file=sys.stderr)
        return 2
    return _run(commands[name], rest)


def _run(point: EntryPoint, arguments: Sequence[str]) -> int:
    try:
        command: Command = point.load()
        return command(arguments)
    except VedetteError as error:
        print(f"vedette: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in `vedette replay … | head`.
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001 because a bug of ours (70) must not look like a fault in what was given (1)
        traceback.print_exc()
        print("vedette: this is a fault of vedette's own, please report it with the lines above", file=sys.stderr)
        return EXIT_BUG


def _overview(commands: dict[str, EntryPoint]) -> str:
    lines = ["usage: vedette COMMAND …", "", "anomaly detection on the IoT gateway itself", "", "commands:"]
    for name, point in sorted(commands.items()):
        lines.append(f"  {name:10} {(point.load().__doc__ or '').splitlines()[0]}")
    return "\n".join([*lines, "", "vedette COMMAND --help says more"])


if __name__ == "__main__":
    sys.exit(main())
