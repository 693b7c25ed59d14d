# SPDX-License-Identifier: GPL-2.0-only
"""Writes the reference in docs/cli.md from the program itself:

python docs/cli_reference.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).with_name("cli.md")
_BEGIN: Final = "<!-- reference: written by cli_reference.py -->\n"
_END: Final = "<!-- end of reference -->\n"


def reference() -> str:
    """Every command with its arguments and options, as typer has it, a level further down."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "typer",
            "rmapreplay.cli.app",
            "utils",
            "docs",
            "--name",
            "rmapreplay",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    text = re.sub(r"^(#+ )", r"#\1", done.stdout, flags=re.MULTILINE).strip()
    return re.sub(r"^\*\*Commands\*\*:\n\n(?:\* .*\n)+", _links, text, flags=re.MULTILINE)


def _links(commands: re.Match[str]) -> str:
    """A group's commands, which typer tells of in a few words each, as links to what follows."""
    (group,) = re.findall(r"^#+ `(.*)`$", commands.string[: commands.start()], re.MULTILINE)[-1:]
    links = (
        f"[`{name}`](#{f'{group} {name}'.replace(' ', '-')})"
        for name in re.findall(r"^\* `(.*?)`", commands[0], re.MULTILINE)
    )
    return f"**Commands**: {', '.join(links)}\n"


def page() -> str:
    """The whole page, its reference as it is now."""
    before, begin, rest = PAGE.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"{PAGE}: the markers of the reference are gone")
    return f"{before}{begin}\n{reference()}\n\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
