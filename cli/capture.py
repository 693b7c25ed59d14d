# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay capture: a workload runs, and what it did with its memory becomes a trace."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmapreplay.cli.import_ import summary_lines

if TYPE_CHECKING:
    from rmapreplay.traces.capture.session import CaptureOptions
    from rmapreplay.traces.schema import Metadata


class BackendName(StrEnum):
    """What --backend takes."""

    perf = "perf"
    tracefs = "tracefs"
    strace = "strace"


def capture(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND", help="What to run.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Trace to write.")
    ] = None,
    attach: Annotated[
        str | None,
        typer.Option(
            metavar="PID|CGROUP",
            help="Processes that are there already: one and its descendants, or a cgroup v2.",
        ),
    ] = None,
    backend: Annotated[
        BackendName, typer.Option(help="How to record; strace sees no faults.")
    ] = BackendName.perf,
    duration: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="SECONDS", help="End then, and not when the last process has exited."
        ),
    ] = None,
    truth: Annotated[
        bool, typer.Option("--truth", help="Record the kernel's own objects too, for check.")
    ] = False,
    lock_order: Annotated[
        bool,
        typer.Option(
            "--lock-order/--no-lock-order", help="Order threads by when they took mmap_lock."
        ),
    ] = True,
    buffer: Annotated[
        int, typer.Option(min=1, metavar="MB", help="The kernel's buffer per CPU.")
    ] = 32,
    keep_raw: Annotated[
        bool, typer.Option("--keep-raw", help="Keep what the backend recorded, beside OUT.")
    ] = False,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Exit with 0 even if events were lost.")
    ] = False,
    description: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What the workload is, for the record."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what this machine lacks for a capture.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> int:
    """Capture what a command, or running processes, do with their memory.

    With them all their descendants. The capture lasts until the last of them has exited, or
    --duration, or Ctrl-C; in each case there is a trace. What it could not record is counted, and
    events lost make it exit with 1.
    """
    from rmapreplay.traces.capture import session
    from rmapreplay.traces.capture.session import CaptureOptions

    options = CaptureOptions(
        backend=backend.value,
        duration=duration,
        buffer_mb=_power_of_two(buffer),
        lock_order=lock_order,
        truth=truth,
        keep_raw=keep_raw,
        description=description,
    )
    if check:
        return _check(options)
    if bool(command) == (attach is not None):
        raise typer.BadParameter("say what to capture: either -- COMMAND or --attach PID|CGROUP")
    if not out:
        raise typer.BadParameter("say where the trace goes: -o OUT")
    if attach is not None:
        metadata = session.attach(attach, out, options, force=force)
    else:
        assert command
        metadata = session.capture(command, out, options, force=force)
    for line in [*summary_lines(out, metadata), _closing(metadata)]:
        typer.echo(line, err=True)
    return 1 if metadata["lost"] and not allow_loss else 0


def _check(options: CaptureOptions) -> int:
    from rmapreplay.traces.capture.session import requirements

    missing = 0
    for one in requirements(options):
        typer.echo(f"{'ok' if one.met else 'MISSING':<8} {one}")
        missing += not one.met
    return 1 if missing else 0


def _closing(metadata: Metadata) -> str:
    """What counts, in one line."""
    unmatched = metadata["unmatched"]
    counts = [
        f"{metadata['lost']} lost",
        f"{metadata['dropped'].get('malformed_line', 0)} lines not understood",
        f"{sum(unmatched.values())} calls without their other half",
        f"{metadata['processes_alive']} processes alive at the end",
    ]
    run = metadata["capture"]
    exit_ = run.get("exit")
    if "attached_to" in run:
        how = f"attached to {run['attached_to']}, which stood still for {run['stood_still']} s"
    elif exit_ is None:
        how = "the command did not end by itself"
    elif exit_["signal"]:
        how = f"the command was killed by signal {exit_['signal']}"
    else:
        how = f"the command exited with status {exit_['status']}"
    return f"captured {run['seconds']:.1f} s ({run['ended']}, {how}): {', '.join(counts)}"


def _power_of_two(number: int) -> int:
    """The smallest that is not smaller."""
    return 1 << (number - 1).bit_length()
