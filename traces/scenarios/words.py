# SPDX-License-Identifier: GPL-2.0-only
"""The words of the scenario language, and the kernel's numbers that they stand for."""

from __future__ import annotations

from typing import Final

PAGE: Final = 4096

PROTECTIONS: Final = {
    "none": 0x0,
    "r": 0x1,
    "w": 0x2,
    "rw": 0x3,
    "x": 0x4,
    "rx": 0x5,
    "wx": 0x6,
    "rwx": 0x7,
}
READ_WRITE: Final = 0x3

MAP_SHARED: Final = 0x1
MAP_PRIVATE: Final = 0x2
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_GROWSDOWN: Final = 0x100
MAP_OPTIONS: Final = {
    "fixed": MAP_FIXED,
    "growsdown": MAP_GROWSDOWN,
    "locked": 0x2000,
    "noreserve": 0x4000,
    "populate": 0x8000,
    "stack": 0x20000,
    "hugetlb": 0x40000,
}
"""What `map` may be told beside `shared` and `file`."""

MREMAP_MAYMOVE: Final = 1
MREMAP_FIXED: Final = 2
MREMAP_DONTUNMAP: Final = 4

MLOCK_ONFAULT: Final = 1
LOCK_ALL: Final = {"current": 1, "future": 2, "onfault": 4}

CLONE_VM: Final = 0x100
CLONE_VFORK: Final = 0x4000
CLONE_THREAD: Final = 0x10000

ADVICE: Final = {
    "normal": 0,
    "random": 1,
    "sequential": 2,
    "willneed": 3,
    "dontneed": 4,
    "free": 8,
    "remove": 9,
    "dontfork": 10,
    "dofork": 11,
    "mergeable": 12,
    "unmergeable": 13,
    "hugepage": 14,
    "nohugepage": 15,
    "dontdump": 16,
    "dodump": 17,
    "wipeonfork": 18,
    "keeponfork": 19,
    "cold": 20,
    "pageout": 21,
    "populate_read": 22,
    "populate_write": 23,
    "dontneed_locked": 24,
    "collapse": 25,
    "guard_install": 102,
    "guard_remove": 103,
}
"""madvise(2), by the names of MADV_*."""

POLICIES: Final = {"default": 0, "preferred": 1, "bind": 2, "interleave": 3, "local": 4}
"""mbind(2), by the names of MPOL_*."""

HEAP: Final = 0x555500000000
"""Where the place `heap`, the first break of every process, is."""

FIRST_PLACE: Final = 0x700000000000
PLACE_ROOM: Final = 1 << 30
"""Bytes from one place whose address nobody gave to the next."""
MOST_PLACES: Final = 8192
"""Up to 0x780000000000, so that libraries and stacks stay clear of them."""

THP_MODES: Final = ("always", "madvise", "never")

DIRECTIVES: Final = (
    "kernel", "thp", "stack_limit", "metadata", "place", "at", "for", "end", "walk", "expect",
)  # fmt: skip
"""What a line may begin with instead of a process."""
