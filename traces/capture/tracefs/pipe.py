# SPDX-License-Identifier: GPL-2.0-only
"""What an instance of tracefs records, read while it runs, and its text afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rmapreplay.traces.capture.tracefs.sideband import Sideband
from rmapreplay.traces.importers.base import CHUNK_BYTES

_READ_BYTES: Final = 1 << 16
_WAIT_MS: Final = 100
_TIME: Final = re.compile(rb"^.{16}-\d+ .*? (\d+)\.(\d{6}): ", re.MULTILINE)
_AHEAD_NS: Final = 1_000_000


class PipeReader:
    """A thread that empties a trace_pipe into a file, so that a run may be longer than the buffer
    is large; and the buffers of perf's records by the way.

    Attributes:
        error: why it gave up; None: it has not.
    """

    def __init__(self, pipe: Path, file: Path, sideband: Sideband | None) -> None:
        self.error: OSError | None = None
        self._file = file
        self._sideband = sideband
        self._pipe = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trace_pipe", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read what is left, nothing being recorded any more, and end."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        # Readable is what is so full that it should be read.
        waiting = select.poll()
        waiting.register(self._pipe, select.POLLIN)
        try:
            with self._file.open("wb", buffering=CHUNK_BYTES) as file:
                while True:
                    ending = self._ending.is_set()
                    with contextlib.suppress(BlockingIOError):
                        while text := os.read(self._pipe, _READ_BYTES):
                            file.write(text)
                            self._drain_sideband()
                    self._drain_sideband()
                    if ending:
                        return
                    waiting.poll(_WAIT_MS)
        except OSError as error:
            self.error = error
        finally:
            os.close(self._pipe)

    def _drain_sideband(self) -> None:
        if self._sideband:
            self._sideband.drain()


class TraceText:
    """The text of a trace_pipe, with perf's records among it: each comes at least a little before
    what its task did next. See importers.base.TextSource."""

    def __init__(self, file: Path, sideband: Sideband | None) -> None:
        self._file = file
        self._sideband = sideband

    @property
    def name(self) -> str:
        return self._file.name

    @property
    def place(self) -> str:
        return "the trace of this run"

    def chunks(self) -> Iterator[bytes]:
        records = self._sideband.lines() if self._sideband else iter(())
        held = next(records, None)
        head = b"# tracer: nop\n"
        carry = b""
        with self._file.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                text, newline, rest = (carry + chunk).rpartition(b"\n")
                carry = rest
                before: list[bytes] = []
                until = _last_time(text)
                while held and until is not None and held[0] <= until + _AHEAD_NS:
                    before.append(held[1])
                    held = next(records, None)
                yield head + b"".join(before) + text + newline
                head = b""
        yield carry


def _last_time(text: bytes) -> int | None:
    """In ns, of the last line that has one in seconds."""
    for line in reversed(text[-2000:].splitlines()):
        if found := _TIME.match(line):
            return int(found[1]) * 10**9 + int(found[2]) * 1000
    return None
