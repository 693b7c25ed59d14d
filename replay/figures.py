# SPDX-License-Identifier: GPL-2.0-only
"""What several readers of a summary need to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FORK: Final = ("fork", "dup_mmap")
"""The operations that make up a fork: in some traces its copying has rows of its own."""

_VMA = "vm_area_struct"


def is_rmap(kind: str) -> bool:
    """Whether objects of a kind are the model's own. All models need VMAs."""
    return kind != _VMA


def own_objects(found: Mapping[str, Any]) -> dict[str, int]:
    """Of a model's part of a summary, over its own kinds: `allocated`, and `bytes_peak`, each kind
    at its own peak."""
    own = [counts for kind, counts in found["objects"].items() if is_rmap(kind)]
    return {name: sum(counts[name] for counts in own) for name in ("allocated", "bytes_peak")}


def forks(found: Mapping[str, Any]) -> dict[str, int]:
    """What forks cost a model, of its part of a summary: their `calls`, and sums over them of
    `objects` (its own) made, `links`, `locks` and `refcounts`."""
    sums = dict.fromkeys(("calls", "objects", "links", "locks", "refcounts"), 0)
    for name in FORK:
        if operation := found["operations"].get(name):
            sums["calls"] += operation["calls"] if name == "fork" else 0
            sums["objects"] += sum(n for kind, n in operation["allocated"].items() if is_rmap(kind))
            for cost, n in operation["costs"].items():
                sums[cost] += n
    return sums
