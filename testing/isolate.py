# SPDX-License-Identifier: GPL-2.0-only
"""Runs something in a process of its own, for models that may take the process down with them."""

from __future__ import annotations

import faulthandler
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")


class CrashError(Exception):
    """The process died, or did not come back in time. The text says how, in one line."""


def isolated(action: Callable[[], T], seconds: float) -> T:
    """What `action` returns, which must be picklable, from a fork of this process.

    Raises CrashError if the fork is killed by a signal, exits by itself, or takes longer than that;
    and RuntimeError, with the traceback, if `action` raises.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        faulthandler.disable()  # a crash is an answer
        _answer(action, writing)
    os.close(writing)
    try:
        answer = _read(reading, time.monotonic() + seconds)
    finally:
        os.close(reading)
    if answer is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if answer is None:
        raise CrashError(f"did not return within {seconds:.0f} s")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        raise CrashError(f"killed by {signal.Signals(number).name}")
    if not answer:
        raise CrashError(f"ended the process with exit code {os.waitstatus_to_exitcode(status)}")
    good, value = pickle.loads(answer)
    if not good:
        raise RuntimeError(value)
    return cast("T", value)


def _answer(action: Callable[[], T], writing: int) -> None:
    """In the fork: the result goes into the pipe, and the process ends without any cleaning up."""
    try:
        try:
            answer = pickle.dumps((True, action()))
        except BaseException:
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _read(reading: int, deadline: float) -> bytes | None:
    """All that comes until the other end is closed, or None if that is too late."""
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(reading, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
