"""The guides as their readers take them: which block is a command, which a file, and which is what commands print.

Rules this module keeps: it imports nothing but the standard library, so that a machine that was just made can run it; a block's language is
its fence's first word, and the words after it say where it is run:

    ```sh               typed in the folder and shell of the block before it
    ```sh background    goes on while what follows is typed, as in a terminal of its own
    ```sh root          needs a machine of one's own: `make test-install` runs it, as root, on a system that it has just made
    ```text             printed by the commands above it; figures differ, and … stands for whatever
    ```python           a file, as in every other language, if its first line is a comment that holds a path and nothing else
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?:#|//|<!--) (\S*[\w-]\.\w+)(?: -->)?\n")
_FIGURE = re.compile(r"\d+(?:[.,:]\d+)*")

COMMAND = "sh"
OUTPUT = "text"
PLACES = {"background", "root"}
"""Where a command may have to be run, other than in the shell of the block before it."""


class Block(NamedTuple):
    """What stands between two fences.

    Attributes:
        page: The guide's file name.
        line: Of its first line in there.
        language: The fence's first word.
        words: The others.
        text: What it holds.
    """

    page: str
    line: int
    language: str
    words: frozenset[str]
    text: str

    @property
    def at(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The path that its first line gives it."""
        found = _PATH.match(self.text) if self.language not in {COMMAND, OUTPUT} else None
        return found[1] if found else None


def read(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page.name, text.count("\n", 0, found.start(3)) + 1, found[1], frozenset(found[2].split()), found[3])
        for found in _FENCE.finditer(text)
    ]


def script(blocks: Sequence[Block], here: Mapping[str, str], *, root: bool, keep: Path | None = None) -> str:
    """The commands of a guide, and the files between them, as one bash script that ends with the first that fails.

    Args:
        blocks: Of the guide.
        here: What stands in the guide, and what it is on this machine.
        root: Those that need a machine of one's own, or those that do not.
        keep: A folder for what each block prints, as LINE.out, and for the line that was reached, as `at`; without it all is printed.
    """
    lines = ["set -eu", "begun=()", "trap 'code=$?; kill ${begun[@]} 2>/dev/null || true; wait; exit $code' EXIT"]
    for block in blocks:
        text = block.text
        for there, instead in here.items():
            text = text.replace(there, instead)
        path = block.file
        if path:
            for there, instead in here.items():
                path = path.replace(there, instead)
            lines.append(f"mkdir -p {shlex.quote(str(Path(path).parent))}\ncat > {shlex.quote(path)} <<'END OF BLOCK'\n{text}END OF BLOCK")
        elif block.language == COMMAND and ("root" in block.words) == root:
            to = f" > {shlex.quote(str(keep / f'{block.line}.out'))} 2>&1" if keep else ""
            reached = f"echo {block.at} > {shlex.quote(str(keep / 'at'))}" if keep else f"echo '# {block.at}'"
            lines.append(reached)
            if "background" in block.words:
                lines.append(f"{{ exec {text.strip()}; }}{to} &\nbegun+=($!)")
            else:
                lines.append(f"{{\n{text}}}{to}")
    return "\n".join(lines) + "\n"


def missing(shown: str, printed: str) -> str | None:
    """The first line of what a guide shows that is not in what was printed, figures and spaces aside; None where all are, in order."""
    left: Iterator[str] = iter([_plain(line) for line in printed.splitlines()])
    for line in shown.splitlines():
        pattern = re.compile(".*".join(re.escape(part) for part in _plain(line).split("…")))
        if _plain(line) not in {"", "…"} and not any(pattern.fullmatch(found) for found in left):
            return line
    return None


def _plain(line: str) -> str:
    return " ".join(_FIGURE.sub("0", line).split())
