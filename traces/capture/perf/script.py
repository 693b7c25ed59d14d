# SPDX-License-Identifier: GPL-2.0-only
"""The text of a perf.data, by perf script."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.capture.perf.formats import filter_arguments
from rmapreplay.traces.errors import CaptureError

_FILTER: Final = Path(_native.__file__).with_name("_perf_text.so")
_PIPE_BYTES: Final = 1 << 20
_OPTIONS: Final = (
    *("--force", "--ns", "--fields=pid,tid,cpu,time,event,trace"),
    *("--show-mmap-events", "--show-task-events"),
)
# perf says of each kind of event that it cannot print the fields of a tracepoint.
_NOISE: Final = re.compile(r"'\w+' not valid for .* events\. Ignoring\.$")
_HINT: Final = re.compile(r" \(rerun with -v .*\)$")


class PerfScript:
    """The text of a perf.data, but for what was lost, of which perf prints only a part: see
    PerfRecord.lost. See importers.base.TextSource.

    Attributes:
        data: the perf.data.
        messages: what perf had to say, line by line, once all chunks were taken.
        filtered: whether our own filter printed the tracepoints (native/perf_text.cpp), which this
            perf may not have or not take.
    """

    def __init__(self, data: Path, *, use_filter: bool = True) -> None:
        self.data = data
        self.messages: tuple[str, ...] = ()
        self.filtered = use_filter and _FILTER.exists()

    @property
    def name(self) -> str:
        return self.data.name

    @property
    def place(self) -> str:
        return str(self.data)

    def chunks(self) -> Iterator[bytes]:
        """The text, cut anywhere. Raises CaptureError if perf cannot be had, or fails."""
        if self.filtered:
            empty = True
            try:
                for chunk in self._run(_filter_options(self.data)):
                    empty = False
                    yield chunk
                return
            except CaptureError:
                if not empty:
                    raise
                self.filtered = False
        yield from self._run([])

    def _run(self, options: list[str]) -> Iterator[bytes]:
        command = ["perf", "script", f"--input={self.data}", *_OPTIONS, *options]
        with tempfile.TemporaryFile() as messages, _started(command, messages.fileno()) as perf:
            assert perf.stdout
            end = perf.stdout.fileno()
            # Fewer changes between perf and us; a system may not grant it.
            with contextlib.suppress(OSError):
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            while chunk := os.read(end, _PIPE_BYTES):
                yield chunk
            status = perf.wait()
            messages.seek(0)
            said = messages.read().decode(errors="replace").splitlines()
            lines = [line.strip() for line in said if line.strip()]
            self.messages = tuple(line for line in lines if not _NOISE.match(line))
            if status != 0:
                last = _HINT.sub("", self.messages[-1]) if self.messages else "it said nothing"
                raise CaptureError(f"{self.data}: perf script failed with status {status}: {last}")


def _filter_options(data: Path) -> list[str]:
    options = [f"--dlfilter={_FILTER}"]
    for argument in filter_arguments(data):
        options += ["--dlarg", argument]
    return options


@contextlib.contextmanager
def _started(command: list[str], messages: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output is read; it does not outlive the block."""
    settings = {"LC_ALL": "C", "PERF_CONFIG": "/dev/null", "DEBUGINFOD_URLS": ""}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages,
            bufsize=0,
            # A Ctrl-C on the terminal is for us.
            start_new_session=True,
            env={**os.environ, **settings},
        )
    except OSError as error:
        remedy = "install it, in Debian with: apt install linux-perf"
        raise CaptureError(f"perf cannot be run ({error.strerror}); {remedy}") from error
    try:
        yield process
    finally:
        process.kill()
        if process.stdout:
            process.stdout.close()
        process.wait()
