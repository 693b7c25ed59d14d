# SPDX-License-Identifier: GPL-2.0-only
"""The results that a report is of: a batch's or one run's, in one form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.batch.summary import values
from rmapreplay.batch.tasks import Failure
from rmapreplay.traces.errors import RmapReplayError

if TYPE_CHECKING:
    import polars as pl

NOT_RMAP: Final = "vm_area_struct"
"""Objects of the machine, which every model needs alike."""

_COSTS: Final = ("links", "locks", "refcounts")
_FORK: Final = ("fork", "dup_mmap")  # the copying has rows of its own in some traces


class Numbers:
    """The numbers of one trace under one model, as summary.parquet has them."""

    def __init__(self, rows: Iterator[tuple[str, str, str, float | None]]) -> None:
        self._values: dict[tuple[str, str, str], float | None] = {}
        for group, name, stat, value in rows:
            # A counter may be called as the sum that it is in, which comes first.
            self._values.setdefault((group, name, stat), value)

    def get(self, group: str, name: str, stat: str) -> float | None:
        return self._values.get((group, name, stat))

    def total(self, name: str) -> float:
        """walks, visits, hits, useless or misses."""
        return self.get("walks", name, "total") or 0.0

    def of_walks(self, metric: str) -> float | None:
        """A metric of walks, summed over all of them; None where it was not counted."""
        if not self.total("walks"):
            return 0.0
        mean = self.get("walk", metric, "mean")
        return None if mean is None else mean * self.total("walks")

    def kinds(self) -> list[str]:
        """The model's own kinds of objects."""
        return [name for name in self.names("object") if name != NOT_RMAP]

    def size(self, kind: str) -> float:
        """Bytes of one object, 0 where there was none."""
        peak = self.get("object", kind, "peak")
        return (self.get("object", kind, "bytes_peak") or 0.0) / peak if peak else 0.0

    def bytes_at_peak(self) -> float:
        """Of the model's own objects, each kind at its own peak."""
        return sum(self.get("object", kind, "bytes_peak") or 0.0 for kind in self.kinds())

    def names(self, group: str) -> list[str]:
        return list(dict.fromkeys(name for of, name, _ in self._values if of == group))

    def operation(self, name: str) -> dict[str, float]:
        """calls, objects (allocated, of the model's own kinds), links, locks and refcounts."""
        found = {what: self.get("operation", name, what) or 0.0 for what in ("calls", *_COSTS)}
        made = (self.get("operation", name, f"{kind}_allocated") for kind in self.kinds())
        found["objects"] = sum(n or 0.0 for n in made)
        return found

    def forks(self) -> dict[str, float]:
        """What `fork` and `dup_mmap` cost together, over the calls of `fork`."""
        fork, copying = map(self.operation, _FORK)
        return {what: n + (copying[what] if what != "calls" else 0.0) for what, n in fork.items()}

    def summary(self) -> dict[str, Any]:
        """As far as an estimate needs it, a model's part of a summary."""
        walk: dict[str, dict[str, float | None]] = {}
        operations: dict[str, dict[str, Any]] = {}
        for (group, name, stat), value in self._values.items():
            if group == "walk":
                walk.setdefault(name, {})[stat] = value
            elif group == "operation":
                operations.setdefault(name, {})[stat] = value
        kinds = self.names("object")
        return {
            "walks": self.total("walks"),
            "walk": walk,
            "operations": {name: _nested(told, kinds) for name, told in operations.items()},
        }


def _nested(told: Mapping[str, float], kinds: Sequence[str]) -> dict[str, Any]:
    """The numbers of an operation, as the summary nests them. A counter that is called as a sum is
    all that the sum is of."""
    objects = {
        what: {kind: told.get(f"{kind}_{what}") or 0.0 for kind in kinds}
        for what in ("allocated", "freed")
    }
    return {
        "calls": told.get("calls") or 0.0,
        "costs": {cost: told.get(cost) or 0.0 for cost in _COSTS},
        "counters": {name: n or 0.0 for name, n in told.items() if name != "calls"},
        **objects,
    }


@dataclass(frozen=True)
class TraceInfo:
    """A trace of the results.

    Attributes:
        name: as the results call it.
        short: its last part, where no other trace has the same.
        place: the path or URL that it was read from, if that is told.
        sha256: what was there, if that is told.
        events: rows replayed; None if no model finished.
        kernel, description: as the trace's metadata say.
    """

    name: str
    short: str
    place: str | None
    sha256: str | None
    events: int | None
    kernel: str | None
    description: str | None


