# SPDX-License-Identifier: GPL-2.0-only
"""Situations in which a reverse map has to find every mapping, as short stories of calls: those of
the kernel's selftests, those that the mailing list asked about, and what is known to go wrong."""

from __future__ import annotations

from rmapreplay.testing.scenarios import (
    cow,
    holes,
    large,
    merge,
    mremap,
    processes,
    questions,
    rmap,
    swap,
)
from rmapreplay.testing.scenarios.case import KERNELS, Case

__all__ = ["KERNELS", "Case", "conformance_cases"]


def conformance_cases() -> list[Case]:
    """All scenarios, in the order in which they are checked."""
    files = (rmap, cow, merge, mremap, processes, swap, large, questions, holes)
    return [case for file in files for case in file.case.all]
