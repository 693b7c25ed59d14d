# SPDX-License-Identifier: GPL-2.0-only
"""Tables on standard output: with lines for people at a terminal, plain and aligned elsewhere.

Every number that people read goes through `number`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from enum import StrEnum

Cell = str | int | float | None


class Format(StrEnum):
    """What --format takes."""

    table = "table"
    json = "json"


def number(value: Cell) -> str:
    """A cell as text: 12,345 or 1.234; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else value


def print_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], *, left: int = 1) -> None:
    """Print a table whose first `left` columns are text; the others are aligned to the right."""
    cells = [[number(cell) for cell in row] for row in rows]
    # Rich cuts cells that do not fit; half a number is worse than a wrapped line.
    needed = sum(max(map(len, column)) + 3 for column in zip(header, *cells, strict=True))
    if sys.stdout.isatty() and needed <= shutil.get_terminal_size().columns:
        _print_rich(header, cells, left)
    else:
        _print_plain(header, cells, left)


def _print_plain(header: Sequence[str], cells: list[list[str]], left: int) -> None:
    lines = [list(header), *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        print(
            "  ".join(
                cell.ljust(width) if i < left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
        )


def _print_rich(header: Sequence[str], cells: list[list[str]], left: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, title in enumerate(header):
        table.add_column(Text(title), justify="left" if i < left else "right")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)
