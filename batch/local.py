# SPDX-License-Identifier: GPL-2.0-only
"""Executes tasks in processes of this machine, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rmapreplay.batch.execute import Children, execute
from rmapreplay.batch.tasks import Finished, Task
from rmapreplay.traces.places import fetch, only_in_this_process


def run_here(
    tasks: Sequence[Task], jobs: int, directory: Callable[[Task], Path]
) -> Generator[Finished]:
    """Do the tasks, `jobs` at a time, and yield each as it ends. If the caller stops, or is
    interrupted, what is at work is ended.

    Args:
        directory: makes an empty one for a task.
    """
    children = Children()

    def do(task: Task) -> Finished:
        here = directory(task)
        place = None
        if only_in_this_process(task.trace.place):
            place = here / f"trace{Path(task.trace.place).suffix}"
            with place.open("wb") as file:
                fetch(task.trace.place, file)
        return execute(task, here, place=str(place) if place else None, children=children)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(do, task) for task in tasks]):
                yield future.result()
        finally:
            children.kill()
            pool.shutdown(wait=True, cancel_futures=True)
