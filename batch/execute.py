# SPDX-License-Identifier: GPL-2.0-only
"""Does a task in a process of its own, so that no crash reaches another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rmapreplay.batch.tasks import TABLES, Failure, Finished, Task

_RESULT = "result.json"
_LOG = "log"


class Children:
    """The processes that are at work, so that they can be ended when nobody waits any more."""

    def __init__(self) -> None:
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._unwanted = False

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as file:
            # A session of its own: Ctrl-C is for this process, which then ends it.
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "rmapreplay.batch.worker"],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._alive.add(child)
        if self._unwanted:
            child.kill()
        return child

    def forget(self, child: subprocess.Popen[bytes]) -> None:
        self._alive.discard(child)

    def kill(self) -> None:
        """End them, and those still to be started."""
        self._unwanted = True
        for child in list(self._alive):
            child.kill()


def execute(
    task: Task,
    directory: Path,
    *,
    place: str | None = None,
    model_file: Path | None = None,
    children: Children | None = None,
) -> Finished:
    """Do a task.

    Args:
        directory: an empty one, for the tables.
        place: where the trace is to be read, if not where the task says.
        model_file: the file of the model, likewise.
        children: where to keep the process meanwhile.
    """
    children = children or Children()
    job = {
        "identity": task.identity(),
        "place": place or task.trace.place,
        "model_file": str(model_file or task.model.file or ""),
        "directory": str(directory),
        "parent": os.getpid(),
    }
    child = children.start(directory / _LOG)
    try:
        assert child.stdin is not None
        try:
            with child.stdin as stdin:
                stdin.write(json.dumps(job).encode())
        except BrokenPipeError:
            pass  # it is gone, and its status says why
        status = child.wait()
    finally:
        child.kill()
        child.wait()
        children.forget(child)
    if not (directory / _RESULT).exists():
        return Finished(task, _crash(task, status, directory / _LOG), {}, {}, directory)
    result: dict[str, Any] = json.loads((directory / _RESULT).read_text())
    if "failure" in result:
        failure = Failure(*task.key, **result["failure"])
        return Finished(task, failure, {}, result["timing"], directory)
    files = {table: directory / f"{table}.parquet" for table in TABLES}
    return Finished(task, result["record"], files, result["timing"], directory)


def _crash(task: Task, status: int, log: Path) -> Failure:
    if status < 0:
        why = signal.strsignal(-status) or "killed"
        known = -status in set(signal.Signals)
        reason = f"{why} ({signal.Signals(-status).name if known else -status})"
    else:
        reason = f"its process exited with status {status}"
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    return Failure(*task.key, "Crash", f"{reason}: {last}" if last else reason)
