# SPDX-License-Identifier: GPL-2.0-only
"""What /proc says of processes that stand still: tasks, who shares an address space, which came
from one exec. All that must be read before they go on, and no more, is read here."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rmapreplay.traces.capture.snapshot.pages import RawPages, read_pages

_SYS_KCMP: Final = 312
_KCMP_VM: Final = 1
_ADDR_NO_RANDOMIZE: Final = 0x0040000

Image = tuple[int, ...]
"""The program and where exec placed it: equal in all that descend from one exec by fork."""


@dataclass(frozen=True)
class Process:
    """A process with living tasks.

    Attributes:
        pid: its number.
        parent: its parent's.
        start: when it was made, in clock ticks since boot.
        tids: its living tasks; the leader comes first, unless it has exited.
        program: path of what it executes.
        start_brk: where its heap begins.
        image: see Image.
        randomized: whether its address space is laid out at random.
        thp_disabled, ksm_merge_any: set by prctl.
    """

    pid: int
    parent: int
    start: int
    tids: tuple[int, ...]
    program: str
    start_brk: int
    image: Image
    randomized: bool
    thp_disabled: bool
    ksm_merge_any: bool


@dataclass
class Memory:
    """An address space.

    Attributes:
        users: the processes that share it, oldest first; the first is who it is called after.
        smaps: text of /proc/PID/smaps.
        pages: what its page tables hold.
    """

    users: list[Process]
    smaps: bytes = b""
    pages: RawPages = field(default_factory=RawPages)

    @property
    def owner(self) -> Process:
        return self.users[0]


def read(pids: Iterable[int]) -> list[Memory]:
    """The address spaces of processes that stand still, oldest first. Processes that are no more,
    or have no task and no memory left, are not among them."""
    processes = [found for pid in pids if (found := _process(pid))]
    processes.sort(key=lambda each: (each.start, each.pid))
    memories = list(_by_memory(processes))
    for memory in memories:
        task = memory.owner.tids[0]
        memory.smaps = Path(f"/proc/{task}/smaps").read_bytes()
        memory.pages = read_pages(task)
    return memories


def _process(pid: int) -> Process | None:
    try:
        tasks = sorted(
            (int(name) for name in os.listdir(f"/proc/{pid}/task")), key=lambda t: t != pid
        )
        tids = tuple(tid for tid in tasks if _stat(tid)[0] not in "ZX")
        if not tids or not Path(f"/proc/{tids[0]}/maps").read_bytes():
            return None
        # A leader that has exited has no memory any more, but is still who its group descends from.
        ours, leader = _stat(tids[0]), _stat(pid)
        program = os.stat(f"/proc/{tids[0]}/exe")
        status = Path(f"/proc/{tids[0]}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    start_code, start_stack, start_brk = (int(ours[i]) for i in (23, 25, 44))
    return Process(
        pid=pid,
        parent=int(leader[1]),
        start=int(leader[19]),
        tids=tids,
        program=os.readlink(f"/proc/{tids[0]}/exe"),
        start_brk=start_brk,
        image=(program.st_dev, program.st_ino, start_code, start_stack, start_brk),
        randomized=_randomized(tids[0]),
        thp_disabled="\nTHP_enabled:\t0" in status,
        ksm_merge_any=_ksm_merge_any(tids[0]),
    )


def _stat(tid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on, which is the third in proc(5)."""
    text = Path(f"/proc/{tid}/stat").read_text(errors="replace")
    return text.rpartition(")")[2].split()


def _randomized(tid: int) -> bool:
    if Path("/proc/sys/kernel/randomize_va_space").read_text().strip() == "0":
        return False
    return not int(Path(f"/proc/{tid}/personality").read_text(), 16) & _ADDR_NO_RANDOMIZE


def _ksm_merge_any(tid: int) -> bool:
    try:  # since Linux 6.13
        return "ksm_merge_any: yes" in Path(f"/proc/{tid}/ksm_stat").read_text()
    except OSError:
        return False


def _by_memory(processes: list[Process]) -> Iterator[Memory]:
    """Processes that share an address space came from one exec, so only those are compared."""
    by_image: dict[Image, list[Memory]] = {}
    for process in processes:
        alike = by_image.setdefault(process.image, [])
        for memory in alike:
            if _same_memory(memory.owner.tids[0], process.tids[0]):
                memory.users.append(process)
                break
        else:
            alike.append(Memory([process]))
            yield alike[-1]


def _same_memory(one: int, other: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    order = libc.syscall(_SYS_KCMP, one, other, _KCMP_VM, 0, 0)
    if order < 0:
        raise OSError(ctypes.get_errno(), f"kcmp of {one} and {other}")
    return bool(order == 0)
