# SPDX-License-Identifier: GPL-2.0-only
"""The errors that callers may want to catch. Each reads as one line for the user."""

from __future__ import annotations

from pathlib import Path


class RmapReplayError(Exception):
    """Something about the input or the request is wrong; not a bug in this program."""


class TraceFormatError(RmapReplayError):
    """A trace or a capture is not what it should be.

    Attributes:
        path: the file, or None for data that came from memory.
        row: row of the trace (from 0) or line of the capture (from 1), where there is one.
        column: the column, where there is one.
        reason: what is wrong, without the place.
    """

    def __init__(
        self,
        reason: str,
        *,
        path: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.row = row
        self.column = column
        self.reason = reason
        place = [] if path is None else [str(path)]
        if row is not None:
            place.append(f"row {row}")
        if column is not None:
            place.append(f"column {column}")
        super().__init__(f"{', '.join(place)}: {reason}" if place else reason)


class CaptureError(RmapReplayError):
    """A capture cannot be made here, or broke off."""


class ModelError(RmapReplayError):
    """A model cannot be made, or failed during a replay.

    Attributes:
        model: its name.
        event: row of the trace it failed at, where there is one.
    """

    def __init__(self, model: str, reason: str, *, event: int | None = None) -> None:
        self.model = model
        self.event = event
        self.reason = reason
        at = "" if event is None else f", event {event}"
        super().__init__(f"model {model}{at}: {reason}")


class InvariantError(ModelError):
    """What must hold after every event does not: a bug of the model or of the machine, found by
    verification. `reason` names the invariant and the object."""
