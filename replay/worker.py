# SPDX-License-Identifier: GPL-2.0-only
"""A process that replays one model from a shared library, for isolation.py.

The job comes as JSON on standard input. What it finds goes through a pipe, as lines of JSON: a
table's rows (the line says how many bytes of Arrow follow), the summary, and at last that it is
done; or an error. What the library prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from rmapreplay import _native
from rmapreplay.replay.engine import ModelRun
from rmapreplay.replay.isolation import CALLBACK_AT, SHARED_BYTES, error_message
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.reader import read_trace

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Trace:
    """The trace that the parent told of."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.path = Path(told["path"]) if "path" in told else None
        self.rows: int = told["rows"]
        self.metadata: Mapping[str, Any] = told["metadata"]
        self._canonical: str | None = told.get("canonical")

    def batches(self, batch_size: int = 1 << 16) -> Iterator[pa.RecordBatch]:
        if self.path is not None:
            yield from read_trace(self.path).batches(batch_size)
        elif self._canonical is not None:
            with pa.ipc.open_file(self._canonical) as file:
                for i in range(file.num_record_batches):
                    yield file.get_batch(i)


class _Pipe:
    """Sends to the parent."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe

    def send(self, message: Mapping[str, Any], payload: bytes | pa.Buffer = b"") -> None:
        self._pipe.write(json.dumps(message).encode() + b"\n")
        self._pipe.write(payload)
        self._pipe.flush()

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        buffer = pa.BufferOutputStream()
        with pa.ipc.new_stream(buffer, rows.schema) as stream:
            stream.write_batch(rows)
        payload = buffer.getvalue()
        self.send({"table": table, "bytes": payload.size}, payload)


def replay(job: Mapping[str, Any], pipe: _Pipe) -> None:
    """Do the job. Raises RmapReplayError of any kind."""
    shared = mmap.mmap(job["shared"], SHARED_BYTES)
    library = _native.CModel(job["library"], memoryview(shared)[CALLBACK_AT:])
    spec = ModelSpec(job["label"], job["label"], job["params"], library)
    trace = _Trace(job["trace"])
    run = ModelRun(
        spec, trace, job["walks"], job["visits"], pipe if job["tables"] else None, job["verify"]
    )
    run.native.share_row(shared)
    for batch in trace.batches(job["batch_size"]):
        run.feed(batch)
    run.finish()
    pipe.send({"summary": run.summary()})


def main() -> None:
    job = json.load(sys.stdin)
    # The library may loop for ever, so that only a signal that cannot be caught ends it.
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != job["parent"]:
        return
    os.set_inheritable(job["pipe"], False)
    pipe = _Pipe(os.fdopen(job["pipe"], "wb"))
    try:
        # The model is gone when this returns, so that a crash in its exit() is seen too.
        replay(job, pipe)
    except RmapReplayError as error:
        pipe.send(error_message(error))
    else:
        pipe.send({"done": True})
    # What destructors of the library would do at exit is nobody's business any more.
    libc.fflush(None)
    os._exit(0)


if __name__ == "__main__":
    main()
