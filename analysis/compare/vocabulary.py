# SPDX-License-Identifier: GPL-2.0-only
"""What comparisons are made of and by. Light: the command line needs it for its help."""

from __future__ import annotations

from typing import Final

COSTS: Final = ("visits", "useless", "steps", "lookups", "locks", "refcounts")
"""What walks cost under any model (docs/metrics.md)."""
DEFAULT_METRIC: Final = "visits"

GROUPS: Final = ("reason", "process", "mapping", "sharers", "depth", "kind", "order")
"""What walks can be grouped by."""
DEFAULT_BY: Final = ("reason", "mapping", "sharers")

REASONS: Final = {
    "visits": ("hits", "useless_empty", "useless_other"),
    "useless": ("useless_empty", "useless_other"),
}
"""What a metric is the sum of."""

FOUND: Final = "found"
"""Beside COSTS, what models can diverge in: the mappings that a walk finds."""
