# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for the end of a workload while it is recorded."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Final

from rmapreplay.traces.capture.backend import Captured, Recording
from rmapreplay.traces.capture.interrupts import Interrupts
from rmapreplay.traces.capture.launch import Launcher
from rmapreplay.traces.capture.status import Status
from rmapreplay.traces.capture.tree import Tree
from rmapreplay.traces.schema import Metadata

_POLL_SECONDS: Final = 0.02
_GRACE_SECONDS: Final = 5.0
"""How long an interrupted workload may take to end while it is still recorded."""


class Watch:
    """A recording from its beginning to its end, with the processes it follows; with the command
    that they are, if that is ours, and so may be ended."""

    def __init__(self, recording: Recording, tree: Tree, launcher: Launcher | None = None) -> None:
        self._recording = recording
        self._tree = tree
        self._launcher = launcher
        self._began = time.monotonic()
        self._status = Status()

    def until_end(self, duration: float | None) -> Metadata:
        """Waits; returns `ended`, which is why it ended (`exited`, `duration` or `interrupted`),
        and `seconds`."""
        try:
            with Interrupts() as interrupts:
                ended = self._until_end(duration, interrupts)
        finally:
            self._status.clear()
        return {"ended": ended, "seconds": round(time.monotonic() - self._began, 3)}

    def stop(self) -> Captured:
        """Ends the recording, then what is left of a command of ours."""
        left = self._tree.pids() if self._launcher else []
        captured = self._recording.stop()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return captured

    def _until_end(self, duration: float | None, interrupts: Interrupts) -> str:
        while True:
            interrupts.wait(_POLL_SECONDS)
            self._show(self._note())
            if (not self._launcher or self._launcher.poll()) and not self._tree.populated():
                return "exited"
            if interrupts.count:
                if self._launcher:
                    self._ask_to_end(self._launcher, interrupts)
                return "interrupted"
            if duration is not None and time.monotonic() - self._began >= duration:
                return "duration"

    def _ask_to_end(self, launcher: Launcher, interrupts: Interrupts) -> None:
        self._tree.signal(signal.SIGTERM)
        asked, end = interrupts.count, time.monotonic() + _GRACE_SECONDS
        while self._tree.populated() and time.monotonic() < end and interrupts.count == asked:
            interrupts.wait(_POLL_SECONDS)
            self._show("ending")
            launcher.poll()

    def _note(self) -> str:
        if self._launcher and self._launcher.ended:
            return f"the command {self._launcher.ended}, others go on (Ctrl-C ends them)"
        return ""

    def _show(self, note: str) -> None:
        if self._status.due():
            self._status.show(self._recording.progress(), len(self._tree.pids()), note)
