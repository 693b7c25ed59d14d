# SPDX-License-Identifier: GPL-2.0-only
"""How errors are told: a line each, on standard error."""

from __future__ import annotations

import sys

from rmapreplay.traces.errors import InvariantError, RmapReplayError


def print_error(error: str | RmapReplayError) -> None:
    kind = "broken invariant: " if isinstance(error, InvariantError) else ""
    print(f"rmapreplay: error: {kind}{' '.join(str(error).split())}", file=sys.stderr)
