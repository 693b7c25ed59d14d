# SPDX-License-Identifier: GPL-2.0-only
"""One capture from beginning to end: whoever watches, whatever is watched."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rmapreplay.traces.capture import cgroup, host
from rmapreplay.traces.capture.backend import (
    Backend,
    Captured,
    Recording,
    Settings,
    Target,
    backend,
)
from rmapreplay.traces.capture.faults import FaultCount
from rmapreplay.traces.capture.interrupts import Interrupts
from rmapreplay.traces.capture.launch import Launcher
from rmapreplay.traces.capture.requirements import Requirement, require
from rmapreplay.traces.capture.status import Status
from rmapreplay.traces.capture.tree import Traced, Tree
from rmapreplay.traces.errors import CaptureError
from rmapreplay.traces.importers import ImportOptions, importer, refuse_existing
from rmapreplay.traces.schema import Metadata

_POLL_SECONDS: Final = 0.05
_GRACE_SECONDS: Final = 5.0
"""How long an interrupted workload may take to end while it is still recorded."""


@dataclass(frozen=True)
class CaptureOptions:
    """How to capture.

    Attributes:
        backend: one of backend.BACKENDS.
        duration: seconds after which the capture ends; None: when the last process has.
        buffer_mb: size of the kernel's buffer per CPU, in MB; a power of two.
        lock_order: record when mmap_lock is taken for writing.
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
    out, options = Path(out), options or CaptureOptions()
    refuse_existing(out, force)
    with ExitStack() as stack:
        chosen = backend(options.backend)
        settings = _settings(_scratch(out, stack), options)
        require(chosen.requirements(settings))
        launcher = Launcher(command)
        stack.callback(launcher.close)
        group = _cgroup(chosen, stack)
        faults = None
        if group:
            group.add(launcher.pid)
            faults = FaultCount(group)
            faults.add(launcher.pid)
            stack.callback(faults.remove)
        tree: Tree = group or Traced()
        target = Target((launcher.pid,), group.name if group else None)
        watch = _Watch(chosen.start(target, settings), tree, options.duration, stack)
        launcher.go()
        ended = watch.until_end(launcher)
        return _convert(
            chosen,
            watch,
            out,
            options,
            settings,
            {
                "command": shlex.join(command),
                "ended": ended,
                "exit": vars(launcher.ended) if launcher.ended else None,
                "faults": faults.faults() if faults else None,
            },
        )


def _settings(scratch: Path, options: CaptureOptions) -> Settings:
    return Settings(scratch, options.buffer_mb, options.lock_order, options.truth)


def _scratch(out: Path, stack: ExitStack) -> Path:
    """A directory beside the trace, for as long as the capture takes."""
    for left in out.parent.glob(f".{out.name}.capture-*"):
        if not Path("/proc", left.name.rpartition("-")[2]).exists():  # of a capture that was killed
            shutil.rmtree(left, ignore_errors=True)
    scratch = out.with_name(f".{out.name}.capture-{os.getpid()}")
    try:
        scratch.mkdir()
    except OSError as error:
        raise CaptureError(f"{out.parent}: cannot write: {error.strerror}") from error
    stack.callback(shutil.rmtree, scratch, ignore_errors=True)
    return scratch


def _cgroup(chosen: Backend, stack: ExitStack) -> cgroup.Cgroup | None:
    if not chosen.needs_cgroup and not cgroup.requirement().met:
        return None
    group = cgroup.Cgroup.make()
    stack.callback(group.remove)
    return group


class _Watch:
    """A recording from its beginning to its end, with the tree it follows."""

    def __init__(
        self, recording: Recording, tree: Tree, duration: float | None, stack: ExitStack
    ) -> None:
        self.seconds = 0.0
        self._recording = recording
        self._tree = tree
        self._duration = duration
        self._began = time.monotonic()
        self._status = Status()
        stack.callback(self._status.clear)
        stack.callback(recording.abandon)

    def until_end(self, launcher: Launcher) -> str:
        """Waits; returns why it ended: `exited`, `duration` or `interrupted`."""
        with Interrupts() as interrupts:
            ended = self._until_end(launcher, interrupts)
        self.seconds = time.monotonic() - self._began
        return ended

    def stop(self) -> Captured:
        """Ends the recording, then what is left of the tree."""
        left = self._tree.pids()
        captured = self._recording.stop()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return captured

    def say(self, text: str) -> None:
        """On the line of the status."""
        self._status.say(text)

    def _until_end(self, launcher: Launcher, interrupts: Interrupts) -> str:
        note = ""
        while True:
            interrupts.wait(_POLL_SECONDS)
            self._show(note)
            if launcher.poll() and not self._tree.populated():
                return "exited"
            if launcher.ended:
                note = f"the command {launcher.ended}, others go on (Ctrl-C ends them)"
            if interrupts.count:
                self._ask_to_end(launcher, interrupts)
                return "interrupted"
            if self._duration is not None and time.monotonic() - self._began >= self._duration:
                return "duration"

    def _ask_to_end(self, launcher: Launcher, interrupts: Interrupts) -> None:
        self._tree.signal(signal.SIGTERM)
        asked, end = interrupts.count, time.monotonic() + _GRACE_SECONDS
        while self._tree.populated() and time.monotonic() < end and interrupts.count == asked:
            interrupts.wait(_POLL_SECONDS)
            self._show("ending")
            launcher.poll()

    def _show(self, note: str) -> None:
        if self._status.due():
            self._status.show(self._recording.progress(), len(self._tree.pids()), note)


def _convert(
    chosen: Backend,
    watch: _Watch,
    out: Path,
    options: CaptureOptions,
    settings: Settings,
    run: Metadata,
) -> Metadata:
    captured = watch.stop()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    import_options = ImportOptions(
        kernel=host.kernel_release(),
        thp=host.thp_enabled(),
        use_zero_page=host.thp_use_zero_page(),
        stack_limit=host.stack_limit(),
        command=run.pop("command"),
        description=options.description,
        truth=captured.answer_keys,
        lost=captured.lost,
        capture={
            "backend": chosen.name,
            **chosen.describe(),
            **run,
            "seconds": round(watch.seconds, 3),
            "children_cpu": round(usage.ru_utime + usage.ru_stime, 3),
            "lock_order": settings.lock_order,
            "buffer_mb": settings.buffer_mb,
            "host": host.settings(),
        },
    )
    watch.say("writing the trace")
    metadata = importer(chosen.name).run(captured.text, out, import_options)
    if options.keep_raw:
        for file, ending in captured.raw:
            shutil.move(file, out.with_name(out.name.removesuffix(".parquet") + ending))
    return metadata
