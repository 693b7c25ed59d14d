# SPDX-License-Identifier: GPL-2.0-only
"""Cgroups of version 2: what holds a workload together, whatever its processes do."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from rmapreplay.traces.capture.requirements import Requirement
from rmapreplay.traces.errors import CaptureError


def mount() -> Path | None:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, source = line.partition(" - ")
        if source.startswith("cgroup2 "):
            return Path(fields.split()[4])
    return None


def requirement() -> Requirement:
    """A cgroup v2 hierarchy that perf and we can use."""
    place = mount()
    if not place:
        remedy = "mount it: mount -t cgroup2 none /sys/fs/cgroup"
        return Requirement("cgroup v2", False, "not mounted", remedy)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        _, _, source = line.partition(" - ")
        if source.startswith("cgroup ") and "perf_event" in source.split()[-1].split(","):
            remedy = "boot with cgroup_no_v1=perf_event"
            return Requirement("cgroup v2", False, "perf_event is on cgroup v1 here", remedy)
    if not os.access(place, os.W_OK):
        return Requirement("cgroup v2", False, f"{place} cannot be written", "run as root")
    return Requirement("cgroup v2", True, str(place))


class Cgroup:
    """A cgroup.

    Attributes:
        path: its directory.
        name: path below the mount, with a leading slash.
        ours: whether we made it.
    """

    def __init__(self, path: Path, ours: bool) -> None:
        place = mount()
        assert place
        self.path = path
        self.name = f"/{path.relative_to(place)}"
        self.ours = ours

    @classmethod
    def make(cls) -> Cgroup:
        """A new one. Raises CaptureError if it cannot be made."""
        place = mount()
        if not place:
            raise CaptureError(str(requirement()))
        for left in place.glob("rmapreplay-*-*"):
            if not Path("/proc", left.name.split("-")[1]).exists():  # of a capture that was killed
                with contextlib.suppress(OSError):
                    left.rmdir()  # which only works if it is empty
        path = place / f"rmapreplay-{os.getpid()}-{time.monotonic_ns():x}"
        try:
            path.mkdir()
        except OSError as error:
            raise CaptureError(f"{path}: cannot make a cgroup: {error.strerror}") from error
        return cls(path, ours=True)

    @classmethod
    def existing(cls, name: str) -> Cgroup:
        """By its directory or its path below the mount. Raises CaptureError if there is none."""
        place = mount()
        if not place:
            raise CaptureError(str(requirement()))
        for path in (Path(name), place / name.lstrip("/")):
            if path.is_relative_to(place) and path.joinpath("cgroup.procs").exists():
                return cls(path, ours=False)
        raise CaptureError(f"{name}: no such cgroup below {place}")

    def add(self, pid: int) -> None:
        """Move a process here, with all its threads; its children to come will be here too."""
        try:
            self.path.joinpath("cgroup.procs").write_text(str(pid))
        except ProcessLookupError:
            return
        except OSError as error:
            reason = f"cannot move process {pid} there: {error.strerror}"
            raise CaptureError(f"{self.path}: {reason}") from error

    def pids(self) -> list[int]:
        """Processes here and below."""
        found: set[int] = set()
        for file in self._files("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in file.read_text().split() if pid != "0")
        return sorted(found)

    def populated(self) -> bool:
        """Whether any process is alive here or below."""
        try:
            return "populated 1" in self.path.joinpath("cgroup.events").read_text()
        except OSError:
            return False

    def freeze(self, seconds: float = 10.0) -> None:
        """Stop all processes; returns when they stand still. Raises CaptureError if they do not."""
        self.path.joinpath("cgroup.freeze").write_text("1")
        end = time.monotonic() + seconds
        while "frozen 1" not in self.path.joinpath("cgroup.events").read_text():
            if time.monotonic() > end:
                self.thaw()
                raise CaptureError(f"{self.path}: did not freeze within {seconds:.0f} s")
            time.sleep(0.002)

    def thaw(self) -> None:
        """Let them go on."""
        self.path.joinpath("cgroup.freeze").write_text("0")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill all processes and wait for their end, up to ten seconds."""
        end = time.monotonic() + 10
        while self.populated() and time.monotonic() < end:
            try:
                self.path.joinpath("cgroup.kill").write_text("1")
            except OSError:  # before Linux 5.14
                self.signal(signal.SIGKILL)
            self._kill_leaderless()
            time.sleep(0.01)

    def remove(self) -> None:
        """Kill what is left and remove it, with cgroups that the workload made below it."""
        self.kill()
        below = sorted(self.path.rglob("*/"), key=lambda path: -len(path.parts))
        for path in (*below, self.path):
            with contextlib.suppress(OSError):
                path.rmdir()

    def _kill_leaderless(self) -> None:
        """Neither cgroup.procs nor cgroup.kill knows of threads whose leader has exited."""
        for file in self._files("cgroup.threads"):
            with contextlib.suppress(OSError):
                for tid in map(int, file.read_text().split()):
                    os.kill(tid, signal.SIGKILL)

    def _files(self, name: str) -> Iterator[Path]:
        yield self.path / name
        with contextlib.suppress(OSError):
            yield from self.path.glob(f"**/*/{name}")
