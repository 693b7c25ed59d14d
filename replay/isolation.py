# SPDX-License-Identifier: GPL-2.0-only
"""Replays a model from a shared library in a process of its own, since it may crash."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import pyarrow as pa

from rmapreplay import _native
from rmapreplay.traces.errors import (
    InvariantError,
    ModelError,
    RmapReplayError,
    TraceFormatError,
)

if TYPE_CHECKING:
    from rmapreplay.replay.engine import Sink, Trace, Verify
    from rmapreplay.replay.specs import ModelSpec

NO_ROW: Final = (1 << 64) - 1
"""What stands for a row before the first."""

# What worker and parent share, so that it outlives a crash: the row being applied, and the callback
# that the model is in (a place in _native.C_MODEL_CALLBACKS).
_SHARED: Final = struct.Struct("=QI")
CALLBACK_AT: Final = 8
SHARED_BYTES: Final = mmap.PAGESIZE


@contextmanager
def trace_for_workers(trace: Trace) -> Iterator[dict[str, Any]]:
    """What a worker is told of a trace. One that has no path is written to a temporary file, which
    is there until the block ends."""
    told = {"rows": trace.rows, "metadata": dict(trace.metadata)}
    if trace.path is not None:
        yield {"path": str(trace.path.absolute()), **told}
        return
    with tempfile.TemporaryDirectory(prefix="rmapreplay-") as directory:
        path = Path(directory) / "canonical.arrow"
        with ExitStack() as stack:
            writer: pa.RecordBatchFileWriter | None = None
            for batch in trace.batches():
                if writer is None:
                    writer = stack.enter_context(pa.ipc.new_file(path, batch.schema))
                writer.write_batch(batch)
        yield {"canonical": str(path) if writer else None, **told}


class WorkerRun:
    """One model's replay in a worker (worker.py), whose tables come through a pipe."""

    def __init__(
        self,
        spec: ModelSpec,
        trace: dict[str, Any],
        *,
        walks: str,
        visits: bool,
        verify: Verify,
        batch_size: int,
        sink: Sink | None,
    ) -> None:
        self.spec = spec
        self._sink = sink
        self._rows: int = trace["rows"]
        self._job = {
            "label": spec.label,
            "library": str(spec.source.absolute()),
            "params": dict(spec.params),
            "trace": trace,
            "walks": walks,
            "visits": visits,
            "verify": verify,
            "batch_size": batch_size,
            "tables": sink is not None,
            "parent": os.getpid(),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._unwanted = False
        self._summary: dict[str, Any] | None = None
        self._fd = os.memfd_create("rmapreplay-worker")
        os.ftruncate(self._fd, SHARED_BYTES)
        self._shared = mmap.mmap(self._fd, SHARED_BYTES)
        _SHARED.pack_into(self._shared, 0, NO_ROW, 0)

    @property
    def row(self) -> int | None:
        """The row of the trace that the worker is at."""
        row = int(_SHARED.unpack_from(self._shared)[0])
        return None if row == NO_ROW else row

    def run(self) -> None:
        """Replay all of the trace. Raises ModelError or InvariantError, also if the process is
        killed or exits in the middle, and TraceFormatError."""
        with ExitStack() as stack:
            ours, theirs = os.pipe()
            pipe = stack.enter_context(os.fdopen(ours, "rb"))
            try:
                process = self._start(theirs)
            finally:
                os.close(theirs)
            stack.callback(process.wait)
            stack.callback(process.kill)
            done = self._receive(pipe)
            status = process.wait()
        if not done and not self._unwanted:
            raise self._crash(status)

    def kill(self) -> None:
        """End it now, wherever it is."""
        self._unwanted = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Let go of the shared memory, after run()."""
        self._shared.close()
        os.close(self._fd)

    def summary(self) -> dict[str, Any]:
        assert self._summary is not None
        return self._summary

    def _start(self, pipe: int) -> subprocess.Popen[bytes]:
        job = {**self._job, "pipe": pipe, "shared": self._fd}
        # A session of its own: Ctrl-C is for the parent, which then kills it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rmapreplay.replay.worker"],
            stdin=subprocess.PIPE,
            stdout=2,  # the result alone goes to standard output
            pass_fds=(pipe, self._fd),
            start_new_session=True,
        )
        if self._unwanted:
            self._process.kill()
        stdin = self._process.stdin
        assert stdin is not None
        # If it is gone, run() will say so.
        with _broken_pipes_are_errors(), contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(json.dumps(job).encode())
        return self._process

    def _receive(self, pipe: BinaryIO) -> bool:
        """Take what the worker sends; whether it came to its end."""
        while line := pipe.readline():
            message = json.loads(line)
            if "table" in message:
                payload = pipe.read(message["bytes"])
                if len(payload) < message["bytes"]:
                    return False
                if self._sink is not None:
                    for batch in pa.ipc.open_stream(payload):
                        self._sink.write(self.spec.label, message["table"], batch)
            elif "error" in message:
                raise _as_error(message)
            elif "summary" in message:
                self._summary = message["summary"]
            else:
                return True
        return False

    def _crash(self, status: int) -> ModelError:
        row, callback = _SHARED.unpack_from(self._shared)
        if callback:
            where = f" in {_native.C_MODEL_CALLBACKS[callback]}()"
        elif row == NO_ROW:
            where = " while it was loaded"
        else:
            where = ""
        if status < 0:
            why = signal.strsignal(-status) or "killed"
            name = signal.Signals(-status).name if -status in set(signal.Signals) else -status
            reason = f"{why} ({name}){where}"
        else:
            reason = f"its process exited with status {status}{where}"
        event = None if row == NO_ROW else min(row, max(0, self._rows - 1))
        return ModelError(self.spec.label, reason, event=event)


def error_message(error: RmapReplayError) -> dict[str, Any]:
    """An error as a worker sends it."""
    told = {name: value for name, value in vars(error).items() if name != "path"}
    if path := getattr(error, "path", None):
        told["path"] = str(path)
    return {"error": type(error).__name__, **told, "text": str(error)}


def _as_error(message: dict[str, Any]) -> RmapReplayError:
    kind = message["error"]
    if kind in ("ModelError", "InvariantError"):
        model_error = InvariantError if kind == "InvariantError" else ModelError
        return model_error(message["model"], message["reason"], event=message["event"])
    if kind == "TraceFormatError":
        return TraceFormatError(
            message["reason"],
            path=message.get("path"),
            row=message["row"],
            column=message["column"],
        )
    return RmapReplayError(message["text"])


@contextmanager
def _broken_pipes_are_errors() -> Iterator[None]:
    """And no signals, which may end the program (cli/app.py), in this thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
    try:
        yield
    finally:
        signal.sigtimedwait([signal.SIGPIPE], 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPIPE])
