# SPDX-License-Identifier: GPL-2.0-only
"""Capture by `perf record` over a cgroup: tracepoints of system calls, tasks and page faults, and
perf's own records of what gets mapped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import astuple
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.capture import cgroup
from rmapreplay.traces.capture.backend import Captured, Progress, Settings, Target
from rmapreplay.traces.capture.perf.kmem import kmem_events, kmem_requirements
from rmapreplay.traces.capture.perf.record import PerfRecord, Tracepoint
from rmapreplay.traces.capture.perf.script import PerfScript
from rmapreplay.traces.capture.requirements import (
    Requirement,
    lockdown,
    mounted_tracefs,
    program,
    program_version,
    root,
    tracepoints,
)
from rmapreplay.traces.schema import Metadata

_CALLS: Final = " || ".join(f"id == {n}" for n in _native.recorded_syscalls())
_EVENTS: Final = {
    "raw_syscalls:sys_enter": _CALLS,
    "raw_syscalls:sys_exit": f"{_CALLS} || ({_native.recorded_brk_exits()})",
    "task:task_newtask": "",
    "sched:sched_process_exec": "",
    "sched:sched_process_exit": "",
    "mmap:exit_mmap": "",
    "exceptions:page_fault_user": "",
    "exceptions:page_fault_kernel": "address < 0x7fffffffffff",
}
"""Tracepoints, and what of them is recorded."""

_LOCK_ORDER: Final = {"mmap_lock:mmap_lock_acquire_returned": "success == 1"}
_RCU_SECONDS: Final = 0.2


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
        yield tracepoints(event.name for event in _events(settings))
        if settings.truth:
            yield from kmem_requirements()

    def start(self, target: Target, settings: Settings) -> PerfRecording:
        assert target.cgroup
        return PerfRecording(target.cgroup, settings)

    def describe(self) -> Metadata:
        return {"program": program_version("perf")}


class PerfRecording:
    """See backend.Recording. perf writes perf.data; perf script turns it into text afterwards."""

    def __init__(self, group: str, settings: Settings) -> None:
        self._group = group
        self._records: list[PerfRecord] = []
        recordings = [("perf.data", _events(settings), ["--data"])]
        if settings.truth:
            recordings.append(("kmem.data", kmem_events(), []))
        try:
            for name, events, options in recordings:
                data = settings.scratch / name
                record = PerfRecord(data, events, group, settings.buffer_mb, options)
                self._records.append(record)
        except BaseException:
            self.abandon()
            raise

    def progress(self) -> Progress:
        parts = [astuple(record.progress()) for record in self._records]
        return Progress(*(sum(numbers) for numbers in zip(*parts, strict=True)))

    def stop(self) -> Captured:
        truth = self._records[1:]
        if truth:
            self._stand_still()
        for record in self._records:
            record.stop()
        return Captured(
            PerfScript(self._records[0].data),
            answer_keys=tuple(PerfScript(record.data) for record in truth),
            lost=sum(record.lost for record in self._records),
            raw=tuple((record.data, f".{record.data.name}") for record in self._records),
        )

    def abandon(self) -> None:
        for record in self._records:
            record.abandon()

    def _stand_still(self) -> None:
        """The end of both recordings must be the same point of the workload, and what it freed must
        be freed: RCU callbacks do that for vm_area_struct in Linux 6.4 to 6.12."""
        group = cgroup.Cgroup.existing(self._group)
        if group.populated():
            group.freeze()
        time.sleep(_RCU_SECONDS)


def _events(settings: Settings) -> list[Tracepoint]:
    events = {**_EVENTS, **(_LOCK_ORDER if settings.lock_order else {})}
    return [Tracepoint(name, condition) for name, condition in events.items()]
