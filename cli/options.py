# SPDX-License-Identifier: GPL-2.0-only
"""Arguments and options that several subcommands take."""

from __future__ import annotations

from typing import Annotated

import typer

from rmapreplay.cli import completion

TraceArgument = Annotated[
    str,
    typer.Argument(
        autocompletion=completion.traces,
        metavar="TRACE",
        help="Parquet file of a trace, a scenario (.scn), or a URL of either.",
    ),
]

WalksOption = Annotated[
    str,
    typer.Option(
        autocompletion=completion.walk_policies,
        metavar="SPEC",
        help="When walks happen, as for `run`.",
    ),
]

CostModelOption = Annotated[
    str | None,
    typer.Option(
        "--cost-model",
        autocompletion=completion.cost_models,
        metavar="warm|cold|FILE.toml",
        help="Also estimate nanoseconds: what was counted, times these weights.",
    ),
]
