# SPDX-License-Identifier: GPL-2.0-only
"""The charts, drawn by Altair and made SVG when the page is made. Each is at most 360 pixels wide,
so that it is legible on a phone; the page sets them side by side where there is room."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

import altair as alt
import vl_convert

from rmapreplay.analysis.report.palette import Style

if TYPE_CHECKING:
    import polars as pl

_TEXT: Final = "currentColor"
_AXIS: Final = {
    "labelColor": _TEXT,
    "titleColor": _TEXT,
    "tickColor": _TEXT,
    "gridColor": _TEXT,
    "domainColor": _TEXT,
    "labelOpacity": 0.8,
    "gridOpacity": 0.13,
    "domainOpacity": 0.35,
    "tickOpacity": 0.35,
    "labelFontSize": 10.5,
    "titleFontSize": 10.5,
    "titleFontWeight": "normal",
    "tickSize": 3,
    "labelLimit": 150,
}
_CONFIG: Final[dict[str, Any]] = {
    "aria": False,
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": _AXIS,
    "header": {"labelColor": _TEXT, "titleColor": _TEXT, "labelFontSize": 10.5},
}

_BEFORE_ONE: Final = 0.75
_PLAIN: Final = ",.4~r"
_NUMBER: Final = re.compile(r"-?\d+\.\d{2,}")
_PATHS: Final = re.compile(r'\b(d|transform|x|y|x2|y2|points)="([^"]*)"')


class Drawing:
    """Makes SVGs to be put into one page: no two of their ids are alike."""

    def __init__(self, styles: dict[str, Style]) -> None:
        self._styles = styles
        self._number = 0

    def visits(self, curves: pl.DataFrame, title: str) -> str:
        """The share of walks with at least so many visits, a line per model, by logarithms."""
        import polars as pl

        low = _bounds(curves["share"])[0] or 1.0
        floor = 10.0 ** math.floor(math.log10(low) - 0.01)
        most = max(_bounds(curves["visits"])[1], 2)
        # A line begins before one visit, so that models which never make more have one to see, and
        # falls to the bottom where its walks end.
        by = curves.group_by("model", maintain_order=True)
        points = pl.concat(
            [
                by.first().with_columns(visits=pl.lit(_BEFORE_ONE)),
                curves.with_columns(pl.col("visits").cast(pl.Float64)),
                by.last().with_columns(pl.col("visits").cast(pl.Float64), share=pl.lit(floor)),
            ],
            how="diagonal_relaxed",
        )
        chart = (
            alt.Chart(_data(points.select("model", "visits", "share")))
            .mark_line(interpolate="step-before", strokeWidth=1.7, clip=True)
            .encode(
                x=alt.X("visits:Q")
                .scale(type="log", domain=[_BEFORE_ONE, most], nice=False)
                .axis(
                    title="visits per walk, at least (VMAs)",
                    values=_steps(1, most),
                    format="~s",
                    labelOverlap=True,
                ),
                y=alt.Y("share:Q")
                .scale(type="log", domain=[floor, 1.0])
                .axis(title="share of walks", values=_powers(floor, 1.0), format="~%"),
                color=self._by_model("color"),
                strokeDash=self._by_model("dash"),
            )
        )
        return self._svg(chart.properties(width=290, height=150), title)

    def memory(self, totals: pl.DataFrame, title: str) -> str:
        """Bytes of all of a model's objects over time, a line per model, by logarithm."""
        import polars as pl

        points = totals.filter(pl.col("bytes") > 0)
        low, high = (value or 1.0 for value in _bounds(points["bytes"]))
        chart = (
            alt.Chart(_data(points))
            .mark_line(strokeWidth=1.7, interpolate="step-after")
            .encode(
                x=_rows_axis(),
                y=alt.Y("bytes:Q")
                .scale(type="log")
                .axis(title="bytes", values=_powers(low / 10, high * 10), format="~s"),
                color=self._by_model("color"),
                strokeDash=self._by_model("dash"),
            )
        )
        return self._svg(chart.properties(width=290, height=190), title)

    def kinds(self, curves: pl.DataFrame, colours: dict[str, str], title: str) -> str:
        """Bytes by kind of object over time, one above the other; a row of its own, with its own
        scale, for each model."""
        scale = alt.Scale(domain=list(colours), range=list(colours.values()))
        models = [model for model in self._styles if model in curves["model"]]
        header = alt.Header(labelOrient="top", labelAnchor="start", labelPadding=2)
        chart = (
            alt.Chart(_data(curves), width=290, height=52)
            .mark_area(interpolate="step-after", opacity=0.85)
            .encode(
                x=_rows_axis(),
                y=alt.Y("bytes:Q").stack("zero").axis(title="bytes", tickCount=2, format="~s"),
                color=alt.Color("kind:N").scale(scale).legend(None),
                order=alt.Order("rank:Q"),
                row=alt.Row("model:N").sort(models).title(None).header(header).spacing(6),
            )
            .resolve_scale(y="independent")
        )
        return self._svg(chart, title)

    def dots(
        self, table: pl.DataFrame, order: Sequence[str], unit: str, kind: str, title: str
    ) -> str:
        """A row per workload or operation (`row`), a point per model (`value`)."""
        lowest, highest = _bounds(table["value"])
        axis: dict[str, Any] = {"title": unit, "labelOverlap": True}
        scale: dict[str, Any] = {"nice": False, "padding": 8}
        if kind == "share":
            axis |= {"format": "~%", "tickCount": 5}
            scale |= {"zero": True}
        elif lowest > 0:
            axis |= {"values": _steps(lowest, highest), "format": _PLAIN}
            scale |= {"type": "log"}
        else:
            axis |= {"values": [0.0, *_powers(0.1, highest)], "format": _PLAIN}
            scale |= {"type": "symlog", "constant": 0.05}
        if kind == "bytes":
            axis |= {"format": "~s"}
        # Names are set in a font that the reader has, which may be wider than the one known here.
        room = 6.7 * max(map(len, order)) + 10
        chart = (
            alt.Chart(_data(table))
            .mark_point(filled=True, size=42, opacity=0.85)
            .encode(
                x=alt.X("value:Q").scale(**scale).axis(**axis),
                y=alt.Y("row:N")
                .sort(list(order))
                .axis(title=None, grid=True, ticks=False, minExtent=room, labelPadding=7),
                color=self._by_model("color"),
                shape=self._by_model("shape"),
            )
        )
        return self._svg(chart.properties(width=max(150, 325 - room), height=alt.Step(17)), title)

    def _by_model(self, channel: str) -> Any:
        models = list(self._styles)
        drawn = self._styles.values()
        if channel == "color":
            colours = alt.Scale(domain=models, range=[style.colour for style in drawn])
            return alt.Color("model:N").scale(colours).legend(None)
        if channel == "dash":
            dashes = alt.Scale(domain=models, range=[list(style.dash) for style in drawn])
            return alt.StrokeDash("model:N").scale(dashes).legend(None)
        shapes = alt.Scale(domain=models, range=[style.shape for style in drawn])
        return alt.Shape("model:N").scale(shapes).legend(None)

    def _svg(self, chart: Any, title: str) -> str:
        with alt.data_transformers.enable("default", consolidate_datasets=False, max_rows=None):
            spec = chart.to_dict(validate=False)
        spec["config"] = _CONFIG
        drawn = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
        self._number += 1
        return _embed(drawn, f"chart{self._number}", title)


