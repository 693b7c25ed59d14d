# SPDX-License-Identifier: GPL-2.0-only
"""Starting the command that is to be captured: it stands ready, in its cgroup and under the
backend's eyes, and execs when told to."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rmapreplay.traces.errors import CaptureError

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_PTRACER: Final = 0x59616D61
_PR_SET_PTRACER_ANY: Final = ctypes.c_ulong(-1)
_libc: Final = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """For subprocess's preexec_fn: the child gets SIGTERM should we be killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def die_with_parent() -> None:
    """For subprocess's preexec_fn: the child gets SIGKILL should we be killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its exit status.
        signal: the signal that killed it; 0: none.
        cpu: seconds of CPU time that it and all it waited for took.
    """

    status: int
    signal: int
    cpu: float

    def __str__(self) -> str:
        if self.signal:
            return f"was killed by {signal.Signals(self.signal).name}"
        return f"exited with status {self.status}"


class Launcher:
    """A child process that waits to exec a command.

    Attributes:
        pid: its process, before and after the exec.
        ended: how the command ended; None as long as it runs.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Raises CaptureError if there is no such program."""
        if not shutil.which(command[0]):
            raise CaptureError(f"{command[0]}: no such program, or not executable")
        self.command = tuple(command)
        self.ended: Ended | None = None
        self._gate: int | None
        waits, self._gate = os.pipe()
        self._failure, fails = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            _wait_and_exec(self.command, waits, fails)
        os.close(waits)
        os.close(fails)

    def go(self) -> None:
        """Let the command begin. Raises CaptureError if it cannot be executed."""
        assert self._gate is not None
        os.write(self._gate, b"g")
        self._close_gate()
        if failure := os.read(self._failure, 16):  # exec closes the other end
            self._reap(0)
            raise CaptureError(f"{self.command[0]}: {os.strerror(int(failure))}")

    def poll(self) -> Ended | None:
        """How the command ended, if it has."""
        if self.ended is None:
            self._reap(os.WNOHANG)
        return self.ended

    def close(self) -> None:
        """Without go(), the command never begins."""
        self._close_gate()
        os.close(self._failure)
        if self.ended is None:
            with contextlib.suppress(ChildProcessError):
                self._reap(0)

    def _close_gate(self) -> None:
        if self._gate is not None:
            os.close(self._gate)
            self._gate = None

    def _reap(self, options: int) -> None:
        pid, status, usage = os.wait4(self.pid, options)
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        cpu = round(usage.ru_utime + usage.ru_stime, 3)
        self.ended = Ended(max(code, 0), max(-code, 0), cpu)


def _wait_and_exec(command: tuple[str, ...], waits: int, fails: int) -> None:
    """In the child; does not return."""
    # Where Yama lets only ancestors trace a process, strace, our child, must be allowed to.
    _libc.prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
    try:
        if os.read(waits, 1) != b"g":
            os._exit(0)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec inherits
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(fails, str(error.errno).encode())
    finally:
        os._exit(127)
