# SPDX-License-Identifier: GPL-2.0-only
"""Attaching to processes that are there already: they are frozen and held together by a cgroup, and
afterwards everything is put back as it was, also if this program is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from rmapreplay.traces.capture import cgroup
from rmapreplay.traces.capture.cgroup import Cgroup
from rmapreplay.traces.errors import CaptureError

_FREEZE_SECONDS: Final = 10.0
_RELEASE_SECONDS: Final = 10.0


def attach(target: str) -> Attached:
    """What --attach names.

    Args:
        target: a process id: the process and all its descendants, moved into a cgroup of ours
            below their own; or a cgroup, by its directory or its path below the mount.

    Raises:
        CaptureError: there is no such process or cgroup, or this program would stop itself.
    """
    requirement = cgroup.requirement()
    if not requirement.met:
        raise CaptureError(str(requirement))
    if not target.isdecimal():
        return Attached(Cgroup.existing(target), None)
    pid = int(target)
    if _kernel_thread(pid):
        raise CaptureError(f"{pid}: no such process, or a thread of the kernel")
    if os.getpid() in _descendants(pid):
        raise CaptureError(f"{pid}: this program is a descendant of that process")
    home = _home(pid)
    path = home / f"rmapreplay-{os.getpid()}-{time.monotonic_ns():x}"
    try:
        path.mkdir()
    except OSError as error:
        raise CaptureError(f"{path}: cannot make a cgroup: {error.strerror}") from error
    # `ours` is for cgroups whose processes may be killed at the end.
    return Attached(Cgroup(path, ours=False), pid)


class Attached:
    """Processes held for a capture. Use as a context manager: within the block they stand still
    until thaw(); at its end, whatever happens, they go on where they were.

    Attributes:
        cgroup: holds them all, with the children they will have. Not to be killed or removed.
        pids: those that were there when all stood still, ascending.
        stood_still: seconds from freeze to thaw, as far as it is over.
    """

    def __init__(self, group: Cgroup, root: int | None) -> None:
        self.cgroup = group
        self.pids: tuple[int, ...] = ()
        self.stood_still = 0.0
        self._root = root
        self._guard: _Guard | None = None
        self._frozen_at: float | None = None

    def __enter__(self) -> Attached:
        try:
            if self._root is None:
                self._refuse_own()
            self._guard = _Guard(self.cgroup.path, borrowed=self._root is None)
            self._frozen_at = time.monotonic()
            if self._root is not None:
                self._gather(self._root)
            else:
                self._freeze()
            self.pids = tuple(sorted(_below(self.cgroup.path)))
            if not self.pids:
                raise CaptureError(f"{self._root or self.cgroup.name}: no process is left")
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def thaw(self) -> None:
        """Let them go on."""
        self.cgroup.thaw()
        if self._frozen_at is not None:
            self.stood_still = time.monotonic() - self._frozen_at
            self._frozen_at = None

    def release(self) -> None:
        """Put everything back. May be called again."""
        if self._guard:
            guard, self._guard = self._guard, None
            guard.release()
        elif self._root is not None:
            with contextlib.suppress(OSError):
                self.cgroup.path.rmdir()

    def _refuse_own(self) -> None:
        own = _home(os.getpid())
        if own.is_relative_to(self.cgroup.path):
            raise CaptureError(f"{self.cgroup.name}: this program is in that cgroup itself")
        if self.cgroup.path.joinpath("cgroup.freeze").read_text().strip() != "0":
            raise CaptureError(f"{self.cgroup.name}: is frozen already")

    def _freeze(self) -> None:
        try:
            self.cgroup.freeze(_FREEZE_SECONDS)
        except OSError as error:
            raise CaptureError(f"{self.cgroup.path}: cannot freeze: {error.strerror}") from error

    def _gather(self, root: int) -> None:
        """Move the tree into the cgroup, which is frozen, so that nothing forks once it is there;
        what is forked meanwhile is found by looking again until nothing is new."""
        assert self._guard
        self.cgroup.path.joinpath("cgroup.freeze").write_text("1")
        moved: set[int] = set()
        while True:
            found = _descendants(root) - moved
            for pid in sorted(found):
                with contextlib.suppress(OSError):
                    self._guard.expect(pid, _home(pid))
                self.cgroup.add(pid)
            if not found:
                return
            moved |= found
            self._freeze()


class _Guard:
    """A process of its own that puts everything back as soon as this one says so or is no more.

    It knows where each process came from; those that were born since go where the first of them
    came from.
    """

    def __init__(self, path: Path, *, borrowed: bool) -> None:
        listens, self._tells = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._tells)
            status = 1
            try:
                _stand_guard(listens, path, borrowed)
                status = 0
            finally:
                os._exit(status)
        os.close(listens)

    def expect(self, pid: int, home: Path) -> None:
        """Before a process is moved: where it is to be put back."""
        os.write(self._tells, f"{pid} {home}\n".encode())

    def release(self) -> None:
        """Have everything put back; returns when it is. Raises CaptureError if it could not."""
        os.close(self._tells)
        _, status = os.waitpid(self._pid, 0)
        if status:
            raise CaptureError("not all processes could be moved back to their cgroup")


def _stand_guard(listens: int, path: Path, borrowed: bool) -> None:
    """In the guard: wait for the end of what is told, then restore."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    # Others wait for the end of pipes that this process must not hold open.
    kept = os.dup2(listens, 3) if listens != 3 else 3
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    with os.fdopen(kept) as told:
        lines = told.read().splitlines()
    homes = {int(pid): Path(home) for pid, _, home in (line.partition(" ") for line in lines)}
    if borrowed:
        path.joinpath("cgroup.freeze").write_text("0")
    else:
        _move_back(path, homes)