def _rows_axis() -> Any:
    return alt.X("seq:Q").scale(nice=False).axis(
        title="rows of the trace", tickCount=4, format="~s", grid=False
    )  # fmt: skip


def _bounds(values: pl.Series) -> tuple[float, float]:
    """The least and the most; 0 where there are none."""
    numbers: list[float] = values.to_list()
    return (min(numbers), max(numbers)) if numbers else (0.0, 0.0)


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten from low to high."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(max(high, low)) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def _steps(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20 and so on from low to high; only powers of ten where these are many."""
    powers = _powers(low / 10, high * 10)
    steps = [power * step for power in powers for step in (1, 2, 5)]
    inside = [step for step in steps if low * 0.999 <= step <= high * 1.001]
    return inside if len(inside) <= 9 else [step for step in inside if step in powers]


def _data(frame: pl.DataFrame) -> Any:
    return {"values": frame.to_dicts()}


def _embed(svg: str, name: str, title: str) -> str:
    """An SVG to stand in a page: with a title, ids of its own, no namespaces, short numbers."""
    head, _, body = svg.partition(">")
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', head)
    assert size
    width, height = size.groups()
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r'<path class="(?:background|foreground)"[^>]*/>', "", body)
    body = re.sub(r' (?:aria-[a-z]+|role|pointer-events|class|font-family)="[^"]*"', "", body)
    body = re.sub(r' (?:opacity="1"|stroke-width="1"|font-weight="normal")', "", body)
    while "<g></g>" in body:
        body = body.replace("<g></g>", "")
    body = _PATHS.sub(lambda m: f'{m[1]}="{_NUMBER.sub(_rounded, m[2])}"', body)
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-labelledby="{name}-title"><title id="{name}-title">{escape(title)}</title>{body}'
    )


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")
