# SPDX-License-Identifier: GPL-2.0-only
"""What watches a workload: one backend is one way of asking the kernel what processes do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from rmapreplay.traces.capture.requirements import Requirement
from rmapreplay.traces.importers.base import TextSource
from rmapreplay.traces.schema import Metadata

# In the order of preference.
_BACKENDS: Final = {
    "perf": ("perf", "PerfBackend"),
    "tracefs": ("tracefs", "TracefsBackend"),
    "strace": ("strace", "StraceBackend"),
}
BACKENDS: Final = tuple(_BACKENDS)


@dataclass(frozen=True)
class Target:
    """What is to be watched.

    Attributes:
        pids: processes that are there already: the launcher, which waits to exec the command, or
            those that a capture is attached to, frozen. Their children are watched too.
        cgroup: path below the mount of cgroup v2, with a leading slash; None: there is no cgroup,
            which only a backend that needs none is given.
    """

    pids: tuple[int, ...]
    cgroup: str | None


@dataclass(frozen=True)
class Settings:
    """What the user wants of a backend.

    Attributes:
        buffer_mb: size of the kernel's buffer per CPU, in MB; a power of two.
        lock_order: record when mmap_lock is taken.
        truth: record the kernel's own allocations too.
        scratch: directory for files of the capture; on the disk that takes the trace.
    """

    scratch: Path
    buffer_mb: int = 32
    lock_order: bool = True
    truth: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a recording has come: events, those lost, bytes written; None: not known yet."""

    events: int | None
    lost: int | None
    size: int | None = None


@dataclass(frozen=True)
class Captured:
    """What a recording gave.

    Attributes:
        text: for the importer of the backend's name.
        answer_keys: more of the same run, for the truth sidecar.
        raw: files worth keeping, with the ending that tells what they are, such as `.perf.data`.
        lost: events that were lost and that the text itself does not tell of.
    """

    text: TextSource
    answer_keys: tuple[Path | TextSource, ...] = ()
    raw: tuple[tuple[Path, str], ...] = ()
    lost: int = 0


class Recording(Protocol):
    """A recording in progress."""

    def progress(self) -> Progress:
        """Cheap enough to be asked twice a second. Raises CaptureError if the recording broke off
        by itself."""

    def stop(self) -> Captured:
        """End it; everything recorded is there when this returns. Raises CaptureError if it broke
        off, or could not write it all."""

    def abandon(self) -> None:
        """End it and forget it. Leaves nothing behind but files in the scratch directory; never
        raises. May follow stop()."""


class Backend(Protocol):
    """A way of recording."""

    name: str
    needs_cgroup: bool

    def requirements(self, settings: Settings) -> Iterator[Requirement]:
        """What it takes to record here, whether it is there, and how to get it."""

    def start(self, target: Target, settings: Settings) -> Recording:
        """Begin: when this returns, whatever the target does is recorded. Raises CaptureError if
        that cannot be had; then nothing is left behind."""

    def describe(self) -> Metadata:
        """For the trace's metadata: program and version, what is recorded."""


def backend(name: str) -> Backend:
    """A backend of BACKENDS, by name."""
    module, cls = _BACKENDS[name]
    made = getattr(import_module(f"rmapreplay.traces.capture.{module}"), cls)()
    return cast(Backend, made)
