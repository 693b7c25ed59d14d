# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay import: a capture made by another tool becomes a trace."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rmapreplay.traces.schema import Metadata


class SourceFormat(StrEnum):
    """What --from takes."""

    auto = "auto"
    perf = "perf"
    tracefs = "tracefs"
    strace = "strace"


class Thp(StrEnum):
    """What --thp takes."""

    always = "always"
    madvise = "madvise"
    never = "never"


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Text of the capture, plain or .zst.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Trace to write.")],
    source_format: Annotated[
        SourceFormat, typer.Option("--from", help="Format of INPUT.")
    ] = SourceFormat.auto,
    truth: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="More for the answer key, of the same run: *.kmem.txt.zst or *.aux.tar.zst. "
            "Repeatable.",
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(metavar="RELEASE", help="Kernel of the capture, such as 6.18.44."),
    ] = None,
    thp: Annotated[
        Thp | None,
        typer.Option(help="transparent_hugepage/enabled on that machine."),
    ] = None,
    use_zero_page: Annotated[
        bool,
        typer.Option(
            "--huge-zero-page/--no-huge-zero-page",
            help="transparent_hugepage/use_zero_page on that machine.",
        ),
    ] = True,
    stack_limit: Annotated[
        int | None,
        typer.Option(min=4096, metavar="BYTES", help="Stack limit there (ulimit -s, in bytes)."),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Command that was captured, for the record."),
    ] = None,
    description: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What the workload is, for the record."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Import a capture: perf script, tracefs or strace text becomes a trace.

    What the capture tells of the kernel's own doing goes into an answer key beside the trace,
    OUT's name with .truth.parquet. What could not be used is counted by reason, in the trace's
    metadata and on standard error.
    """
    from rmapreplay.traces.importers import ImportOptions, import_capture

    options = ImportOptions(
        kernel=kernel,
        thp=thp.value if thp else None,
        use_zero_page=use_zero_page,
        stack_limit=stack_limit,
        command=command,
        description=description,
        truth=tuple(truth or ()),
        progress=_progress(source) if sys.stderr.isatty() else None,
    )
    metadata = import_capture(
        source, out, source_format=source_format.value, options=options, force=force
    )
    if options.progress:
        print("\x1b[K", end="", file=sys.stderr)
    for line in summary_lines(out, metadata):
        typer.echo(line, err=True)


def summary_lines(out: Path, metadata: Metadata) -> list[str]:
    """What an import met, for people."""
    from rmapreplay.traces.truth import read_truth, truth_path

    rows, lines = metadata["rows"], metadata["lines"]
    size = out.stat().st_size
    text = [
        f"{out}: {rows} rows from {lines} lines of {metadata['tool']['from']} text, "
        f"{size / rows:.2f} bytes per row"
    ]
    if truth_path(out).exists():
        kinds = read_truth(out).metadata["rows"]
        found = ", ".join(f"{n} {kind}" for kind, n in kinds.items() if n) or "nothing"
        text.append(f"{truth_path(out)}: answer key with {found}")
    if metadata["lost"]:
        text.append(f"the capture lost {metadata['lost']} events")
    for what, n in metadata["unmatched"].items():
        if n:
            text.append(f"{n} system call {what} without their other half")
    if metadata["processes_alive"]:
        text.append(f"{metadata['processes_alive']} processes were alive at the end")
    if metadata.get("lacks"):
        text.append(f"such a capture lacks: {', '.join(metadata['lacks'])}")
    text += [f"not used: {n} {reason}" for reason, n in sorted(metadata["dropped"].items())]
    return text


def _progress(source: Path) -> Callable[[int], None]:
    def show(done: int) -> None:
        print(f"{source.name}: {done >> 20} MB of text", end="\r", file=sys.stderr, flush=True)

    return show
