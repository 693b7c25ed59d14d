# SPDX-License-Identifier: GPL-2.0-only
"""The command line: one subcommand per file, and what becomes of errors."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from rmapreplay import __version__
from rmapreplay.cli.batch import batch
from rmapreplay.cli.capture import capture
from rmapreplay.cli.check import check
from rmapreplay.cli.check_model import check_model
from rmapreplay.cli.compare import CompareCommand, compare
from rmapreplay.cli.errors import print_error
from rmapreplay.cli.explain import explain
from rmapreplay.cli.export import export
from rmapreplay.cli.import_ import import_
from rmapreplay.cli.include_dir import include_dir
from rmapreplay.cli.info import info
from rmapreplay.cli.inspect import inspect
from rmapreplay.cli.models import models
from rmapreplay.cli.new_model import new_model
from rmapreplay.cli.report import report
from rmapreplay.cli.run import RunCommand, run
from rmapreplay.cli.scenario import scenario
from rmapreplay.cli.timeline import timeline
from rmapreplay.traces.errors import InvariantError, RmapReplayError

app = typer.Typer(
    name="rmapreplay",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_ASK, _TRACES, _MODELS = "Ask", "Traces", "Models"

app.command("run", cls=RunCommand, rich_help_panel=_ASK)(run)
app.command("compare", cls=CompareCommand, rich_help_panel=_ASK)(compare)
app.command("explain", rich_help_panel=_ASK)(explain)
app.command("inspect", rich_help_panel=_ASK)(inspect)
app.command("batch", rich_help_panel=_ASK)(batch)
app.command("report", rich_help_panel=_ASK)(report)
app.command("timeline", rich_help_panel=_ASK)(timeline)
app.command("export", rich_help_panel=_ASK)(export)
app.command(
    "capture",
    rich_help_panel=_TRACES,
    context_settings={"allow_interspersed_args": False},
)(capture)
app.command("import", rich_help_panel=_TRACES)(import_)
app.command("info", rich_help_panel=_TRACES)(info)
app.command("check", rich_help_panel=_TRACES)(check)
app.add_typer(scenario, name="scenario", rich_help_panel=_TRACES)
app.command("models", rich_help_panel=_MODELS)(models)
app.command("check-model", rich_help_panel=_MODELS)(check_model)
app.command("new-model", rich_help_panel=_MODELS)(new_model)
app.command("include-dir", rich_help_panel=_MODELS)(include_dir)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rmapreplay {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Replay what processes do with their memory under models of the anonymous reverse map."""


def main() -> None:
    """Run the command line. Exit codes: 0 ok, 1 a finding (misses, a broken invariant, disagreement
    with the kernel, or anomalies under --strict), 2 bad usage or input, told in one line on
    standard error."""
    # Whoever reads the output may have seen enough: die of it quietly, like any filter.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        if message := error.format_message():
            _fail(message)
        sys.exit(error.exit_code)
    except RmapReplayError as error:
        _fail(error, code=1 if isinstance(error, InvariantError) else 2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}")
    except typer.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: str | RmapReplayError, code: int = 2) -> None:
    print_error(error)
    if not sys.stdout.closed:
        # What is buffered may be why we are here (a full disk); trying again at exit would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
