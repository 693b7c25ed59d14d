# SPDX-License-Identifier: GPL-2.0-only
"""The report as one HTML file."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.analysis.report.data import (
    CURVE_POINTS,
    MOMENTS,
    drawn,
    first_misses,
    memory_curves,
    visits_curves,
)
from rmapreplay.analysis.report.matrix import Matrix
from rmapreplay.analysis.report.palette import kind_colours, styles
from rmapreplay.analysis.report.results import Results, TraceInfo
from rmapreplay.analysis.report.worst import explain_all
from rmapreplay.traces.errors import RmapReplayError

if TYPE_CHECKING:
    from rmapreplay.analysis.report.charts import Drawing
    from rmapreplay.analysis.report.document import Report

_OVERVIEW: Final = ("visits", "useless", "bytes")
_COSTS: Final = {
    "objects": "objects allocated",
    "links": "index entries changed",
    "locks": "locks",
    "refcounts": "reference counts changed",
}


def page(report: Report, explained: int) -> str:
    """The page. Raises RmapReplayError if what draws it is not installed."""
    try:
        import jinja2
        from markupsafe import Markup, escape

        from rmapreplay.analysis.report.charts import Drawing
    except ModuleNotFoundError as error:
        raise RmapReplayError(
            f"a report as HTML needs {error.name}, which is not installed: "
            "pip install 'rmapreplay[report]' (--format md does without)"
        ) from error

    def code(text: str) -> Markup:
        """Names between backquotes as code."""
        return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))

    results = report.results
    traces = drawn(results)
    style = styles(results.models, report.reference)
    drawing = Drawing(style)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(code=code, svg=Markup, number=lambda n: f"{n:,.0f}")
    return environment.from_string(_file("page.html.jinja")).render(
        report=report,
        results=results,
        reference=report.reference,
        css=Markup(_file("page.css")),
        js=Markup(_file("page.js")),
        styles=style,
        counts=[_counts(matrix) for matrix in report.matrices],
        overview=_overview(report, drawing),
        curves=_curves(results, traces, drawing),
        by_trace=_by_trace(results, traces, drawing),
        operation_charts=_operation_charts(results, drawing),
        told=explain_all(results, report.worst.all(), explained),
        explained=explained,
        misses=first_misses(results).to_dicts(),
        anomalies=_anomalies(results),
        drawn=len(traces),
        points=CURVE_POINTS,
        moments=MOMENTS,
    )


def _file(name: str) -> str:
    return (resources.files("rmapreplay") / "analysis" / "report" / name).read_text()


def _counts(matrix: Matrix) -> list[tuple[int, int]]:
    """For each model, on how many traces it is above the reference, and below."""
    counts = []
    for model in matrix.models:
        changes = [cell.change for _, cell in matrix.column(model)]
        counts.append((changes.count(1), changes.count(-1)))
    return counts


def _overview(report: Report, drawing: Drawing) -> list[str]:
    import polars as pl

    made = []
    for matrix in report.matrices:
        metric = matrix.metric
        if metric.key not in _OVERVIEW or len(matrix.rows) < 2:
            continue
        points = [
            (row.short, model, cell.value)
            for row in matrix.rows
            for model, cell in zip(matrix.models, row.cells, strict=True)
            if cell.value is not None
        ]
        table = pl.DataFrame(
            points, schema={"row": pl.String, "model": pl.String, "value": pl.Float64}, orient="row"
        )
        unit = {"useless": "useless visits, share of all"}.get(metric.key, metric.unit)
        if metric.key == "bytes":
            unit = "bytes at peak"
        order = [row.short for row in matrix.rows]
        title = f"{metric.title} of each model on each trace, in {metric.unit}"
        made.append(drawing.dots(table, order, unit, metric.kind, title))
    return made


def _curves(
    results: Results, traces: list[TraceInfo], drawing: Drawing
) -> list[tuple[TraceInfo, int, str]]:
    """For each trace: how many walks a model made, and the distributions of their visits."""
    curves = visits_curves(results, traces).partition_by("trace", as_dict=True)
    made = []
    for trace in traces:
        if (trace.name,) not in curves:
            continue
        walks = max(
            numbers.total("walks")
            for (name, _), numbers in results.numbers.items()
            if name == trace.name
        )
        title = f"{trace.name}: share of walks that visit at least so many VMAs, by model"
        made.append((trace, int(walks), drawing.visits(curves[(trace.name,)], title)))
    return made


def _by_trace(results: Results, traces: list[TraceInfo], drawing: Drawing) -> list[dict[str, Any]]:
    """For each trace: memory over time, and what operations cost."""
    import polars as pl

    memory = memory_curves(results, traces)
    kinds = memory["kind"].unique(maintain_order=True).to_list()
    colours = kind_colours(kinds)
    ranks = {kind: rank for rank, kind in enumerate(kinds)}
    by_name = memory.with_columns(
        rank=pl.col("kind").replace_strict(ranks, default=0, return_dtype=pl.Int64)
    ).partition_by("trace", as_dict=True)
    made = []
    for trace in traces:
        of_trace = by_name.get((trace.name,))
        part: dict[str, Any] = {
            "trace": trace,
            "operations": _operations(results, [trace]),
            "charts": [],
            "kinds": {},
        }
        if of_trace is not None:
            curves = of_trace.drop("trace")
            totals = curves.group_by("model", "seq", maintain_order=True).agg(pl.col("bytes").sum())
            here = [kind for kind in kinds if kind in curves["kind"]]
            part["charts"] = [
                drawing.memory(totals, f"{trace.name}: bytes of all objects over time, by model"),
                drawing.kinds(
                    curves,
                    colours,
                    f"{trace.name}: bytes over time by kind of object, for each model",
                ),
            ]
            part["kinds"] = {kind: colours[kind] for kind in here}
        made.append(part)
    return made


def _operations(results: Results, traces: list[TraceInfo]) -> list[dict[str, Any]]:
    """Costs of operations: a row per operation and cost that any model has, with each model's per
    call. `calls` are the most of any model: what is mapped where may depend on it."""
    rows = []
    found = {
        model: [
            numbers
            for trace in traces
            if (numbers := results.numbers.get((trace.name, model))) is not None
        ]
        for model in results.models
    }
    names = dict.fromkeys(
        name for each in found.values() for numbers in each for name in numbers.names("operation")
    )
    for name in names:
        if name == "walk":
            continue
        by_model = {
            model: [numbers.operation(name) for numbers in each] for model, each in found.items()
        }
        calls = {model: sum(o["calls"] for o in each) for model, each in by_model.items()}
        for cost, words in _COSTS.items():
            values = [
                sum(o[cost] for o in each) / calls[model] if calls[model] else None
                for model, each in by_model.items()
            ]
            if any(values):
                rows.append(
                    {
                        "name": name,
                        "cost": words,
                        "key": cost,
                        "calls": max(calls.values()),
                        "values": values,
                    }
                )
    return rows


def _operation_charts(results: Results, drawing: Drawing) -> list[str]:
    import polars as pl

    rows = _operations(results, results.common())
    made = []
    for cost, words in _COSTS.items():
        points = [
            (row["name"], model, value)
            for row in rows
            if row["key"] == cost
            for model, value in zip(results.models, row["values"], strict=True)
            if value is not None
        ]
        if not points:
            continue
        table = pl.DataFrame(
            points, schema={"row": pl.String, "model": pl.String, "value": pl.Float64}, orient="row"
        )
        order = list(dict.fromkeys(name for name, _, _ in points))
        title = f"{words} per call of each operation, by model, over all traces"
        made.append(drawing.dots(table, order, f"{words} per call", "mean", title))
    return made


def _anomalies(results: Results) -> list[dict[str, Any]]:
    """Anomalies by trace and kind: a count for each model, and the first row of any."""
    rows = []
    for trace in results.traces:
        of = [results.numbers.get((trace.name, model)) for model in results.models]
        kinds = dict.fromkeys(kind for each in of if each for kind in each.names("anomaly"))
        for kind in kinds:
            firsts = [each.get("anomaly", kind, "first_row") for each in of if each]
            rows.append(
                {
                    "trace": trace,
                    "kind": kind,
                    "counts": [each and (each.get("anomaly", kind, "count") or 0) for each in of],
                    "first": min(first for first in firsts if first is not None),
                }
            )
    return rows
