# SPDX-License-Identifier: GPL-2.0-only
"""A whole check, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rmapreplay.replay import DEFAULT_BATCH_SIZE
from rmapreplay.replay.check.answers import Answers
from rmapreplay.replay.check.context import describe
from rmapreplay.replay.check.disagreement import Disagreement
from rmapreplay.replay.check.links import compare_links
from rmapreplay.replay.check.objects import KINDS, compare_objects
from rmapreplay.replay.check.playback import Playback
from rmapreplay.replay.check.vmas import compare_reports, compare_snapshots
from rmapreplay.replay.check.walks import compare_walks
from rmapreplay.replay.specs import ModelSpec, info_of

if TYPE_CHECKING:
    from rmapreplay.traces.reader import Trace
    from rmapreplay.traces.truth import Truth


@dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes:
        summary: the totals, as `rmapreplay check --format json` prints them (docs/check.md).
        walks: a row per recorded walk: walk, row (of the trace), kind, pid, addr, category
            (exact, tie, prefix_kernel, prefix_model, wrong), replayed.
        reports: a row per VMA that the kernel reported: row, pid, start, end (bytes), last, got,
            got_end (0: no VMA was there).
        disagreements: all there are, in order of the trace; those without a row last.
    """

    summary: dict[str, Any]
    walks: pl.DataFrame
    reports: pl.DataFrame
    disagreements: list[Disagreement]

    @property
    def exact(self) -> bool:
        """Whether nothing differs but ties, and walks that the kernel ended early."""
        return bool(self.summary["exact"])


def check(
    trace: Trace | str | Path,
    truth: Truth | str | Path | None = None,
    model: str = "anon_vma",
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> Check:
    """Replay a trace and compare with what the kernel did in the captured run.

    Args:
        trace: a trace, or the path of one.
        truth: its answer key, or the path of one; by default the one beside the trace.
        model: `name` or `name:key=value,...`. One whose objects are not the kernel's is compared
            by what its walks find only.
        batch_size: rows replayed at a time.

    Raises TraceFormatError (the trace or the answer key is damaged, or they are not of one run),
    ModelError, or RmapReplayError (no answer key, or one that holds nothing to compare).
    """
    from rmapreplay.traces.errors import RmapReplayError
    from rmapreplay.traces.reader import read_trace
    from rmapreplay.traces.truth import read_truth

    spec = ModelSpec.parse(model)
    if isinstance(trace, str | Path):
        trace = read_trace(trace)
    if truth is None:
        if trace.path is None:
            raise RmapReplayError("a trace from memory has no answer key beside it")
        truth = trace.path
    if isinstance(truth, str | Path):
        truth = read_truth(truth)

    answers = Answers(trace, truth)
    linked = {*KINDS[1:]} <= {*info_of(spec.name, spec.source)["objects"]}
    playback = Playback(
        trace,
        spec,
        stops=[moment.row for moment in answers.moments],
        pids=truth.snapshots["pid"].unique().to_list(),
        watch=answers.reports,
        batch_size=batch_size,
    )
    return _compare(answers, playback, spec, linked)


def _compare(answers: Answers, playback: Playback, spec: ModelSpec, linked: bool) -> Check:
    walks = compare_walks(answers, playback, linked=linked)
    summary: dict[str, Any] = {
        "trace": str(answers.trace.path) if answers.trace.path else None,
        "truth": str(answers.truth.path),
        "model": spec.label,
        "kernel": playback.kernel,
        "events": answers.rows.height,
        "exact": False,
        "walks": walks.counts(),
        "objects": {},
        "links": {"moments": 0, "equal": 0},
        "vmas": {},
        "moments": [],
        "anomalies": {kind: n["count"] for kind, n in playback.summary["anomalies"].items()},
        "first_disagreement": None,
    }
    disagreements = list(walks.disagreements)
    if linked:
        objects = compare_objects(answers, playback)
        links, links_off = compare_links(answers, playback)
        snapshots, snapshots_off = compare_snapshots(answers, playback)
        reports, reports_off = compare_reports(answers, playback)
        disagreements += [*reports_off, *snapshots_off, *links_off, *objects.disagreements]
        summary["objects"] = objects.counts
        summary["links"] = {"moments": len(links), "equal": sum(links)}
        summary["vmas"] = {**snapshots, **reports}
        summary["moments"] = [
            {"name": moment.name, "row": moment.row}
            | ({"live": objects.live[i]} if objects.live else {})
            | ({"links_equal": links[i]} if links else {})
            for i, moment in enumerate(answers.moments)
        ]
    else:
        summary["vmas"] = {"snapshots": 0, "equal": 0}
    last = answers.rows.height
    disagreements.sort(key=lambda found: last if found.row is None else found.row)
    summary["exact"] = not disagreements
    if disagreements:
        summary["first_disagreement"] = describe(disagreements[0], answers, playback)
    watched = answers.reports.hstack(playback.watched.rename({"start": "got", "end": "got_end"}))
    return Check(summary, walks.frame, watched, disagreements)
