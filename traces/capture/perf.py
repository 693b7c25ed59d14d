# SPDX-License-Identifier: GPL-2.0-only
"""Capture by `perf record` over a cgroup: tracepoints of system calls, tasks and page faults, and
perf's own records of what gets mapped."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.capture import cgroup
from rmapreplay.traces.capture.backend import Captured, Progress, Settings, Target
from rmapreplay.traces.capture.launch import end_with_parent
from rmapreplay.traces.capture.perf_script import PerfScript
from rmapreplay.traces.capture.requirements import (
    Requirement,
    lockdown,
    mounted_tracefs,
    program,
    program_version,
    root,
    tracepoints,
)
from rmapreplay.traces.errors import CaptureError
from rmapreplay.traces.schema import Metadata

_EVENTS: Final = {
    "raw_syscalls:sys_enter": " || ".join(f"id == {n}" for n in _native.recorded_syscalls()),
    "raw_syscalls:sys_exit": " || ".join(f"id == {n}" for n in _native.recorded_syscalls()),
    "task:task_newtask": "",
    "sched:sched_process_exec": "",
    "sched:sched_process_exit": "",
    "mmap:exit_mmap": "",
    "exceptions:page_fault_user": "",
    "exceptions:page_fault_kernel": "address < 0x7fffffffffff",
}
"""Tracepoints, and what of them is recorded."""

_LOCK_ORDER: Final = {
    "mmap_lock:mmap_lock_acquire_returned": "write == 1 && success == 1",
    "mmap_lock:mmap_lock_released": "write == 1",
}
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 120.0


class PerfBackend:
    """See backend.Backend."""

    name = "perf"
    needs_cgroup = True

    def requirements(self, settings: Settings) -> Iterator[Requirement]:
        yield root()
        yield program("perf", "linux-perf")
        yield cgroup.requirement()
        yield mounted_tracefs()
        yield lockdown()
        yield tracepoints(_events(settings))

    def start(self, target: Target, settings: Settings) -> PerfRecording:
        assert target.cgroup
        return PerfRecording(target.cgroup, settings)

    def describe(self) -> Metadata:
        return {"program": program_version("perf")}


class PerfRecording:
    """See backend.Recording. perf writes perf.data; perf script turns it into text afterwards."""

    def __init__(self, group: str, settings: Settings) -> None:
        self._data = settings.scratch / "perf.data"
        self._messages = settings.scratch / "perf.log"
        self._records = _native.PerfRecordCounter()
        self._counted = 0
        control, self._control = os.pipe()
        self._acknowledged, acknowledge = os.pipe()
        self._ends = [self._control, self._acknowledged]
        with self._messages.open("wb") as log:
            self._perf = subprocess.Popen(
                [
                    *("perf", "record", "--no-buildid", "--no-buildid-cache"),
                    *("--all-cpus", "--data", f"--mmap-pages={settings.buffer_mb}M"),
                    *("--clockid", "mono", "--synth=no", "--delay=-1"),
                    f"--control=fd:{control},{acknowledge}",
                    f"--output={self._data}",
                    *_event_options(_events(settings), group),
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
        if self._perf.poll() is not None:
            raise self._broke_off()
        self._count()
        return Progress(self._records.samples, self._records.lost, self._counted)

    def stop(self) -> Captured:
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
        return Captured(PerfScript(self._data), raw=((self._data, ".perf.data"),))

    def abandon(self) -> None:
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

    def _count(self) -> None:
        with contextlib.suppress(FileNotFoundError), self._data.open("rb") as file:
            file.seek(self._counted)
            while chunk := file.read(1 << 20):
                self._records.feed(chunk)
                self._counted += len(chunk)

    def _broke_off(self) -> CaptureError:
        """What perf said last."""
        lines = self._messages.read_text(errors="replace").strip().splitlines()
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return CaptureError(f"perf record ended with status {self._perf.returncode}: {said}")


def _events(settings: Settings) -> dict[str, str]:
    return {**_EVENTS, **(_LOCK_ORDER if settings.lock_order else {})}


def _event_options(events: dict[str, str], group: str) -> Iterator[str]:
    for event, condition in events.items():
        yield f"--event={event}"
        if condition:
            yield f"--filter={condition}"
        # One cgroup per event, in their order.
    yield "--cgroup=" + ",".join([group.lstrip("/")] * len(events))
