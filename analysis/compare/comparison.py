# SPDX-License-Identifier: GPL-2.0-only
"""Models side by side over one trace or several: what walks, forks and memory cost under each, and
walk by walk where one does more than another (docs/compare.md)."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rmapreplay.analysis.compare.alignment import WalkSpool, aligned
from rmapreplay.analysis.compare.metrics import add_ratios, metrics_of, total_of
from rmapreplay.analysis.compare.tally import WORST, Tally, distributions
from rmapreplay.analysis.compare.vocabulary import (
    COSTS,
    DEFAULT_BY,
    DEFAULT_METRIC,
    GROUPS,
    REASONS,
)
from rmapreplay.analysis.estimates import CostModel, estimate
from rmapreplay.analysis.processes import comms
from rmapreplay.replay import DEFAULT_WALKS, engine
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.reader import Trace, read_trace

if TYPE_CHECKING:
    from rmapreplay.replay.result import Model

Watch = Callable[[str, int], engine.Progress]
"""Called before each trace with its name and number of rows; returns what is told how far it is."""


@dataclass(frozen=True)
class Failure:
    """A trace that could not be replayed, or a model that failed on it (`model` is None if it was
    the trace itself)."""

    trace: str
    model: str | None
    message: str


@dataclass(frozen=True)
class Comparison:
    """Models side by side. The first one asked for is the reference that ratios and differences are
    to; in a trace on which it failed, the first that did not.

    Attributes:
        models: labels, as asked for.
        walks: when walks happened.
        metric: what the walks are compared by.
        by: what they are grouped by.
        traces: name, path and rows of each trace that was replayed, its `reference`, and `whole`:
            whether all models finished.
        metrics: a row for each trace, model and figure: trace, model, group (walks, walk, object,
            fork, and with a cost model estimate), name, stat, value (f64), ratio (to the reference;
            null if that is 0).
        alignment: a row for each trace and model but the reference: trace, model, reference, walks
            (that both make), alone and lacking (that only this model, or only the reference makes),
            missed_walks, more_walks and more (walks in which it costs more, and by how much in
            sum), fewer_walks and fewer, net, and the sums of both: reference_sum, model_sum.
        groups: the same for each group of walks: `by` says by what, `value` which.
        worst: the ten worst walks of each model and trace, with the command that explains them:
            those in which it costs most above `best`, the best of the others that missed nothing.
            Walks of one mm and kind of mapping that cost the same under every model are told once,
            by the first; `alike` says how many there are.
        failures: what failed.
        summaries: by name of the trace, as rr.replay has them.

    In frames `trace` is its name, and null in totals: rows over all traces that every model
    finished.
    """

    models: list[str]
    walks: str
    metric: str
    by: list[str]
    traces: pl.DataFrame
    metrics: pl.DataFrame
    alignment: pl.DataFrame
    groups: pl.DataFrame
    worst: pl.DataFrame
    failures: list[Failure]
    summaries: dict[str, dict[str, Any]] = field(repr=False)

    @property
    def misses(self) -> int:
        """Mappings that any model missed in any trace."""
        missed = pl.col("trace").is_not_null() & (pl.col("name") == "misses")
        return int(self.metrics.filter(missed)["value"].sum())

    @property
    def worst_of_all(self) -> pl.DataFrame:
        """As `worst`, ten of each model over all traces that every model finished."""
        whole = self.traces.filter("whole")["trace"].to_list()
        worst = self.worst.filter(pl.col("trace").is_in(whole))
        each = [worst.filter(pl.col("model") == label) for label in self.models]
        return pl.concat(
            [
                frame.sort("excess", descending=True, maintain_order=True).head(WORST)
                for frame in each
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """As `--format json` prints it."""

        def part(frame: pl.DataFrame, name: str | None) -> list[dict[str, Any]]:
            return frame.filter(pl.col("trace").eq_missing(pl.lit(name))).drop("trace").to_dicts()

        def of(name: str | None) -> dict[str, Any]:
            frames = {
                "metrics": self.metrics, "alignment": self.alignment, "groups": self.groups,
            }  # fmt: skip
            return {key: part(frame, name) for key, frame in frames.items()}

        return {
            "models": self.models,
            "walk_policy": self.walks,
            "metric": self.metric,
            "by": self.by,
            "traces": [
                {**trace, **of(trace["trace"]), "worst": part(self.worst, trace["trace"])}
                for trace in self.traces.to_dicts()
            ],
            "total": {**of(None), "worst": self.worst_of_all.to_dicts()},
            "failures": [vars(failure) for failure in self.failures],
        }


def compare(
    traces: Trace | str | Path | Sequence[Trace | str | Path],
    models: Model | Sequence[Model],
    *,
    walks: str = DEFAULT_WALKS,
    metric: str = DEFAULT_METRIC,
    by: Sequence[str] = DEFAULT_BY,
    cost_model: CostModel | None = None,
    threads: int | None = None,
    watch: Watch | None = None,
) -> Comparison:
    """Replay traces under models and set these side by side, walk by walk.

    Args:
        traces: traces, or paths of some, or one.
        models: as rr.replay takes them; the first is what the others are held against.
        walks: when walks happen, as rr.replay takes it.
        metric: what is compared walk by walk: visits, useless, steps, lookups, locks or refcounts.
        by: what walks are grouped by: reason (what the visits found), process, mapping, sharers,
            depth (forks since exec), kind, order.
        cost_model: weights to estimate nanoseconds with, of walks and forks.
        threads: models replayed at a time.
        watch: told how far it is.

    Memory is bounded by what lives in a trace's processes, not by how many walks there are: these
    go through temporary files. Traces and models that fail are in `failures`, and take no others
    with them. Raises RmapReplayError if arguments are not right: no such model, or policy.
    """
    given = [traces] if isinstance(traces, Trace | str | Path) else list(traces)
    asked = (
        list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    )
    specs = [ModelSpec.of(model) for model in asked]
    labels = engine.labels_of(specs)
    engine.check_walks(walks)
    check_metric(metric)
    for each in by:
        if each not in GROUPS:
            raise RmapReplayError(f"by '{each}': one of {', '.join(GROUPS)}")
        if each == "reason" and metric not in REASONS:
            raise RmapReplayError(f"by 'reason' goes with {' and '.join(REASONS)}, not {metric}")
    results: list[_Compared] = []
    failures: list[Failure] = []
    for name, trace in zip(_names(given), given, strict=True):
        try:
            opened = trace if isinstance(trace, Trace) else read_trace(trace)
            progress = watch(name, opened.rows) if watch else None
            result = _one(
                name, place_of(trace), opened, specs, walks, metric, by, threads, progress
            )
        except RmapReplayError as error:
            failures.append(Failure(name, None, str(error)))
            continue
        failures += result.failures
        if result.summary["models"]:
            if cost_model:
                result.summary = estimate(result.summary, cost_model)
            results.append(result)
    return _together(labels, walks, metric, list(by), results, failures)


def check_metric(metric: str) -> str:
    """Raises RmapReplayError if walks have no such cost."""
    if metric not in COSTS:
        raise RmapReplayError(f"metric '{metric}': one of {', '.join(COSTS)}")
    return metric


def place_of(trace: Trace | str | Path) -> str:
    """What to type to have that trace."""
    if isinstance(trace, Trace):
        return str(trace.path or trace.url or "in memory")
    return str(trace)


def explain_command(trace: str, walk: int, models: Sequence[str], walks: str) -> str:
    """What to type to have a walk of the first of the models told step by step."""
    command = ["rmapreplay", "explain", trace, "--walk", str(walk)]
    command += ["--model", ",".join(models), "--walks", walks]
    return shlex.join(command)


def replay_walks(
    trace: Trace,
    specs: Sequence[ModelSpec],
    walks: str,
    spool: WalkSpool,
    *,
    threads: int | None = None,
    progress: engine.Progress | None = None,
) -> dict[str, Any]:
    """Replay, with the walks of each model in `spool`; returns the summary."""
    spool.expect([spec.label for spec in specs])
    try:
        return engine.run(trace, specs, walks=walks, threads=threads, sink=spool, progress=progress)
    finally:
        with suppress(OSError):
            spool.close()


# ---- one trace ----


@dataclass
class _Compared:
    """What one trace has shown."""

    name: str
    path: str
    rows: int
    summary: dict[str, Any]
    failures: list[Failure]
    tally: Tally | None = None
    reference: str = ""
    frames: dict[str, pl.DataFrame] = field(default_factory=dict)


def _one(
    name: str,
    path: str,
    trace: Trace,
    specs: Sequence[ModelSpec],
    walks: str,
    metric: str,
    by: Sequence[str],
    threads: int | None,
    progress: engine.Progress | None,
) -> _Compared:
    with tempfile.TemporaryDirectory(prefix="rmapreplay-") as room:
        spool = WalkSpool(Path(room))
        summary = replay_walks(trace, specs, walks, spool, threads=threads, progress=progress)
        failures = [
            Failure(name, label, str(error)) for label, error in engine.errors_of(summary).items()
        ]
        found = _Compared(name, path, trace.rows, summary, failures)
        finished = list(summary["models"])
        if not finished:
            return found
        tally = Tally(finished, metric, by, comms(trace))
        for block in aligned([spool.walks(label) for label in finished]):
            tally.add(block)
    found.tally = tally
    found.reference = finished[0]
    found.frames = {
        "alignment": tally.alignment(),
        "groups": tally.groups(),
        "worst": _explained(tally.worst(), path, walks),
    }
    return found


def _explained(worst: pl.DataFrame, path: str, walks: str) -> pl.DataFrame:
    commands = [
        explain_command(path, walk, [model, best], walks)
        for walk, model, best in worst.select("walk", "model", "best").iter_rows()
    ]
    return worst.with_columns(explain=pl.Series(commands, dtype=pl.String))


def _names(traces: Sequence[Trace | str | Path]) -> list[str]:
    """What traces are called: their file's name, or if several have it, its path."""
    places = [place_of(trace) for trace in traces]
    names = [Path(place).stem for place in places]
    whole = [
        place if names.count(name) > 1 else name for place, name in zip(places, names, strict=True)
    ]
    return [
        f"{name} ({whole[:i].count(name) + 1})" if whole.count(name) > 1 else name
        for i, name in enumerate(whole)
    ]