def _move_back(path: Path, homes: dict[int, Path]) -> None:
    """Frozen, they have no children meanwhile; each goes on as it leaves."""
    path.joinpath("cgroup.freeze").write_text("1")
    default = next(iter(homes.values()), path.parent)
    end = time.monotonic() + _RELEASE_SECONDS
    while True:
        for group in [*sorted(path.rglob("*/"), reverse=True), path]:
            for pid, tid in _processes(group).items():
                _put_back(tid, homes.get(pid, default))
            with contextlib.suppress(OSError):
                group.rmdir()
        if not path.exists():
            return
        if time.monotonic() > end:
            path.joinpath("cgroup.freeze").write_text("0")
            raise TimeoutError
        time.sleep(0.01)


def _put_back(tid: int, home: Path) -> None:
    """Move the process of a task."""
    for place in (home, *home.parents):
        if not place.joinpath("cgroup.procs").exists():
            continue  # it was removed meanwhile
        try:
            place.joinpath("cgroup.procs").write_text(str(tid))
        except ProcessLookupError:
            return
        except OSError:
            continue
        return


def _below(path: Path) -> set[int]:
    """Processes with a living task in a cgroup or below it."""
    return {pid for group in (path, *path.rglob("*/")) for pid in _processes(group)}


def _processes(group: Path) -> dict[int, int]:
    """The processes of a cgroup, with a living task of each. Its cgroup.procs has none whose leader
    has exited before its threads."""
    found: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for tid in map(int, group.joinpath("cgroup.threads").read_text().split()):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{tid}/status").read_text(errors="replace")
                found[int(status.partition("\nTgid:")[2].split()[0])] = tid
    return found


def _home(pid: int) -> Path:
    """The cgroup v2 that a process is in."""
    place = cgroup.mount()
    assert place
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return place / line.removeprefix("0::").lstrip("/")
    return place


def _descendants(root: int) -> set[int]:
    """A process, if it lives, and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and (stat := _stat(int(entry.name))):
            state, parent = stat
            if state not in "ZX" or _has_threads(int(entry.name)):
                children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    own = _stat(root)
    left = [root] if own and (own[0] not in "ZX" or _has_threads(root)) else []
    while left:
        pid = left.pop()
        found.add(pid)
        left += [child for child in children.get(pid, []) if child not in found]
    return found


def _has_threads(pid: int) -> bool:
    """Whether a process whose leader has exited lives on."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def _stat(pid: int) -> tuple[str, int] | None:
    """State and parent."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1])


def _kernel_thread(pid: int) -> bool:
    """Or a process without memory, whose last task has exited."""
    try:
        return all(
            not Path(f"/proc/{tid}/maps").read_bytes() for tid in os.listdir(f"/proc/{pid}/task")
        )
    except OSError:
        return True
