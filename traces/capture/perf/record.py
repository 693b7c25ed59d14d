# SPDX-License-Identifier: GPL-2.0-only
"""A `perf record` in progress."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.capture.backend import Progress
from rmapreplay.traces.capture.launch import end_with_parent
from rmapreplay.traces.errors import CaptureError

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Tracepoint:
    """What is to be recorded.

    Attributes:
        name: group:event.
        condition: what its fields must fulfil, as the kernel's event filters have it.
        everywhere: whatever the cgroup of the running task.
    """

    name: str
    condition: str = ""
    everywhere: bool = False


class PerfRecord:
    """Records on all CPUs what tasks of a cgroup do; it has begun when the object is there.

    Attributes:
        data: the perf.data that it writes.
    """

    def __init__(
        self,
        data: Path,
        events: Iterable[Tracepoint],
        group: str,
        buffer_mb: int,
        options: Iterable[str] = (),
    ) -> None:
        """Args:
            data: file to write; what perf says goes beside it.
            group: path below the mount of cgroup v2, with a leading slash.
            buffer_mb: size of the kernel's buffer per CPU; a power of two.
            options: more of perf record's.

        Raises CaptureError if it does not begin."""
        self.data = data
        self._messages = data.with_suffix(".log")
        self._records = _native.PerfRecordCounter()
        self._counted = 0
        control, self._control = os.pipe()
        self._acknowledged, acknowledge = os.pipe()
        self._ends = [self._control, self._acknowledged]
        with self._messages.open("wb") as log:
            self._perf = subprocess.Popen(
                [
                    *("perf", "record", "--no-buildid", "--no-buildid-cache", "--all-cpus"),
                    *("--clockid", "mono", "--synth=no", "--delay=-1"),
                    f"--mmap-pages={buffer_mb}M",
                    f"--control=fd:{control},{acknowledge}",
                    f"--output={data}",
                    *options,
                    *_event_options(list(events), group),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(control, acknowledge),
                # A Ctrl-C on the terminal is for us and the workload.
                start_new_session=True,
                preexec_fn=end_with_parent,
                env={**os.environ, "LC_ALL": "C", "PERF_CONFIG": "/dev/null"},
            )
        os.close(control)
        os.close(acknowledge)
        try:
            self._enable()
        except BaseException:
            self.abandon()
            raise

    def progress(self) -> Progress:
        """See backend.Recording."""
        if self._perf.poll() is not None:
            raise self._broke_off()
        self._ask_to_write()
        self._count()
        return Progress(self._records.samples, self._records.lost, self._counted)

    def stop(self) -> None:
        """End it; all is in the file when this returns. Raises CaptureError if it broke off, or
        could not write it all."""
        if self._perf.poll() is not None:
            raise self._broke_off()
        self._perf.send_signal(signal.SIGINT)
        try:
            self._perf.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise CaptureError(f"perf did not end within {_STOP_SECONDS:.0f} s") from error
        finally:
            self.abandon()
        # perf ends itself by the signal that ended the recording.
        if self._perf.returncode not in (0, -signal.SIGINT, 128 + signal.SIGINT):
            raise self._broke_off()
        self._count()

    @property
    def lost(self) -> int:
        """Events that are not in the file; all of them when stop() is through."""
        return int(self._records.lost)

    def abandon(self) -> None:
        """End it and forget it; never raises. May follow stop()."""
        if self._perf.poll() is None:
            self._perf.kill()
            self._perf.wait()
        while self._ends:
            os.close(self._ends.pop())

    def _enable(self) -> None:
        """Begin, and know that it has begun."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, b"enable\n")
        ready, _, _ = select.select([self._acknowledged], [], [], _START_SECONDS)
        if not ready:
            raise CaptureError(f"perf record did not begin within {_START_SECONDS:.0f} s")
        if not os.read(self._acknowledged, 16):
            self._perf.wait(_STOP_SECONDS)
            raise self._broke_off()

    def _ask_to_write(self) -> None:
        """Without being spoken to, perf writes only when half a buffer is full."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, b"ping\n")
        while select.select([self._acknowledged], [], [], 0)[0]:
            if not os.read(self._acknowledged, 4096):
                break

    def _count(self) -> None:
        with contextlib.suppress(FileNotFoundError), self.data.open("rb") as file:
            file.seek(self._counted)
            while chunk := file.read(1 << 20):
                self._records.feed(chunk)
                self._counted += len(chunk)

    def _broke_off(self) -> CaptureError:
        """What perf said last."""
        lines = self._messages.read_text(errors="replace").strip().splitlines()
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return CaptureError(f"perf record ended with status {self._perf.returncode}: {said}")


def _event_options(events: list[Tracepoint], group: str) -> Iterator[str]:
    for event in events:
        yield f"--event={event.name}"
        if event.condition:
            yield f"--filter={event.condition}"
    # One cgroup per event, in their order; an empty one is all of them.
    group = group.lstrip("/")
    yield "--cgroup=" + ",".join("" if event.everywhere else group for event in events)
