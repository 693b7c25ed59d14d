# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay check-model: whether a model is right."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmapreplay.cli import completion
from rmapreplay.cli.tables import Format, print_table

if TYPE_CHECKING:
    from rmapreplay.testing import Checked, Report

_DEFAULT_OUT = Path("check-model-failures")


def check_model(
    model: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.models,
            metavar="MODEL",
            help="A model as --model of `run` takes it: NAME, ./mine.py:Mine, ...",
        ),
    ],
    kernel: Annotated[
        str, typer.Option(metavar="7.3|6.18|6.12|all", help="Whose rules to follow.")
    ] = "all",
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Random sequences to try.")] = 100,
    seconds: Annotated[
        float, typer.Option(min=1, metavar="S", help="Time for random sequences, at most.")
    ] = 60.0,
    trace: Annotated[
        list[Path] | None,
        typer.Option(
            autocompletion=completion.traces,
            metavar="FILE",
            help="Replay this trace too; repeatable.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Checks whose name begins so; repeatable."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Where minimal traces of failures go."),
    ] = _DEFAULT_OUT,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
) -> None:
    """Tell whether a model is right: scenarios, random sequences, accounting.

    Exit code: 1 if the model fails a check. Each failure says what went wrong, the state around it,
    and where a minimal trace of it is.
    """
    from rmapreplay.testing import check_model as run_checks

    report = run_checks(
        model,
        kernel=kernel,
        seeds=seeds,
        seconds=seconds,
        traces=trace or (),
        only=only or (),
        out=out,
        progress=_tell if sys.stderr.isatty() else None,
    )
    if output is Format.json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        _print_report(report)
    if not report.passed:
        raise typer.Exit(1)


def _tell(check: Checked) -> None:
    print(f"{check.result:5}{check.name}", file=sys.stderr)


def _print_report(report: Report) -> None:
    print_table(
        ["check", "result", ""],
        [
            [check.name, check.result, check.finding.rule if check.finding else _note(check)]
            for check in report.checks
        ],
        left=3,
    )
    print(f"\n{report}")


def _note(check: Checked) -> str:
    return check.skipped or check.note
