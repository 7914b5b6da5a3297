"""A passphrase comes from a file, the environment, or whoever sits at the terminal; never from the command line, which others can read."""

import argparse
import getpass
import os
import sys
from pathlib import Path

from vedette.contract.errors import SigningError

VARIABLE = "VEDETTE_PASSPHRASE"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--passphrase-file`."""
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help=f"holds the passphrase of the private keys (else ${VARIABLE}, else it is asked for at a terminal)",
    )


def obtain(file: Path | None, *, new: bool) -> bytes | None:
    """The passphrase.

    Args:
        file: Holds it, a line end apart.
        new: For keys to be made: asked for twice.

    Returns:
        None for keys that are not encrypted.

    Raises:
        SigningError: the file cannot be read, or the two differ.
    """
    if file:
        try:
            text = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SigningError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
        if not text:
            raise SigningError(f"{file}: is empty; leave --passphrase-file out for keys that are not encrypted")
    elif VARIABLE in os.environ or not sys.stdin.isatty():
        text = os.environ.get(VARIABLE, "")
    else:
        text = getpass.getpass("passphrase (empty for keys that are not encrypted): ")
        if new and text != getpass.getpass("once more: "):
            raise SigningError("the two passphrases differ")
    return text.encode() or None
