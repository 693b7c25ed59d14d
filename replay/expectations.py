# SPDX-License-Identifier: GPL-2.0-only
"""Holds a replay against what the trace's metadata expects of it (docs/scenarios.md)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import pyarrow as pa

    from rmapreplay.replay.engine import Sink
    from rmapreplay.traces.scenarios.findings import Findings

_Run = TypeVar("_Run", bound=Callable[..., dict[str, Any]])


def checked(run: _Run) -> _Run:
    """A function such as engine.run() whose summary says, of a trace with expectations, what
    became of them: `expectations` has `checked`, how many, and `failed`, a line for each that does
    not hold of one of the models."""

    @wraps(run)
    def checking(trace: Any, specs: Any, **options: Any) -> dict[str, Any]:
        if not trace.metadata.get("expect"):
            return run(trace, specs, **options)
        from rmapreplay.traces.scenarios.expect import from_metadata
        from rmapreplay.traces.scenarios.findings import Findings
        from rmapreplay.traces.schema import process_names

        names = process_names(trace.metadata)
        findings = Findings(from_metadata(trace.metadata), names)
        visits = bool(options.pop("visits", False))
        sink = _Both(findings, options.pop("sink", None), visits)
        seen = visits or findings.visits_needed
        summary = run(trace, specs, sink=sink, visits=seen, **options)
        summary["expectations"] = {
            "checked": findings.checked(summary),
            "failed": findings.failures(summary),
        }
        return summary

    return cast("_Run", checking)


class _Both:
    """A sink for the findings, and for whoever wanted the tables, if anybody did."""

    def __init__(self, findings: Findings, sink: Sink | None, visits: bool) -> None:
        self._findings = findings
        self._sink = sink
        self._visits = visits

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        self._findings.write(model, table, rows)
        if self._sink is not None and (self._visits or table != "visits"):
            self._sink.write(model, table, rows)
