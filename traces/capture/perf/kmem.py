# SPDX-License-Identifier: GPL-2.0-only
"""What `--truth` adds to a capture: the kernel's own allocations of vm_area_struct, anon_vma and
anon_vma_chain, for importers.kmem.

Allocations are recorded in the cgroup and frees everywhere: an RCU callback, a kworker that drops
an mm_struct or whoever migrates a page may be the one to free. The importer follows objects by
pointer and leaves out what others freed of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from rmapreplay.traces.capture.perf.record import Tracepoint
from rmapreplay.traces.capture.requirements import Requirement, tracefs, tracepoints

_CACHES: Final = ("anon_vma", "anon_vma_chain", "vm_area_struct")
_SLAB: Final = Path("/sys/kernel/slab")
_KALLSYMS: Final = Path("/proc/kallsyms")
_ALLOC: Final = "kmem:kmem_cache_alloc"
_FREE: Final = "kmem:kmem_cache_free"

# What they allocate in vain leaves no trace: clone, fork, vfork, execve, execveat, clone3.
_CALLS: Final = " || ".join(f"id == {number}" for number in (56, 57, 58, 59, 322, 435))


def kmem_events() -> list[Tracepoint]:
    """The tracepoints to record."""
    caches = " || ".join(f'name == "{name}"' for name in cache_names())
    return [
        Tracepoint("raw_syscalls:sys_enter", _CALLS),
        Tracepoint("raw_syscalls:sys_exit", _CALLS),
        Tracepoint("task:task_newtask"),
        Tracepoint(_ALLOC, caches),
        Tracepoint(_FREE, caches, everywhere=True),
    ]


def kmem_requirements() -> Iterator[Requirement]:
    """What it takes to record them."""
    yield tracepoints([_ALLOC, _FREE])
    yield _names_of_caches()
    yield _names_of_functions()


def cache_names(slab: Path = _SLAB) -> list[str]:
    """The names that the caches may go by: those of a size are merged into one, and the kernel
    calls it as the first of them."""
    names = set(_CACHES)
    for cache in _CACHES:
        link = slab / cache
        if link.is_symlink():
            merged = link.readlink()
            names.update(
                other.name
                for other in slab.iterdir()
                if other.is_symlink() and other.readlink() == merged
            )
    return sorted(names)


def _names_of_caches() -> Requirement:
    what, place = "slab cache names", tracefs()
    for event in (_ALLOC, _FREE):
        try:
            text = Path(place or "/", "events", *event.split(":"), "format").read_text()
        except OSError:
            text = ""
        if "char[] name;" not in text:
            remedy = "boot Linux 6.1 or later, or leave out --truth"
            return Requirement(what, False, f"{event} does not tell them", remedy)
    return Requirement(what, True, ", ".join(cache_names()))


def _names_of_functions() -> Requirement:
    what = str(_KALLSYMS)
    try:
        with _KALLSYMS.open() as file:
            hidden = all(int(line.split()[0], 16) == 0 for line in islice(file, 100))
    except (OSError, ValueError):
        hidden = True
    if hidden:
        remedy = "as root: sysctl kernel.kptr_restrict=0, or leave out --truth"
        return Requirement(what, False, "shows no addresses", remedy)
    return Requirement(what, True, "shows addresses")
