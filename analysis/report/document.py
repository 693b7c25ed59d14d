# SPDX-License-Identifier: GPL-2.0-only
"""What there is to say about results, as HTML or as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rmapreplay.analysis.report.findings import Finding, find
from rmapreplay.analysis.report.matrix import Matrix, matrices
from rmapreplay.analysis.report.results import Results, read_results
from rmapreplay.analysis.report.worst import Alignment, worst_walks
from rmapreplay.traces.errors import RmapReplayError

if TYPE_CHECKING:
    from rmapreplay.analysis.estimates import CostModel

DEFAULT_EXPLAINED = 6
"""Worst walks that the page explains."""


class Report:
    """What there is to say about some results.

    Attributes:
        results: what was read.
        reference: the model that the others are set against.
        matrices: traces x models, one per metric.
        findings: who walks more, wastes more, takes more memory, and where; in sentences.
        worst: the walks with the largest excess of visits, by trace and by model.
        cost_model: the weights of the estimates, if there are any.
    """

    def __init__(self, results: Results, reference: str, cost_model: CostModel | None) -> None:
        self.results = results
        self.reference = reference
        self.cost_model = cost_model
        self.matrices: list[Matrix] = matrices(results, reference, cost_model)
        self.findings: list[Finding] = find(results, self.matrices, reference)
        self.worst: Alignment = worst_walks(results)

    def html(self, *, explained: int = DEFAULT_EXPLAINED) -> str:
        """One page without references to anything outside it.

        Args:
            explained: how many of the worst walks are told step by step, which replays their
                traces; those whose traces cannot be read are not.

        Raises RmapReplayError if what draws the charts is not installed.
        """
        from rmapreplay.analysis.report.html import page

        return page(self, explained)

    def markdown(self) -> str:
        """For a mail or a merge request: lines of tables have at most 100 columns."""
        from rmapreplay.analysis.report.markdown import text

        return text(self)

    def __repr__(self) -> str:
        traces, models = len(self.results.traces), len(self.results.models)
        return f"<rmapreplay.Report: {traces} traces under {models} models>"


def report(
    results: str | Path,
    *,
    reference: str | None = None,
    cost_model: CostModel | str | Path | None = None,
) -> Report:
    """Read results, and find what there is to say about them.

    Tables are aggregated where they lie: no row of a walk is kept.

    Args:
        results: a directory that `batch` wrote, or `run --out`.
        reference: label of the model that the others are set against; default: the first.
        cost_model: weights to estimate nanoseconds with, or their name or file.

    Raises RmapReplayError if there are no results, or no such model in them.
    """
    from rmapreplay.analysis.estimates import CostModel, read_cost_model

    read = read_results(results)
    if not read.numbers:
        raise RmapReplayError(f"{read.directory}: nothing to report: all of its replays failed")
    reference = read.models[0] if reference is None else reference
    if reference not in read.models:
        raise RmapReplayError(
            f"{read.directory}: has no results of {reference}, only of {', '.join(read.models)}"
        )
    if cost_model is not None and not isinstance(cost_model, CostModel):
        cost_model = read_cost_model(cost_model)
    return Report(read, reference, cost_model)
