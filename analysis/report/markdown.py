# SPDX-License-Identifier: GPL-2.0-only
"""The report as Markdown, short enough for a mail."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rmapreplay.analysis.report.matrix import Cell, Matrix

if TYPE_CHECKING:
    from rmapreplay.analysis.report.document import Report

_COLUMNS: Final = 100
_SHOWN: Final = ("visits", "useless", "bytes")
_WORST: Final = 5
_CODE: Final = "      "  # a block of code in a list
_NAMES: Final = 24  # columns for the name of a trace


def text(report: Report) -> str:
    """The whole report. Tables that are wider than a line come in parts."""
    results = report.results
    traces, models = len(results.traces), len(results.models)
    lines = [
        "# What the reverse map costs",
        "",
        *_wrap(
            f"{traces} {'trace' if traces == 1 else 'traces'} under {models} "
            f"{'model' if models == 1 else 'models'}, {results.walks():,} walks "
            f"(`{results.walks_policy}`), compared with `{report.reference}`"
            + (
                f". Nanoseconds are estimated: counts times the weights of cost model "
                f"`{report.cost_model.name}`."
                if report.cost_model
                else "."
            )
        ),
        "",
    ]
    for finding in report.findings:
        lines += _wrap(f"- **{finding.question}.** {finding.text}", "  ")
    lines += ["", "## Totals", ""]
    lines += _totals(report.matrices)
    if traces > 1:
        for matrix in report.matrices:
            if matrix.metric.key in _SHOWN:
                lines += ["", f"## {matrix.metric.title} ({matrix.metric.unit})", ""]
                lines += _traces(matrix)
    lines += _worst(report)
    lines += _failures(report)
    made_by = {k: v for k, v in results.made_by.items() if k in ("program", "build")}
    if made_by:
        lines += ["", *_wrap(", ".join(f"{what} {value}" for what, value in made_by.items()) + ".")]
    return "\n".join(lines) + "\n"


def _totals(matrices: Sequence[Matrix]) -> list[str]:
    rows = [[m.metric.title, *map(_text, m.total.cells)] for m in matrices]
    return _table([matrices[0].total.short, *matrices[0].models], rows)


def _traces(matrix: Matrix) -> list[str]:
    rows = [[_short(row.short), *map(_text, row.cells)] for row in matrix.rows]
    return _table(["trace", *matrix.models], rows)


def _text(cell: Cell) -> str:
    return f"{cell.text} ({cell.against})" if cell.against and cell.change else cell.text


def _short(name: str) -> str:
    return name if len(name) <= _NAMES else f"…{name[1 - _NAMES :]}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table with aligned columns; if it is too wide, in parts that begin with the first one."""
    cells = [[text.replace("|", "\\|") for text in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    parts: list[list[int]] = []
    used = _COLUMNS
    for column in range(1, len(header)):
        used += widths[column] + 3
        if used > _COLUMNS:
            parts.append([])
            used = widths[0] + widths[column] + 7
        parts[-1].append(column)
    lines = []
    for number, part in enumerate(parts):
        lines += [""] if number else []
        for at, row in enumerate(cells):
            texts = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in part)]
            lines.append(f"| {' | '.join(texts)} |")
            if at == 0:
                rules = ["-" * (widths[i] + 1) + ":" for i in part]
                lines.append(f"|-{'-' * widths[0]}-|{'|'.join(rules)}|")
    return lines


def _worst(report: Report) -> list[str]:
    worst = report.worst.all()
    if not worst:
        return []
    lines = ["", "## Worst walks", ""]
    for each in worst[:_WORST]:
        least = f"`{each.other}` makes" if each.other else "hits are"
        lines += _wrap(
            f"- {each.trace.short}, `{each.model}`: {each.visits:,} visits ({each.useless:,} "
            f"useless) where {least} {each.other_visits:,}",
            "  ",
        )
        lines += ["", *_command(each.command(report.results.walks_policy)), ""]
    if len(worst) > _WORST:
        lines += [f"{len(worst) - _WORST} more are in the report as HTML."]
    return lines


def _command(command: str) -> list[str]:
    """A command, on several lines if it is long; a shell takes it as it is."""
    lines = [_CODE]
    for part in re.split(r" (?=-)", command):
        added = part if lines[-1].isspace() else f" {part}"
        if not lines[-1].isspace() and len(lines[-1]) + len(added) > _COLUMNS - 2:
            lines[-1] += " \\"
            lines.append(f"{_CODE}    {part}")
        else:
            lines[-1] += added
    return lines


def _failures(report: Report) -> list[str]:
    if not report.results.failed:
        return []
    lines = ["", "## Failures", ""]
    for failure in report.results.failed:
        lines += _wrap(f"- {failure.trace}, `{failure.model}`: {failure.message}", "  ")
    return lines


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _COLUMNS,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