# ---- all of them ----


def _together(
    labels: list[str],
    walks: str,
    metric: str,
    by: list[str],
    results: list[_Compared],
    failures: list[Failure],
) -> Comparison:
    whole = [result for result in results if len(result.summary["models"]) == len(labels)]
    metrics = [metrics_of(result.name, result.summary["models"]) for result in results]
    frames: dict[str, list[pl.DataFrame]] = {"alignment": [], "groups": [], "worst": []}
    for result in results:
        for key, frame in result.frames.items():
            reference = [] if key == "worst" else [pl.lit(result.reference).alias("reference")]
            frames[key].append(
                frame.select(pl.lit(result.name).alias("trace"), pl.all(), *reference)
            )
    if whole:
        counts: Mapping[str, Any] = {
            label: distributions(
                pl.concat([result.tally.counts(place) for result in whole if result.tally])
            )
            for place, label in enumerate(labels)
        }
        metrics.append(total_of([result.summary["models"] for result in whole], counts))
        names = [result.name for result in whole]
        for key in ("alignment", "groups"):
            frames[key].append(_summed(pl.concat(frames[key]), names))
    empty = pl.DataFrame(schema={"trace": pl.String})
    together = {key: pl.concat(parts) if parts else empty for key, parts in frames.items()}
    return Comparison(
        models=labels,
        walks=walks,
        metric=metric,
        by=by,
        traces=pl.DataFrame(
            [
                {
                    "trace": result.name,
                    "path": result.path,
                    "rows": result.rows,
                    "reference": result.reference,
                    "whole": result in whole,
                }
                for result in results
            ],
            {
                "trace": pl.String,
                "path": pl.String,
                "rows": pl.Int64,
                "reference": pl.String,
                "whole": pl.Boolean,
            },
        ),
        metrics=add_ratios(metrics),
        failures=failures,
        summaries={result.name: result.summary for result in results},
        **together,
    )


def _summed(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    keys = [name for name in ("model", "by", "value", "reference") if name in frame.columns]
    sums = pl.exclude("trace", *keys).sum()
    frame = frame.filter(pl.col("trace").is_in(names))
    if "by" in keys:
        # Process ids of different traces have nothing to do with each other.
        program = pl.col("value").str.replace(r"\[\d+\]$", "")
        frame = frame.with_columns(
            value=pl.when(pl.col("by") == "process").then(program).otherwise("value")
        )
    total = frame.group_by(keys, maintain_order=True).agg(sums)
    return total.select(
        pl.col(name) if name != "trace" else pl.lit(None, pl.String).alias("trace")
        for name in frame.columns
    )
