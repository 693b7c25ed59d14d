# SPDX-License-Identifier: GPL-2.0-only
"""One capture from beginning to end: whoever watches, whatever is watched."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmapreplay.traces.capture import attach as attaching
from rmapreplay.traces.capture import cgroup, host
from rmapreplay.traces.capture.backend import Captured, Recording, Settings, Target, backend
from rmapreplay.traces.capture.faults import FaultCount
from rmapreplay.traces.capture.launch import Launcher
from rmapreplay.traces.capture.requirements import Requirement, require
from rmapreplay.traces.capture.tree import Traced, Tree
from rmapreplay.traces.capture.watch import Watch
from rmapreplay.traces.errors import CaptureError
from rmapreplay.traces.importers import ImportOptions, importer, refuse_existing
from rmapreplay.traces.importers.base import Snapshot
from rmapreplay.traces.schema import Metadata


@dataclass(frozen=True)
class CaptureOptions:
    """How to capture.

    Attributes:
        backend: one of backend.BACKENDS.
        duration: seconds after which the capture ends; None: when the last process has.
        buffer_mb: size of the kernel's buffer per CPU, in MB; a power of two.
        lock_order: record when mmap_lock is taken.
        truth: record the kernel's own allocations, for `rmapreplay check`.
        keep_raw: keep what the backend recorded beside the trace.
        description: what the workload is, for the record.
    """

    backend: str = "perf"
    duration: float | None = None
    buffer_mb: int = 32
    lock_order: bool = True
    truth: bool = False
    keep_raw: bool = False
    description: str | None = None


def requirements(options: CaptureOptions) -> Iterator[Requirement]:
    """What a capture with these options needs of the machine."""
    return backend(options.backend).requirements(_settings(Path(), options))


def capture(
    command: Sequence[str],
    out: str | Path,
    options: CaptureOptions | None = None,
    *,
    force: bool = False,
) -> Metadata:
    """Run a command and capture it and all its descendants as the trace `out`; returns the trace's
    metadata.

    Lasts until the last process of the tree has exited, `options.duration` is over, or SIGINT or
    SIGTERM: then the processes are asked to end (SIGTERM), have five seconds in which what they do
    is still recorded, and are killed. Of a capture that ends by its duration the processes are
    killed after the recording. With `force`, a trace of that name is replaced.

    Raises:
        CaptureError: it cannot be done here, or broke off; then there is no trace.
        TraceFormatError: nothing was captured.
        RmapReplayError: a file cannot be written.
    """
    with _Session(Path(out), options or CaptureOptions(), force) as session:
        launcher = Launcher(command)
        session.stack.callback(launcher.close)
        group = session.make_cgroup()
        faults = None
        if group:
            group.add(launcher.pid)
            faults = FaultCount(group)
            faults.add(launcher.pid)
            session.stack.callback(faults.remove)
        tree: Tree = group or Traced()
        recording = session.start(Target((launcher.pid,), group.name if group else None))
        watch = Watch(recording, tree, launcher)
        launcher.go()
        ended = watch.until_end(session.options.duration)
        captured = watch.stop()
        return session.convert(
            captured,
            {
                **ended,
                "exit": vars(launcher.ended) if launcher.ended else None,
                "faults": faults.faults() if faults else None,
            },
            command=shlex.join(command),
        )


def attach(
    target: str,
    out: str | Path,
    options: CaptureOptions | None = None,
    *,
    force: bool = False,
) -> Metadata:
    """Capture processes that are there already as the trace `out`; returns the trace's metadata.

    They stand still while what they have mapped is read, which becomes the first rows of the trace.
    The capture lasts until the last of them has exited, `options.duration` is over, or SIGINT or
    SIGTERM; they go on as they were.

    Args:
        target: a process id, for it and its descendants; or a cgroup v2, by its directory or its
            path below the mount.
        out, options, force: as for capture().

    Raises: as capture().
    """
    from rmapreplay.traces.capture.snapshot import take  # polars: not for those who do not attach

    options = options or CaptureOptions()
    if options.backend != "perf":
        raise CaptureError(f"--attach: not with --backend {options.backend}, use --backend perf")
    if options.truth:
        raise CaptureError(
            "--attach: not with --truth, for what the kernel allocated before is not to be seen"
        )
    with _Session(Path(out), options, force) as session:
        attached = session.stack.enter_context(attaching.attach(target))
        snapshot = take(attached.pids)
        recording = session.start(Target(attached.pids, attached.cgroup.name))
        attached.thaw()
        watch = Watch(recording, attached.cgroup)
        ended = watch.until_end(session.options.duration)
        captured = watch.stop()
        attached.release()
        return session.convert(
            captured,
            {**ended, "attached_to": target, "stood_still": round(attached.stood_still, 3)},
            snapshot=snapshot,
        )


class _Session:
    """What every capture begins and ends with. A context manager: whatever happens in its block,
    nothing is left behind."""

    def __init__(self, out: Path, options: CaptureOptions, force: bool) -> None:
        self.out = out
        self.options = options
        self.stack = ExitStack()
        self._force = force
        self._backend = backend(options.backend)

    def __enter__(self) -> _Session:
        refuse_existing(self.out, self._force)
        try:
            self._settings = _settings(self._scratch(), self.options)
            require(self._backend.requirements(self._settings))
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        self.stack.__exit__(*exception)

    def make_cgroup(self) -> cgroup.Cgroup | None:
        """One of ours; None where there can be none and the backend needs none."""
        if not self._backend.needs_cgroup and not cgroup.requirement().met:
            return None
        group = cgroup.Cgroup.make()
        self.stack.callback(group.remove)
        return group

    def start(self, target: Target) -> Recording:
        """Begin to record."""
        recording = self._backend.start(target, self._settings)
        self.stack.callback(recording.abandon)
        return recording

    def convert(
        self,
        captured: Captured,
        run: Metadata,
        *,
        command: str | None = None,
        snapshot: Snapshot | None = None,
    ) -> Metadata:
        """Write the trace; returns its metadata."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        options = ImportOptions(
            kernel=host.kernel_release(),
            thp=host.thp_enabled(),
            use_zero_page=host.thp_use_zero_page(),
            stack_limit=host.stack_limit(),
            command=command,
            description=self.options.description,
            truth=captured.answer_keys,
            lost=captured.lost,
            snapshot=snapshot,
            capture={
                "backend": self._backend.name,
                **self._backend.describe(),
                **run,
                "children_cpu": round(usage.ru_utime + usage.ru_stime, 3),
                "lock_order": self.options.lock_order,
                "buffer_mb": self.options.buffer_mb,
                "host": host.settings(),
            },
        )
        metadata = importer(self._backend.name).run(captured.text, self.out, options)
        if self.options.keep_raw:
            for file, ending in captured.raw:
                name = self.out.name.removesuffix(".parquet") + ending
                shutil.move(file, self.out.with_name(name))
        return metadata

    def _scratch(self) -> Path:
        """A directory beside the trace, for as long as the capture takes."""
        out = self.out
        for left in out.parent.glob(f".{out.name}.capture-*"):
            if not Path("/proc", left.name.rpartition("-")[2]).exists():  # a capture was killed
                shutil.rmtree(left, ignore_errors=True)
        scratch = out.with_name(f".{out.name}.capture-{os.getpid()}")
        try:
            scratch.mkdir()
        except OSError as error:
            raise CaptureError(f"{out.parent}: cannot write: {error.strerror}") from error
        self.stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        return scratch


def _settings(scratch: Path, options: CaptureOptions) -> Settings:
    return Settings(scratch, options.buffer_mb, options.lock_order, options.truth)
