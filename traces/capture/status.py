# SPDX-License-Identifier: GPL-2.0-only
"""The live line of a capture on a terminal."""

from __future__ import annotations

import sys
import time
from typing import Final

from rmapreplay.traces.capture.backend import Progress

_SECONDS: Final = 0.5
"""Between two lines."""


class Status:
    """One line, written over and over; silent where standard error is no terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._began = self._last = time.monotonic()
        self._events = 0

    def due(self) -> bool:
        """Whether it is time for show(). Also where that would say nothing: to be asked how far it
        has come is when a recording tells that it broke off."""
        return time.monotonic() - self._last >= _SECONDS

    def show(self, progress: Progress, processes: int, note: str = "") -> None:
        """Time, events, their rate, processes, losses."""
        now = time.monotonic()
        text = [f"{now - self._began:.1f} s"]
        if progress.events is not None:
            rate = (progress.events - self._events) / (now - self._last)
            text.append(f"{progress.events:,} events ({rate:,.0f}/s)")
            self._events = progress.events
        elif progress.size is not None:
            text.append(f"{progress.size / 1e6:,.1f} MB")
        text.append(f"{processes} processes")
        text.append("losses unknown" if progress.lost is None else f"{progress.lost} lost")
        self._last = now
        self.say(", ".join([*text, note] if note else text))

    def say(self, text: str) -> None:
        """Anything else, in the same place."""
        if self._on:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self._on:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
