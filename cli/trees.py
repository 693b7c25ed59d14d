# SPDX-License-Identifier: GPL-2.0-only
"""Trees on standard output: drawn at a terminal, indented elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.tree import Tree

    from rmapreplay.analysis.inspect.tree import Branch


def print_tree(branch: Branch) -> None:
    if not sys.stdout.isatty():
        print(branch.plain())
        return
    from rich.console import Console

    Console(highlight=False).print(_rich(branch))


def _rich(branch: Branch) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    drawn = Tree(Text(branch.text, branch.style), guide_style="dim")
    drawn.children += [_rich(below) for below in branch.below]
    return drawn
