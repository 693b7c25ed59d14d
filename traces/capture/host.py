# SPDX-License-Identifier: GPL-2.0-only
"""What of the machine's settings decides how its memory behaves."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

from rmapreplay.traces.schema import Metadata

_THP: Final = Path("/sys/kernel/mm/transparent_hugepage")


def kernel_release() -> str:
    """As `uname -r` has it."""
    return os.uname().release


def thp_enabled() -> str | None:
    """transparent_hugepage/enabled: always, madvise or never; None: this kernel has no THP."""
    return _selected(_THP / "enabled")


def thp_use_zero_page() -> bool:
    """transparent_hugepage/use_zero_page."""
    return _number(_THP / "use_zero_page") != 0


def stack_limit() -> int | None:
    """RLIMIT_STACK of this process, in bytes; None: unlimited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return None if soft == resource.RLIM_INFINITY else soft


def settings() -> Metadata:
    """All else, for the metadata's `capture.host`: what is not there on this kernel is null."""
    vm = Path("/proc/sys/vm")
    return {
        "cpus": os.cpu_count(),
        "machine": os.uname().machine,
        "thp_defrag": _selected(_THP / "defrag"),
        "thp_sizes": {
            size.name.removeprefix("hugepages-"): _selected(size / "enabled")
            for size in sorted(_THP.glob("hugepages-*"))
        },
        "khugepaged_defrag": _number(_THP / "khugepaged/defrag"),
        "overcommit_memory": _number(vm / "overcommit_memory"),
        "max_map_count": _number(vm / "max_map_count"),
        "page_cluster": _number(vm / "page-cluster"),
        "randomize_va_space": _number(Path("/proc/sys/kernel/randomize_va_space")),
        "legacy_va_layout": _number(vm / "legacy_va_layout"),
        "ksm_run": _number(Path("/sys/kernel/mm/ksm/run")),
        "numa_balancing": _number(Path("/proc/sys/kernel/numa_balancing")),
        "swap": len(Path("/proc/swaps").read_text().splitlines()) > 1,
    }


def _selected(path: Path) -> str | None:
    """Of `always [madvise] never`, the word in brackets."""
    try:
        return path.read_text().partition("[")[2].partition("]")[0] or None
    except OSError:
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
