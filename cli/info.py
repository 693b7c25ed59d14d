# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay info: what is inside a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from rmapreplay.cli.options import TraceArgument


class Format(StrEnum):
    """What --format takes."""

    table = "table"
    json = "json"


def info(
    trace: TraceArgument,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
) -> None:
    """Print what a trace holds: operations, processes, forks, losses."""
    from rmapreplay.traces.info import trace_info
    from rmapreplay.traces.reader import read_trace

    found = trace_info(read_trace(trace))
    if output is Format.json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, value in _rows(found):
        typer.echo(f"{name:<22} {value}")


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    meta = found["metadata"]
    yield "trace", str(found["path"])
    for key in ("description", "command", "kernel", "arch"):
        if meta.get(key):
            yield key, str(meta[key])
    thp = meta.get("thp") or {}
    if thp.get("enabled"):
        yield "thp", f"{thp['enabled']}, huge zero page {'on' if thp['use_zero_page'] else 'off'}"
    if tool := meta.get("tool"):
        yield "captured with", str(tool.get("from"))
    yield "events", str(found["rows"])
    if found["bytes_per_event"]:
        yield "size", f"{found['bytes']} bytes, {found['bytes_per_event']} per event"
    yield "span", f"{found['span']:.6f} s"
    yield "processes", f"{found['processes']} ({found['tasks']} tasks)"
    yield "forks", ", ".join(f"{n} {kind}" for kind, n in found["forks"].items())
    for op, n in found["ops"].items():
        yield f"  {op}", str(n)
    yield "failed with effect", str(found["errors"])
    yield "lost", str(meta.get("lost", "unknown"))
    if unmatched := meta.get("unmatched"):
        yield "unmatched", f"{unmatched['enters']} enters, {unmatched['exits']} exits"
    if "processes_alive" in meta:
        yield "alive at the end", str(meta["processes_alive"])
    if meta.get("lacks"):
        yield "lacks", ", ".join(meta["lacks"])
    yield "not used", str(sum(meta.get("dropped", {}).values()))
    for reason, n in sorted(meta.get("dropped", {}).items()):
        yield f"  {reason}", str(n)
