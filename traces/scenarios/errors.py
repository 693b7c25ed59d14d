# SPDX-License-Identifier: GPL-2.0-only
"""What may be wrong with the text of a scenario."""

from __future__ import annotations

from pathlib import Path

from rmapreplay.traces.errors import RmapReplayError


class ScenarioError(RmapReplayError):
    """A scenario cannot be read, or not be written as a program.

    Attributes:
        path: its file, or None for text from memory.
        line: from 1.
        column: from 1.
        reason: what is wrong, without the place.
    """

    def __init__(self, reason: str, *, path: Path | None, line: int, column: int) -> None:
        self.path = path
        self.line = line
        self.column = column
        self.reason = reason
        super().__init__(f"{path or 'scenario'}:{line}:{column}: {reason}")
