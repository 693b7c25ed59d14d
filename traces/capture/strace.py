# SPDX-License-Identifier: GPL-2.0-only
"""Capture by strace: system calls only, no page faults and nothing of what exec maps. For where
there is neither perf nor tracefs, or no root."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.capture.backend import Captured, Progress, Settings, Target
from rmapreplay.traces.capture.launch import die_with_parent
from rmapreplay.traces.capture.requirements import Requirement, program, program_version
from rmapreplay.traces.capture.tree import Traced
from rmapreplay.traces.errors import CaptureError
from rmapreplay.traces.importers.base import TextFile
from rmapreplay.traces.schema import Metadata

_CALLS: Final = (*_native.recorded_syscall_names(), "mmap2")
"""mmap2 is i386's mmap."""

_YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")
_ATTACHED: Final = re.compile(r"^strace: Process (\d+) attached( with \d+ threads)?$")
_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.005


class StraceBackend:
    """See backend.Backend."""

    name = "strace"
    needs_cgroup = False

    def requirements(self, settings: Settings) -> Iterator[Requirement]:
        strace = program("strace", "strace")
        yield strace
        if strace.met:
            yield _ptrace()
        if settings.truth:
            found = "strace sees no faults, so a replay cannot be compared with the kernel"
            yield Requirement("--truth", False, found, "use --backend perf")

    def start(self, target: Target, settings: Settings) -> StraceRecording:
        return StraceRecording(target.pids, settings)

    def describe(self) -> Metadata:
        return {"program": program_version("strace")}


class StraceRecording:
    """See backend.Recording."""

    def __init__(self, pids: tuple[int, ...], settings: Settings) -> None:
        self._text = settings.scratch / "strace.txt"
        self._lines = self._counted = 0
        # What it says must not be lost if the disk is full, nor keep it waiting.
        self._messages = os.memfd_create("strace")
        self._strace = subprocess.Popen(
            [
                *("strace", "--follow-forks", "--decode-fds=path", "--string-limit=0"),
                *("--absolute-timestamps=unix,ns", "--quiet=path-resolution,personality"),
                f"--trace={','.join(f'?{name}' for name in _CALLS)}",
                f"--output={self._text}",
                *(f"--attach={pid}" for pid in pids),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._messages,
            # A Ctrl-C on the terminal is for us and the workload.
            start_new_session=True,
            preexec_fn=die_with_parent,
            env={**os.environ, "LC_ALL": "C"},
        )
        try:
            self._wait_for_attached(set(pids))
        except BaseException:
            self.abandon()
            raise

    def progress(self) -> Progress:
        if self._strace.poll():
            raise self._broke_off()
        self._refuse_problems()
        with self._text.open("rb") as file:
            file.seek(self._counted)
            while chunk := file.read(1 << 20):
                self._lines += chunk.count(b"\n")
                self._counted += len(chunk)
        return Progress(self._lines, 0, self._counted)

    def stop(self) -> Captured:
        # It ends by itself after the last process. Told to let go of others, it may wait for ever
        # for one that is in vfork(); if it dies, the kernel lets go. Each line is in the file at
        # once.
        if self._strace.poll() is None and Traced().populated():
            self._strace.kill()
        else:
            self._end_by_itself()
        try:
            self._refuse_problems()
        finally:
            self.abandon()
        return Captured(TextFile(self._text), raw=((self._text, ".strace.txt"),))

    def abandon(self) -> None:
        if self._strace.poll() is None:
            self._strace.kill()
        self._strace.wait()
        if self._messages >= 0:
            os.close(self._messages)
            self._messages = -1

    def _wait_for_attached(self, pids: set[int]) -> None:
        end = time.monotonic() + _START_SECONDS
        while self._strace.poll() is None:
            found = (_ATTACHED.match(line) for line in self._said())
            if pids <= {int(match[1]) for match in found if match}:
                return
            if time.monotonic() > end:
                raise CaptureError(f"strace did not attach within {_START_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)
        raise self._broke_off()

    def _end_by_itself(self) -> None:
        try:
            status = self._strace.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._strace.kill()
            return
        if status != 0:
            raise self._broke_off()

    def _refuse_problems(self) -> None:
        """It goes on if its file cannot be written."""
        if said := self._problems():
            raise CaptureError(said[-1])

    def _broke_off(self) -> CaptureError:
        said = (self._problems() or ["it said nothing"])[-1]
        return CaptureError(f"strace ended with status {self._strace.returncode}: {said}")

    def _problems(self) -> list[str]:
        return [line for line in self._said() if not _ATTACHED.match(line)]

    def _said(self) -> list[str]:
        size = os.fstat(self._messages).st_size
        text = os.pread(self._messages, size, 0).decode(errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]


def _ptrace() -> Requirement:
    """Whether processes may be traced here."""
    what, remedy = "ptrace", "run as root; in a container, with the capability SYS_PTRACE"
    try:
        scope = int(_YAMA.read_text())
    except (OSError, ValueError):
        scope = 0
    if scope == 3:
        remedy = "boot with another kernel.yama.ptrace_scope than 3"
    tried = subprocess.run(
        ["strace", "--output=/dev/null", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        said = [*tried.stderr.strip().splitlines(), f"ended with status {tried.returncode}"][0]
        return Requirement(what, False, said, remedy)
    return Requirement(what, True, "allowed")
