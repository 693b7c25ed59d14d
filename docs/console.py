# SPDX-License-Identifier: GPL-2.0-only
"""The sessions of a page: what its commands print now.

    python docs/console.py docs/tutorial.md

runs the commands of all `console` blocks, one after another in one folder, and writes what they
print into the page where it differs. A line `...` stands for any lines, and stays as long as the
rest is right. A block `scn` or `toml` is a file, called by the first word of its comment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]

_BLOCK: Final = re.compile(r"^```(console|scn|toml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NAME: Final = re.compile(r"# (\w[\w.]*\.\w+)")

Told = Callable[[str, str, str], str]
"""Of a command, what the page says that it prints, and what it does; the text for the page."""


def replayed(page: Path, tell: Told) -> str:
    """The text of the page, each command's output as `tell` has it. All run in a temporary folder,
    where `traces` is the repository's."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "traces").symlink_to(ROOT / "traces")

        def block(match: re.Match[str]) -> str:
            language, text = match.groups()
            if language == "console":
                text = "".join(
                    f"$ {command}\n{tell(command, printed, run(command, Path(folder)))}"
                    for command, printed in commands(text)
                )
            elif name := _NAME.match(text):
                (Path(folder) / name[1]).write_text(text)
            return f"```{language}\n{text}```"

        return _BLOCK.sub(block, page.read_text())


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a block, and what is said to be printed by each."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command = re.match(r"(?:.*\\\n)*.*\n", part)
        assert command
        yield command[0].rstrip("\n"), part[command.end() :]


def run(command: str, folder: Path) -> str:
    """What it prints on both outputs, as a shell in a terminal of 100 columns has it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "100", "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def matches(printed: str, found: str) -> bool:
    """Whether this is what the page says, where a line `...` is any lines. Columns may be of other
    widths: that of `events per second` in a table differs from run to run."""
    parts = re.split(r"^ *\.\.\.\n", _narrow(printed), flags=re.MULTILINE)
    return bool(re.fullmatch("(?:.*\n)*?".join(map(re.escape, parts)), _narrow(found)))


def _narrow(text: str) -> str:
    """Columns two blanks apart, however wide."""
    return re.sub(r"(?<=\S) {2,}", "  ", text)


def main(pages: list[str]) -> None:
    for page in map(Path, pages):
        page.write_text(replayed(page, lambda _, old, new: old if matches(old, new) else new))


if __name__ == "__main__":
    main(sys.argv[1:])
