# SPDX-License-Identifier: GPL-2.0-only
"""Signals that end a capture and not the program."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType


class Interrupts:
    """While in its block, SIGINT, SIGTERM and SIGHUP are counted and wake wait()."""

    def __init__(self) -> None:
        self.count = 0
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Interrupts:
        self._before = {
            number: signal.signal(number, self._note)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        self._wakeup = signal.set_wakeup_fd(self._write)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float) -> None:
        """Until a signal or the time is over."""
        if select.select([self._read], [], [], seconds)[0]:
            os.read(self._read, 4096)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
