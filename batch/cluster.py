# SPDX-License-Identifier: GPL-2.0-only
"""Executes tasks on the workers of a dask scheduler.

No file system is shared: a trace or a model that only this machine has goes with its task, and the
tables come back as bytes. A task whose worker is lost is done again by another.
"""

from __future__ import annotations

import io
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.batch.execute import execute
from rmapreplay.batch.tasks import Failure, Finished, Task
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.places import fetch, local_path, only_in_this_process

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS: Final = 20
"""How long to wait for the scheduler, and then for its first worker."""

_AHEAD: Final = 2  # tasks given to the cluster for each thread of its workers


@dataclass(frozen=True)
class Parcel:
    """A task as it travels, with the content of the files that a worker cannot read."""

    task: Task
    trace: bytes | None
    model: bytes | None


@dataclass(frozen=True)
class Reply:
    """What comes back."""

    outcome: dict[str, Any] | Failure
    files: dict[str, bytes]
    timing: dict[str, Any]


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """A client of the scheduler at `tcp://host:port`, or of one with N workers of its own, each a
    process of this machine, for `local:N`. Raises RmapReplayError if it cannot be had."""
    local = re.fullmatch(r"local:([1-9]\d*)", address)
    if not local and "://" not in address:
        raise RmapReplayError(f"cluster {address}: neither tcp://HOST:PORT nor local:N")
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise RmapReplayError(
            f"cluster {address}: needs dask.distributed (pip install 'rmapreplay[cluster]')"
        ) from error
    # A worker that is lost is no news, as others do its tasks; all else is told as an error.
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)
    if local:
        with (
            LocalCluster(
                n_workers=int(local[1]),
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise RmapReplayError(f"cluster {address}: cannot be reached") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise RmapReplayError(f"cluster {address}: has no workers") from error
        yield client


def run_on(
    client: Client, tasks: Sequence[Task], directory: Callable[[Task], Path]
) -> Generator[Finished]:
    """Do the tasks on the workers, and yield each as it ends. Raises RmapReplayError if the
    scheduler is lost.

    Args:
        directory: makes an empty one for what comes back of a task.
    """
    from distributed import as_completed

    # Of a parcel with a trace in it; there are only a few at a time.
    warnings.filterwarnings("ignore", message="Sending large graph")
    waiting = list(reversed(tasks))
    under_way: dict[Future, Task] = {}
    ended = as_completed()
    unsent: list[Finished] = []

    def send() -> None:
        with _asking_the_scheduler():
            room = _AHEAD * max(1, sum(client.nthreads().values()))
        while waiting and len(under_way) < room:
            task = waiting.pop()
            parcel = _pack(task)
            if isinstance(parcel, Finished):
                unsent.append(parcel)
                continue
            with _asking_the_scheduler():
                future = client.submit(replay_parcel, parcel, pure=False)
                under_way[future] = task
                ended.add(future)

    send()
    while under_way or unsent:
        while unsent:
            yield unsent.pop()
        if under_way:
            with _asking_the_scheduler():
                future = next(ended)
            finished = _take(future, under_way.pop(future), directory)
            future.release()
            yield finished
        send()


@contextmanager
def _asking_the_scheduler() -> Iterator[None]:
    """Whatever the client cannot do, it is because the scheduler is not there any more."""
    try:
        yield
    except Exception as error:
        raise RmapReplayError(
            "the scheduler of the cluster was lost; what is finished is kept, and the same command "
            "goes on"
        ) from error


def replay_parcel(parcel: Parcel) -> Reply:
    """Do a task, on a worker."""
    from distributed import get_worker

    with tempfile.TemporaryDirectory(prefix="rmapreplay-batch-") as scratch:
        task = parcel.task
        place = model_file = None
        if parcel.trace is not None:
            place = Path(scratch) / f"trace{Path(task.trace.place).suffix}"
            place.write_bytes(parcel.trace)
        if parcel.model is not None:
            assert task.model.file is not None
            model_file = Path(scratch) / task.model.file.name
            model_file.write_bytes(parcel.model)
        directory = Path(scratch) / "tables"
        directory.mkdir()
        finished = execute(
            task, directory, place=str(place) if place else None, model_file=model_file
        )
        files = {table: file.read_bytes() for table, file in finished.files.items()}
    timing = {**finished.timing, "worker": get_worker().address}
    return Reply(finished.outcome, files, timing)


def _pack(task: Task) -> Parcel | Finished:
    """A task as it travels; or that it failed, as a file has gone."""
    place = task.trace.place
    try:
        trace = None
        if path := local_path(place):
            trace = path.read_bytes()
        elif only_in_this_process(place):
            content = io.BytesIO()
            fetch(place, content)
            trace = content.getvalue()
        model = None if task.model.file is None else task.model.file.read_bytes()
        return Parcel(task, trace, model)
    except (OSError, RmapReplayError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Finished(task, Failure(*task.key, "RmapReplayError", str(reason)), {}, {})


def _take(future: Future, task: Task, directory: Callable[[Task], Path]) -> Finished:
    from distributed import KilledWorker

    with _asking_the_scheduler():
        error = future.exception()
        if isinstance(error, CancelledError):
            raise error
        reply: Reply | None = None if error else future.result()
    if reply is None:
        # Else it is of the worker's surroundings: no such package, no room.
        lost = isinstance(error, KilledWorker)
        kind = "Crash" if lost else type(error).__name__
        told = "the worker that did it was lost, again and again" if lost else str(error)
        return Finished(task, Failure(*task.key, kind, " ".join(told.split())), {}, {})
    here = directory(task)
    files = {}
    for table, content in reply.files.items():
        files[table] = here / f"{table}.parquet"
        files[table].write_bytes(content)
    return Finished(task, reply.outcome, files, reply.timing, here)
