# SPDX-License-Identifier: GPL-2.0-only
"""The machine: replays a trace, event by event, under models of the reverse map."""

from typing import Final

DEFAULT_WALKS: Final = "scan:16"
DEFAULT_BATCH_SIZE: Final = 1 << 16
"""Rows."""

BACKENDS: Final = ("native", "frames")
"""What answers the walks: the model itself, or its form as relations (docs/frames.md)."""
DEFAULT_BACKEND: Final = "native"

TABLES: Final = ("walks", "visits", "misses", "operations", "memory")
"""The tables a replay makes."""
