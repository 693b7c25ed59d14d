# SPDX-License-Identifier: GPL-2.0-only
"""Capture by tracefs, without the program perf: probes at the kernel's own functions where it
allows them, so that objects and walks of the reverse map are recorded too, else tracepoints."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.capture import cgroup
from rmapreplay.traces.capture.backend import Captured, Progress, Settings, Target
from rmapreplay.traces.capture.requirements import (
    Requirement,
    lockdown,
    mounted_tracefs,
    root,
    tracepoints,
)
from rmapreplay.traces.capture.tracefs.instance import Instance
from rmapreplay.traces.capture.tracefs.pipe import PipeReader, TraceText
from rmapreplay.traces.capture.tracefs.probes import Probes, probe_table, probes_allowed
from rmapreplay.traces.capture.tracefs.sideband import Sideband
from rmapreplay.traces.errors import CaptureError
from rmapreplay.traces.schema import Metadata

_POINTS: Final = {
    "task/task_newtask": "",
    "sched/sched_process_exec": "",
    "sched/sched_process_exit": "",
    "mmap/exit_mmap": "",
    "exceptions/page_fault_user": "",
    "exceptions/page_fault_kernel": "address < 0x7fffffffffff",
}
"""Tracepoints where there are no probes, and what of them is recorded."""

_LOCK_ORDER: Final = {"mmap_lock/mmap_lock_acquire_returned": "success == 1"}
_PREPARE_EXEC: Final = "sched/sched_prepare_exec"  # since Linux 6.10
_RAW: Final = ("raw_syscalls/sys_enter", "raw_syscalls/sys_exit")
_COUNT_SECONDS: Final = 0.25


class TracefsBackend:
    """See backend.Backend."""

    name = "tracefs"
    needs_cgroup = True

    def __init__(self) -> None:
        self._last: TracefsRecording | None = None

    def requirements(self, settings: Settings) -> Iterator[Requirement]:
        yield root()
        yield cgroup.requirement()
        yield mounted_tracefs()
        yield lockdown()
        yield tracepoints(name.replace("/", ":") for name in (*_points(settings), *_RAW))
        yield _probes(settings)

    def start(self, target: Target, settings: Settings) -> TracefsRecording:
        self._last = TracefsRecording(target, settings)
        return self._last

    def describe(self) -> Metadata:
        return self._last.description if self._last else {}


def _points(settings: Settings) -> dict[str, str]:
    return {**_POINTS, **(_LOCK_ORDER if settings.lock_order else {})}


def _probes(settings: Settings) -> Requirement:
    if probes_allowed():
        return Requirement("probes", True, "allowed: the reverse map is recorded too")
    if settings.truth:
        remedy = "boot a kernel with CONFIG_FPROBE_EVENTS, or use --backend perf"
        return Requirement("probes, for --truth", False, "none allowed", remedy)
    return Requirement("probes", True, "none allowed: system calls, tasks and faults only")


class TracefsRecording:
    """See backend.Recording.

    Attributes:
        description: of how it is recorded, for the metadata.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self._file = settings.scratch / "trace.txt"
        self._sideband: Sideband | None = None
        self._progress = Progress(0, 0, 0)
        self._asked = 0.0
        # Undone from the last to the first.
        with ExitStack() as stack:
            probes = _make_probes(stack) if probes_allowed() else "none allowed"
            # No two events have the same count; the times of perf's records are those of `mono`.
            clock = "counter" if isinstance(probes, Probes) else "mono"
            self.description: Metadata = {"clock": clock}
            self._instance = Instance(clock, settings.buffer_mb)
            stack.callback(self._instance.remove)
            if isinstance(probes, Probes):
                self._record_probes(probes, target)
                self.description["probes"] = "all"
            else:
                self._record_points(target, settings)
                self._open_sideband(settings, stack)
                self.description["probes"] = probes
            self._reader = PipeReader(
                self._instance.path / "trace_pipe", self._file, self._sideband
            )
            stack.callback(self._reader.stop)
            self._instance.on()
            if isinstance(probes, Probes):
                for pid in target.pids:
                    self._instance.mark(f"H1 ROOT {pid}\n")
            self._stack = stack.pop_all()

    def progress(self) -> Progress:
        if self._reader.error:
            raise self._broke_off()
        now = time.monotonic()
        if now - self._asked >= _COUNT_SECONDS:
            self._asked = now
            self._progress = Progress(*self._instance.counts(), self._file.stat().st_size)
        return self._progress

    def stop(self) -> Captured:
        self._instance.off()
        self._reader.stop()
        if self._sideband:
            self._sideband.close()
        _, lost = self._instance.counts()
        error = self._reader.error
        self.abandon()
        if error:
            raise self._broke_off()
        text = TraceText(self._file, self._sideband)
        return Captured(text, raw=((self._file, ".trace.txt"),), lost=lost)

    def abandon(self) -> None:
        with contextlib.suppress(CaptureError):
            self._instance.off()
        self._stack.close()

    def _broke_off(self) -> CaptureError:
        error = self._reader.error
        assert error
        return CaptureError(f"{self._file}: cannot keep what was recorded: {error.strerror}")

    def _record_probes(self, probes: Probes, target: Target) -> None:
        """The whole machine's: reclaim and migration are done by whoever comes to do them."""
        for name in probe_table().calls:
            for event in (f"syscalls/sys_enter_{name}", f"syscalls/sys_exit_{name}"):
                if self._instance.has(event):
                    self._instance.enable(event)
        for event in probe_table().events:
            self._instance.enable(event)
        for event, condition in probes.conditions.items():
            self._instance.enable(event, condition)
        for group in probes.groups:
            self._instance.enable(group)
        self._instance.leave_out(os.getpid())

    def _record_points(self, target: Target, settings: Settings) -> None:
        """What the processes do themselves."""
        calls = [f"syscalls/sys_enter_{name}" for name in _native.recorded_syscall_names()]
        present = [event for event in calls if self._instance.has(event)]
        for event in present:
            self._instance.enable(event)
            self._instance.enable(event.replace("_enter_", "_exit_"))
        if not present:  # without CONFIG_FTRACE_SYSCALLS
            condition = " || ".join(f"id == {n}" for n in _native.recorded_syscalls())
            for event in _RAW:
                self._instance.enable(event, condition)
        for event, condition in _points(settings).items():
            self._instance.enable(event, condition)
        if self._instance.has(_PREPARE_EXEC):
            self._instance.enable(_PREPARE_EXEC)
        self._instance.follow(target.pids)

    def _open_sideband(self, settings: Settings, stack: ExitStack) -> None:
        try:
            self._sideband = Sideband(settings.scratch)
        except OSError as error:
            self.description["records_of_mappings"] = f"none: {error.strerror}"
            return
        stack.callback(self._sideband.close)
        self.description["records_of_mappings"] = "perf_event_open"


def _make_probes(stack: ExitStack) -> Probes | str:
    """The probes, or why there are none."""
    try:
        probes = Probes(probe_table())
    except CaptureError as error:
        return str(error)
    stack.callback(probes.remove)
    return probes
