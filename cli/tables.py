# SPDX-License-Identifier: GPL-2.0-only
"""Tables on standard output: with lines for people at a terminal, plain and aligned elsewhere.

Every number that people read goes through `number`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import JustifyMethod

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
    """Print a table whose first `left` columns are text; the others are aligned to the right.

    In a terminal, a table that is too wide is printed in parts, each with the first column.
    """
    cells = [[number(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        _print_plain(header, cells, left)
        return
    widths = [max(map(len, column)) + 3 for column in zip(header, *cells, strict=True)]
    room = shutil.get_terminal_size().columns
    # Rich cuts cells that do not fit; half a number is worse than a wrapped line.
    if left < len(header) and sum(widths) > room:
        for number_of_part, part in enumerate(_parts(widths, left, room)):
            if number_of_part:
                print()
            _print_fitting(header, cells, left, [*range(left), *part], room)
    else:
        _print_fitting(header, cells, left, range(len(header)), room)


def _parts(widths: Sequence[int], left: int, room: int) -> list[list[int]]:
    """The columns behind the first `left`, in groups that fit beside these."""
    parts: list[list[int]] = []
    used = room
    for column in range(left, len(widths)):
        used += widths[column]
        if used > room:
            parts.append([])
            used = sum(widths[:left]) + widths[column]
        parts[-1].append(column)
    return parts


def _print_fitting(
    header: Sequence[str],
    cells: list[list[str]],
    left: int,
    columns: Sequence[int],
    room: int,
) -> None:
    shown = [header[column] for column in columns]
    lines = [[line[column] for column in columns] for line in cells]
    needed = sum(max(map(len, column)) + 3 for column in zip(shown, *lines, strict=True))
    if needed <= room or left >= len(header):  # text may wrap
        _print_rich(shown, lines, left)
    else:
        _print_plain(shown, lines, left)


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
        justify: JustifyMethod = "left" if i < left else "right"
        table.add_column(Text(title), justify=justify, overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)
