# SPDX-License-Identifier: GPL-2.0-only
"""A private instance of tracefs: a ring buffer, events and filters of our own."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rmapreplay.traces.capture.requirements import tracefs
from rmapreplay.traces.errors import CaptureError

_NAME: Final = "rmapreplay-"
_LOST: Final = re.compile(r"^(?:overrun|commit overrun|dropped events): (\d+)$", re.MULTILINE)
_SEEN: Final = re.compile(r"^(?:entries|read events): (\d+)$", re.MULTILINE)
_OPTIONS: Final = {
    # A full buffer keeps what it has: then what is lost is counted in one place.
    "overwrite": "0",
    # Filters by process take in the children to come.
    "event-fork": "1",
    # A new instance takes these over from the machine's.
    "context-info": "1",
    "irq-info": "1",
    "record-cmd": "1",
    **dict.fromkeys(("bin", "block", "fields", "hex", "latency-format", "raw", "record-tgid"), "0"),
    **dict.fromkeys(("stacktrace", "userstacktrace", "verbose"), "0"),
}


class Instance:
    """An instance, until remove(); nothing is recorded before on()."""

    def __init__(self, clock: str, buffer_mb: int) -> None:
        """`clock` is one of the file trace_clock, `buffer_mb` is for each CPU. Raises CaptureError
        if there can be none."""
        place = tracefs()
        if not place:
            raise CaptureError("there is no tracefs")
        remove_stale_instances(place)
        self.path = place / "instances" / f"{_NAME}{os.getpid()}-{os.urandom(4).hex()}"
        try:
            self.path.mkdir()
        except OSError as error:
            raise CaptureError(f"{self.path}: cannot be made: {error.strerror}") from error
        try:
            self.write("tracing_on", "0")
            self.write("trace_clock", clock)
            for option, value in _OPTIONS.items():
                if self.path.joinpath("options", option).exists():
                    self.write(f"options/{option}", value)
            self.write("buffer_size_kb", str(buffer_mb << 10))
        except BaseException:
            self.remove()
            raise

    def write(self, name: str, text: str) -> None:
        """To a file of the instance. Raises CaptureError if the kernel does not take it."""
        try:
            self.path.joinpath(name).write_text(text)
        except OSError as error:
            reason = f"cannot write '{text}': {error.strerror}"
            raise CaptureError(f"{self.path / name}: {reason}") from error

    def has(self, event: str) -> bool:
        """Whether there is such an event, GROUP/NAME."""
        return self.path.joinpath("events", event).is_dir()

    def enable(self, event: str, condition: str = "") -> None:
        """Record an event, GROUP/NAME or all of a GROUP; if `condition`, only where that holds."""
        if condition:
            self.write(f"events/{event}/filter", condition)
        self.write(f"events/{event}/enable", "1")

    def follow(self, pids: Iterable[int]) -> None:
        """Record only what these processes do, and their children."""
        self.write("set_event_pid", " ".join(str(tid) for pid in pids for tid in _tasks(pid)))

    def leave_out(self, pid: int) -> None:
        """Do not record what this process does."""
        if self.path.joinpath("set_event_notrace_pid").exists():
            tasks = " ".join(str(tid) for tid in _tasks(pid))
            self.write("set_event_notrace_pid", tasks)

    def mark(self, text: str) -> None:
        """An event tracing_mark_write."""
        self.write("trace_marker", text)

    def on(self) -> None:
        self.write("tracing_on", "1")

    def off(self) -> None:
        self.write("tracing_on", "0")

    def counts(self) -> tuple[int, int]:
        """Events in the buffer and read from it so far; events that found no room."""
        seen = lost = 0
        for file in self.path.glob("per_cpu/cpu*/stats"):
            text = file.read_text()
            seen += sum(map(int, _SEEN.findall(text)))
            lost += sum(map(int, _LOST.findall(text)))
        return seen, lost

    def remove(self) -> None:
        """With all it holds. Its files must be closed."""
        with contextlib.suppress(CaptureError):
            self.off()
        with contextlib.suppress(OSError):
            self.path.rmdir()


def remove_stale_instances(place: Path) -> None:
    """Those of captures that were killed."""
    for path in place.glob(f"instances/{_NAME}*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            with contextlib.suppress(OSError):
                path.joinpath("tracing_on").write_text("0")
                path.rmdir()


def _tasks(pid: int) -> list[int]:
    try:
        return sorted(int(tid) for tid in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return []