@dataclass(frozen=True)
class Results:
    """Results of some traces under some models.

    Attributes:
        directory: where they are.
        traces, models: in the order to show them in; models by label.
        numbers: by name of the trace and label; those that failed have none.
        failed: what has no result, and why.
        walks_policy: when walks happened.
        made_by: what is known of the program, models and their files, by name.
        tables: walks, operations, memory and misses, lazy, each with columns trace and model.
        walks_file: the file that has the walks of a trace (its name) under a model, perhaps among
            others.
    """

    directory: Path
    traces: list[TraceInfo]
    models: list[str]
    numbers: Mapping[tuple[str, str], Numbers]
    failed: Sequence[Failure]
    walks_policy: str
    made_by: Mapping[str, str]
    tables: Mapping[str, pl.LazyFrame]
    walks_file: Callable[[str, str], Path]

    def common(self) -> list[TraceInfo]:
        """The traces that every model finished."""
        return [
            trace
            for trace in self.traces
            if all((trace.name, model) in self.numbers for model in self.models)
        ]

    def walks(self) -> int:
        """Rows of the table of walks."""
        return int(sum(numbers.total("walks") for numbers in self.numbers.values()))


def read_results(directory: str | Path) -> Results:
    """Open what `batch` or `run --out` left in a directory. Raises RmapReplayError if there is
    neither."""
    directory = Path(directory)
    if (directory / "manifest.json").exists():
        return _of_batch(directory)
    if (directory / "summary.json").exists():
        return _of_run(directory)
    why = (
        f"has neither a manifest.json, as batch -o {directory} leaves it at its end, nor a "
        f"summary.json, as run --out {directory} does"
    )
    if not directory.is_dir():
        why = "is no directory" if directory.exists() else "there is no such directory"
    raise RmapReplayError(f"{directory}: no results to report: {why}")


def _of_batch(directory: Path) -> Results:
    from rmapreplay.batch.dataset import read_batch

    batch = read_batch(directory)
    manifest = batch.manifest
    try:
        frame = batch.summary.collect()
        rows: dict[tuple[str, str], list[Any]] = {}
        for trace, model, *row in frame.iter_rows():
            if row[0] != "failure":
                rows.setdefault((trace, model), []).append(tuple(row))
        models = [told["label"] for told in manifest["models"]]
        traces = {told["name"]: told for told in manifest["traces"]}
        for failure in batch.failed:
            traces.setdefault(failure.trace, {"name": failure.trace})
        places = _places(directory)
        paths = {
            (task["trace"], task["model"]): directory / task["files"]["walks"]["path"]
            for task in manifest["tasks"]
        }
        program = manifest["program"]
        return Results(
            directory,
            _traces([traces[name] for name in sorted(traces)], places),
            models,
            {key: Numbers(iter(found)) for key, found in rows.items()},
            batch.failed,
            manifest["parameters"]["walks"],
            {
                "program": f"{program['name']} {program['version']}",
                "build": program["build"],
                "pyarrow": program["pyarrow"],
                **{
                    f"file of {told['label']}": told["sha256"]
                    for told in manifest["models"]
                    if told["sha256"]
                },
                "summary.parquet": manifest["summary"]["sha256"],
            },
            {name: getattr(batch, name) for name in ("walks", "operations", "memory", "misses")},
            lambda trace, model: paths[trace, model],
        )
    except (KeyError, TypeError, OSError) as error:
        raise _damaged(directory, error) from error


def _places(directory: Path) -> dict[str, str]:
    """Where each trace was read from, by the last run of the batch that did."""
    places: dict[str, str] = {}
    try:
        lines = (directory / "timings.jsonl").read_text().splitlines()
    except OSError:
        return places
    for line in lines:
        try:
            places.update(json.loads(line).get("places", {}))
        except ValueError:  # cut short when the program was stopped
            continue
    return places


def _of_run(directory: Path) -> Results:
    import polars as pl

    try:
        summary = json.loads((directory / "summary.json").read_text())
        path = summary["trace"]["path"]
        name = Path(path).stem if path else "trace"
        metadata = summary["trace"]["metadata"]
        told = {
            "name": name,
            "events": summary["events"],
            **{key: metadata.get(key) for key in ("kernel", "description")},
        }
        failed = [
            Failure(name, label, "InvariantError" if why["invariant"] else "ModelError",
                    why["message"], why["event"])
            for label, why in summary["failed"].items()
        ]  # fmt: skip
        return Results(
            directory,
            _traces([told], {name: path} if path else {}),
            [*summary["models"], *summary["failed"]],
            {
                (name, label): Numbers(values({"events": summary["events"], "summary": found}))
                for label, found in summary["models"].items()
            },
            failed,
            summary["walk_policy"],
            {},
            {
                table: pl.scan_parquet(directory / f"{table}.parquet").with_columns(
                    trace=pl.lit(name)
                )
                for table in ("walks", "operations", "memory", "misses")
            },
            lambda *_: directory / "walks.parquet",
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise _damaged(directory, error) from error


def _traces(told: Sequence[Mapping[str, Any]], places: Mapping[str, str]) -> list[TraceInfo]:
    lasts = [PurePosixPath(each["name"]).name for each in told]
    return [
        TraceInfo(
            each["name"],
            last if lasts.count(last) == 1 else each["name"],
            places.get(each["name"]),
            each.get("sha256"),
            each.get("events"),
            each.get("kernel"),
            each.get("description"),
        )
        for each, last in zip(told, lasts, strict=True)
    ]


def _damaged(directory: Path, error: Exception) -> RmapReplayError:
    what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
    return RmapReplayError(f"{directory}: the results are damaged: {' '.join(what.split())}")
