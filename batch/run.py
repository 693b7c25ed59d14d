# SPDX-License-Identifier: GPL-2.0-only
"""A batch, from the corpus to the manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmapreplay.replay import DEFAULT_WALKS

if TYPE_CHECKING:
    from rmapreplay.batch.corpus import Source
    from rmapreplay.batch.dataset import BatchResult
    from rmapreplay.batch.store import Store
    from rmapreplay.batch.tasks import Failure, Finished, Model, Task, TraceFile


@dataclass(frozen=True)
class Stage:
    """How far a batch is.

    Attributes:
        name: "hashing" the traces, or "replaying".
        done: traces hashed, or tasks ended, in this run.
        total: of how many.
        failed: tasks that failed.
        bytes_done: of the traces of these tasks, a measure of the work; 0 while hashing.
        bytes_total: of all tasks to be done.
    """

    name: str
    done: int
    total: int
    failed: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


Progress = Callable[[Stage], None]


def batch(
    corpus: str | Path | Sequence[str | Path],
    models: str | Sequence[str],
    *,
    out: str | Path,
    walks: str = DEFAULT_WALKS,
    jobs: int | None = None,
    cluster: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> BatchResult:
    """Replay every trace of a corpus under every model, each pair in a process of its own.

    A pair that fails takes no other with it: BatchResult.failed says which and why. Results that
    are in `out` already, of the same traces, models, parameters and version, are not made again, so
    that the same call goes on with a batch that was interrupted. The files but timings.jsonl are
    the same, byte for byte, wherever and in whatever order the pairs are replayed.

    Args:
        corpus: directories, traces, globs, lists (`*.txt`), or URLs of these (docs/batch.md).
        models: specs, as `--model` takes them, or one text with commas between them.
        out: a directory for the results; made if it is not there.
        walks: when walks happen beside those recorded, as for replay().
        jobs: pairs at a time on this machine; default: as many as it has CPUs.
        cluster: instead, the address of a dask scheduler, or `local:N` for N workers.
        force: replace results in `out`.
        progress: called with how far it is.

    Raises RmapReplayError if the arguments are not right, there are no traces, `out` holds results
    of something else, or the cluster cannot be reached; ModelError if there is no such model.
    """
    from rmapreplay.batch.corpus import find_traces
    from rmapreplay.batch.dataset import BatchResult
    from rmapreplay.batch.program import host, program
    from rmapreplay.batch.store import Store
    from rmapreplay.batch.tasks import Failure, Task, parse_models
    from rmapreplay.replay.engine import check_walks
    from rmapreplay.replay.specs import split_specs
    from rmapreplay.traces.errors import RmapReplayError

    if jobs is not None and cluster is not None:
        raise RmapReplayError("a batch has jobs, or a cluster, not both")
    if jobs is not None and jobs < 1:
        raise RmapReplayError(f"jobs {jobs}: must be at least 1")
    check_walks(walks)
    parsed = parse_models(split_specs(models) if isinstance(models, str) else models)
    out = Path(out)
    given = [corpus] if isinstance(corpus, str | Path) else corpus
    sources = find_traces(given, apart_from=out)
    jobs = jobs or len(os.sched_getaffinity(0))
    tell = progress or (lambda _: None)
    with _executor(cluster, jobs) as run, Store(out, force=force) as store:
        traces, failed = _hash(sources, parsed, tell)
        tasks = [Task(trace, model, walks, program()) for trace in traces for model in parsed]
        asked = [(source.name, model.label) for source in sources for model in parsed]
        records = store.reuse(tasks, asked)
        reused = len(records)
        # The longest first: at the end none is to wait for one that began late.
        todo = sorted(
            (task for task in tasks if task.key not in records), key=lambda t: -t.trace.bytes
        )
        began = time.time()
        executor = cluster or f"jobs {jobs}"
        store.note(
            {
                "run": began,
                "executor": executor,
                "host": host(),
                "tasks": len(todo),
                "reused": reused,
                "places": {source.name: source.place for source in sources},
            }
        )
        with closing(run(todo, store)) as running:
            for finished in _told(running, todo, len(failed), tell):
                # Before the result is kept: of what is kept, the time is always known.
                store.note({**_named(finished), **finished.timing})
                store.keep(finished)
                if isinstance(finished.outcome, Failure):
                    failed.append(finished.outcome)
                else:
                    records[finished.task.key] = finished.outcome
        store.note({"ended": time.time(), "run": began})
        about = _about(parsed, traces, records, walks)
        manifest = store.conclude(about, list(records.values()), failed)
    done = sum(task.key in records for task in todo)
    return BatchResult(out, manifest, done=done, reused=reused)


Run = Callable[["Sequence[Task]", "Store"], "Generator[Finished]"]


@contextmanager
def _executor(cluster: str | None, jobs: int) -> Iterator[Run]:
    """What does tasks, and yields them as they end."""
    if cluster is None:
        from rmapreplay.batch.local import run_here

        yield lambda tasks, store: run_here(tasks, jobs, store.new_directory)
        return
    from rmapreplay.batch.cluster import connect, run_on

    with connect(cluster) as client:
        yield lambda tasks, store: run_on(client, tasks, store.new_directory)


def _hash(
    sources: Sequence[Source], models: Sequence[Model], tell: Progress
) -> tuple[list[TraceFile], list[Failure]]:
    """The traces that can be read; and of the others, a failure under each model."""
    from rmapreplay.batch.corpus import digest
    from rmapreplay.batch.tasks import Failure, TraceFile
    from rmapreplay.traces.errors import RmapReplayError

    traces, failed = [], []
    for number, source in enumerate(sources):
        tell(Stage("hashing", number, len(sources)))
        try:
            sha256, length = digest(source.place)
        except RmapReplayError as error:
            kind, message = type(error).__name__, str(error)
            failed += [Failure(source.name, model.label, kind, message) for model in models]
        else:
            traces.append(TraceFile(source.name, source.place, sha256, length))
    return traces, failed


def _told(
    running: Iterator[Finished], todo: Sequence[Task], failed: int, tell: Progress
) -> Iterator[Finished]:
    """What is finished, and with each how far that is."""
    from rmapreplay.batch.tasks import Failure

    total, done, number = sum(task.trace.bytes for task in todo), 0, 0
    tell(Stage("replaying", number, len(todo), failed, done, total))
    for finished in running:
        yield finished
        number += 1
        done += finished.task.trace.bytes
        failed += isinstance(finished.outcome, Failure)
        tell(Stage("replaying", number, len(todo), failed, done, total))


def _named(finished: Finished) -> dict[str, Any]:
    trace, model = finished.task.key
    return {"trace": trace, "model": model}


def _about(
    models: Sequence[Model],
    traces: Sequence[TraceFile],
    records: dict[Any, dict[str, Any]],
    walks: str,
) -> dict[str, Any]:
    """What the manifest begins with: all that went in."""
    from rmapreplay.batch.program import program

    replayed = {record["trace"]["name"]: record for record in records.values()}

    def of(trace: TraceFile) -> dict[str, Any]:
        record = replayed.get(trace.name)
        return {
            "name": trace.name,
            "sha256": trace.sha256,
            "bytes": trace.bytes,
            "events": record["events"] if record else None,
            **(record["about"] if record else {}),
        }

    return {
        "format": 1,
        "program": program(),
        "parameters": {"walks": walks},
        "models": [{"label": model.label, "sha256": model.sha256} for model in models],
        "traces": [of(trace) for trace in sorted(traces, key=lambda trace: trace.name)],
    }
